"""Envoy in front of a tool server: JWT, MCP, RBAC and ext_authz decide, and its access log comes three ways at once.

A file that Catena follows, OTLP over gRPC, and OTLP over HTTP; each for a tenant of its own, and each holds all that happened.
"""

import base64
import hashlib
import http.client
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from badinput import Served, free_port

from . import fleet
from .stage import HOME, Process, Signer, ask, count, holds, outcomes, wait

CALLS = 240
TENANTS = ("file", "grpc", "http")
# Those of ingest/decode/mappings/README.md.
KEYS = {
    "start_time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "authority": "%REQ(:AUTHORITY)%",
    "response_code": "%RESPONSE_CODE%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "response_flags": "%RESPONSE_FLAGS%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "user_agent": "%REQ(USER-AGENT)%",
    "downstream": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "mcp_session_id": "%REQ(MCP-SESSION-ID)%",
    "mcp_protocol_version": "%REQ(MCP-PROTOCOL-VERSION)%",
    "mcp": "%DYNAMIC_METADATA(envoy.filters.http.mcp)%",
    "jwt": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn)%",
    "rbac": "%DYNAMIC_METADATA(envoy.filters.http.rbac)%",
    "ext_authz": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%",
    "authz_effect": "%RESP(X-AUTHZ-EFFECT)%",
    "authz_decision_id": "%RESP(X-AUTHZ-DECISION-ID)%",
}


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: else each answer waits for the other side's acknowledgement.
    wbufsize = -1

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def authorizer(policy, calls):
    """The service that Envoy's ext_authz asks: the part of the policy that is about scopes, persons and amounts."""
    by_trace = {call.trace: call for call in calls}

    class Authorizer(Quiet):
        def do_POST(self):
            message = json.loads(self.body() or b"{}")
            if message.get("method") != "tools/call":
                return self.answer(200)
            claims = self.headers["authorization"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            call = by_trace[self.headers["traceparent"].split("-")[1]]
            assert (claims["sub"], message["params"]["name"]) == (call.user, call.tool)
            effect = policy.verdict(call)
            self.answer(200 if effect == "allow" else 403, x_authz_effect=effect, x_authz_decision_id=f"authz-{call.number}")

    return Authorizer


class Tools(Quiet):
    """A tool server: every tool answers the same."""

    def do_POST(self):
        message = json.loads(self.body())
        result = {"tools": []} if message["method"] == "tools/list" else {"content": [{"type": "text", "text": "done"}], "isError": message["id"] % 5 == 0}
        self.answer(200, json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode(), Content_Type="application/json")


class Http:
    """A server on loopback; ends with the block."""

    def __init__(self, handler):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def any_of(*alternatives):
    return {"or_rules": {"rules": list(alternatives)}}


def metadata(filter, path, match):
    return {"sourced_metadata": {"metadata_matcher": {"filter": filter, "path": [{"key": key} for key in path], "value": {"string_match": match}}}}


def rbac(policy):
    """Which kind of agent may use which tool: by what the MCP filter and the token say."""
    mcp, jwt = "envoy.filters.http.mcp", "envoy.filters.http.jwt_authn"
    is_call = metadata(mcp, ["method"], {"exact": "tools/call"})
    rules = {"other": {"permissions": [{"not_rule": is_call}], "principals": [{"any": True}]}}
    for kind, tools in policy.grants.items():
        named = any_of(*[metadata(mcp, ["params", "name"], {"exact": tool}) for tool in tools])
        rules[f"tools-{kind}"] = {
            "permissions": [{"and_rules": {"rules": [is_call, named]}}],
            "principals": [metadata(jwt, ["claims", "kind"], {"exact": kind})],
        }
    return {"rules": {"action": "ALLOW", "policies": rules}}


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}


def cluster(name, port, http2=False):
    address = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    made = {"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": address}]}]}}
    if http2:
        made["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed("upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}})
        }
    return made


def settings(folder, policy, signer, port, admin, catena, keys, authz, tools):
    body = {"kvlist_value": {"values": [{"key": key, "value": {"string_value": value}} for key, value in KEYS.items()]}}
    bearer = lambda tenant: {"key": "authorization", "value": f"Bearer {keys[tenant]}"}
    otlp = "access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig"
    grpc = {"envoy_grpc": {"cluster_name": "catena-grpc"}, "initial_metadata": [bearer("grpc")]}
    http_service = {
        "http_uri": {"uri": f"http://127.0.0.1:{catena}/v1/logs", "cluster": "catena-http", "timeout": "5s"},
        "request_headers_to_add": [{"header": bearer("http")}],
    }
    logs = [
        {"name": "file", "typed_config": typed("access_loggers.file.v3.FileAccessLog", path=str(folder / "access.jsonl"), log_format={"json_format": KEYS})},
        {"name": "grpc", "typed_config": typed(otlp, log_name="gateway", grpc_service=grpc, body=body)},
        {"name": "http", "typed_config": typed(otlp, log_name="gateway", http_service=http_service, body=body)},
    ]
    provider = {"issuer": fleet.ISSUER, "audiences": [fleet.AUDIENCE], "local_jwks": {"inline_string": signer.keys()}, "payload_in_metadata": "claims", "forward": True}
    ask_authorizer = {
        "server_uri": {"uri": f"127.0.0.1:{authz}", "cluster": "authz", "timeout": "5s"},
        "authorization_request": {"allowed_headers": {"patterns": [{"exact": "authorization"}, {"exact": "traceparent"}]}},
        "authorization_response": {way: {"patterns": [{"prefix": "x-authz-"}]} for way in ("allowed_client_headers", "allowed_client_headers_on_success")},
    }
    filters = [
        ("jwt_authn", typed("filters.http.jwt_authn.v3.JwtAuthentication", providers={"login": provider}, rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "login"}}])),
        ("mcp", typed("filters.http.mcp.v3.Mcp", traffic_mode="PASS_THROUGH")),
        ("rbac", typed("filters.http.rbac.v3.RBAC", **rbac(policy))),
        ("ext_authz", typed("filters.http.ext_authz.v3.ExtAuthz", with_request_body={"max_request_bytes": 65536}, http_service=ask_authorizer)),
        ("router", typed("filters.http.router.v3.Router")),
    ]
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway", use_remote_address=True, access_log=logs,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "tools"}}]}]},
        http_filters=[{"name": f"envoy.filters.http.{name}", "typed_config": config} for name, config in filters],
    )
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "node": {"id": "gateway-1", "cluster": "gateways"},
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "gateway", "address": address(port), "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}]}],
            "clusters": [cluster("tools", tools), cluster("authz", authz), cluster("catena-grpc", catena, http2=True), cluster("catena-http", catena)],
        },
    }


def run(folder, seed, signer):
    found = list((HOME / "python" / "lib").glob("python*/site-packages/envoy/_bin/envoy"))
    dice = random.Random(f"envoy {seed}")
    policy, calls = fleet.Policy(dice), fleet.calls(dice, CALLS)
    keys = {tenant: f"{dice.getrandbits(160):040x}" for tenant in TENANTS}
    hashed = [f'{{ sha256 = "{hashlib.sha256(keys[t].encode()).hexdigest()}", tenant = "{t}" }}' for t in TENANTS]
    (folder / "access.jsonl").touch()
    served = Served(folder, f'[flush]\nage_ms = 500\n[http]\nkeys = [{", ".join(hashed)}]\n[files]\nfollow = [{{ path = "{folder}/access.jsonl", format = "envoy", tenant = "file" }}]\n')
    stranger = Signer()
    wanted, by, port, admin = [], {"jwt": 0, "rbac": 0, "ext_authz": 0}, free_port(), free_port()

    def put(connection, call, method, fault):
        claims = {**call.claims(), "kind": call.kind}
        if fault == "audience":
            claims["aud"] = "https://other.corp.example"
        token = (stranger if fault == "key" else signer).token(claims, -600 if fault == "expired" else 3600)
        params = {"name": call.tool, "arguments": call.params} if method == "tools/call" else {}
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method,
            "Authorization": f"Bearer {token}", "traceparent": call.traceparent,
        }
        connection.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", "id": call.number, "method": method, "params": params}), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("x-authz-effect")

    with Http(authorizer(policy, calls)) as authz, Http(Tools) as tools, served:
        (folder / "envoy.json").write_text(json.dumps(settings(folder, policy, signer, port, admin, served.port, keys, authz.port, tools.port)))
        command = [str(found[0]), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
        with Process("envoy", folder, command, ready=f"http://127.0.0.1:{admin}/ready") as envoy:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            for call in calls:
                fault = dice.choice(["audience", "key", "expired"]) if dice.random() < 0.1 else None
                refused_early = fault or call.tool not in policy.grants[call.kind]
                outcome = "deny" if refused_early else policy.verdict(call)
                status, effect = put(connection, call, "tools/call", fault)
                if (status == 200) != (outcome == "allow") or (None if refused_early else outcome) != effect:
                    raise SystemExit(f"envoy: {call.id} ({fault}) was answered {status} {effect}, and should be {outcome}")
                by["jwt" if fault else "rbac" if refused_early else "ext_authz"] += 1
                known = (None, None, None, None) if fault else (call.user, call.agent, call.session, call.tool)
                wanted.append((outcome, *known, call.trace))
            lists = 7
            for call in fleet.calls(dice, lists):
                if put(connection, call, "tools/list", None)[0] != 200:
                    raise SystemExit("envoy: a list was refused")
            connection.close()
            lake = folder / "lake"
            total = lambda tenant: count(lake, "SELECT count(*) AS n FROM records WHERE class <> 'chain'", "--tenant", tenant)
            for tenant in ("grpc", "http"):
                wait(lambda tenant=tenant: total(tenant) >= CALLS + lists, f"record of `{tenant}`")
            # The file's last lines are in a buffer until it ends.
            envoy.stop()
            wait(lambda: total("file") >= CALLS + lists, "line of the file")
            served.stop()
    for tenant in TENANTS:
        rows = ask(lake, "SELECT outcome, requester, agent, session, tool, trace_id FROM decisions", "--tenant", tenant)
        holds(f"envoy ({tenant})", wanted, [tuple(r.values()) for r in rows])
        rest = ask(lake, "SELECT class, count(*) AS n FROM records WHERE class NOT IN ('decision', 'chain') OR duplicate GROUP BY class", "--tenant", tenant)
        if rest != [{"class": "aside", "n": lists}]:
            raise SystemExit(f"envoy ({tenant}): besides decisions {rest}, and it should be {lists} asides")
    return f"{CALLS} calls by file, gRPC and HTTP alike: {outcomes(wanted)}; decided by {', '.join(f'{n} {k}' for k, n in by.items())}; {lists} lists aside"
