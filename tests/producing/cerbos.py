"""Cerbos writes its audit log to Kafka, in JSON and in protobuf, while Catena dies and comes back."""

import http.client
import json
import random
import signal
import subprocess

from badinput import ROOT, Broker, Served, free_port

from . import fleet
from .stage import Process, ask, binary, count, holds, outcomes

ENCODINGS = ("json", "protobuf")
CALLS = 200


def policies(policy):
    """The policy in Cerbos' language: CEL, with what the seed drew as literals."""
    literal = json.dumps
    expressions = {
        "claims": "request.aux_data.jwt",
        "wanted": 'R.attr.server + ":" + R.attr.action_class',
        "refused": f"P.attr.on_behalf_of in {literal(policy.suspended)} || size(P.attr.chain) > {policy.depth_max}"
        f' || !(R.attr.tool in {literal(policy.grants)}[P.attr.kind]) || !(V.wanted in V.claims.scope.split(" "))',
        "unproven": f'R.attr.action_class in {literal(list(fleet.RISKY))} && V.claims.acr != "mfa"',
        "unapproved": f"R.attr.params.amount > {float(policy.amount_max)} && !R.attr.approved",
    }
    call = {
        "name": "call", "actions": ["tools/call"], "effect": "EFFECT_ALLOW", "roles": ["agent"],
        "condition": {"match": {"expr": "!V.refused && !V.unproven && !V.unapproved"}},
        "output": {"when": {"conditionNotMet": 'V.refused ? {"reason": "refused"} : {"step_up": V.unproven ? "mfa" : "approval"}'}},
    }
    listing = {"name": "list", "actions": ["tools/list"], "effect": "EFFECT_ALLOW", "roles": ["agent"]}
    return {"apiVersion": "api.cerbos.dev/v1", "resourcePolicy": {"version": "default", "resource": "mcp_tool", "variables": {"local": expressions}, "rules": [call, listing]}}


def settings(folder, port, encoding, brokers):
    return {
        "server": {"httpListenAddr": f"127.0.0.1:{port}", "grpcListenAddr": f"127.0.0.1:{free_port()}", "playgroundEnabled": False},
        "telemetry": {"disabled": True},
        "storage": {"driver": "disk", "disk": {"directory": str(folder / "policies"), "watchForChanges": False}},
        "auxData": {"jwt": {"keySets": [{"id": "default", "local": {"file": str(folder / "keys.json")}}]}},
        "audit": {
            "enabled": True, "accessLogsEnabled": True, "decisionLogsEnabled": True, "backend": "kafka",
            "includeMetadataKeys": ["traceparent", "grpcgateway-traceparent"], "excludeMetadataKeys": ["authorization"],
            "kafka": {"brokers": [brokers], "topic": f"gate-{encoding}", "encoding": encoding, "ack": "all", "produceSync": True},
        },
    }


def body(calls, token):
    first = calls[0]
    resource = lambda c: {"kind": "mcp_tool", "id": c.tool, "attr": {"server": c.server, "tool": c.tool, "action_class": c.action, "session": c.session, "params": c.params, "approved": c.approved}}
    return {
        "requestId": first.id,
        "principal": {"id": first.agent, "roles": ["agent"], "attr": {"on_behalf_of": first.user, "chain": first.chain, "kind": first.kind, "session": first.session}},
        "resources": [{"resource": resource(c), "actions": c.actions} for c in calls],
        "auxData": {"jwt": {"token": token, "keySetId": "default"}},
    }


def run(folder, seed, signer):
    server = binary("cerbos")
    dice = random.Random(f"cerbos {seed}")
    policy, calls = fleet.Policy(dice), fleet.calls(dice, len(ENCODINGS) * CALLS)
    (folder / "policies").mkdir()
    (folder / "policies" / "tools.json").write_text(json.dumps(policies(policy)))
    (folder / "keys.json").write_text(signer.keys())
    subprocess.run(["sh", str(ROOT / "tests" / "kafka" / "install.sh")], check=True, stdout=subprocess.DEVNULL)
    wanted, entries, refused = [], 0, 0
    with Broker(folder / "kafka") as broker:
        topics = [f'{{ name = "gate-{e}", format = "cerbos" }}' for e in ENCODINGS]
        for encoding in ENCODINGS:
            broker.create(f"gate-{encoding}", partitions=3)
        served = Served(folder, f'[flush]\nage_ms = 500\n[kafka]\nbrokers = "{broker.address}"\ninstance = "one"\ntopics = [{", ".join(topics)}]\n')
        received = lambda: json.loads(served.get("/api/v1/status")[1] or b"{}").get("received", 0)

        def put(connection, encoding, call):
            nonlocal entries, refused
            several = [call] + [call.other(dice) for _ in range(dice.choice([0, 0, 1, 2]))]
            for each in several:
                each.actions = dice.choice([["tools/call"], ["tools/list", "tools/call"]])
            forged = dice.random() < 0.03
            token = signer.token(call.claims())
            if forged:
                head, claims, signature = token.split(".")
                token = ".".join([head, claims, signature[::-1]])
            connection.request("POST", "/api/check/resources", json.dumps(body(several, token)), {"Content-Type": "application/json", "traceparent": call.traceparent})
            answer = connection.getresponse()
            said = json.loads(answer.read())
            entries += 1
            if forged != (answer.status == 400):
                raise SystemExit(f"cerbos: {call.id} was answered {answer.status}: {said}")
            if forged:
                refused += 1
                return
            for each, result in zip(several, said["results"], strict=True):
                for action in each.actions:
                    outcome = "allow" if action == "tools/list" else policy.verdict(each)
                    effect = result["actions"][action]
                    if effect != ("EFFECT_ALLOW" if outcome == "allow" else "EFFECT_DENY"):
                        raise SystemExit(f"cerbos: {call.id}: the policy says {effect} of {each.tool} {action}, and should say {outcome}")
                    wanted.append((outcome, each.user, each.agent, each.session, each.server, each.tool, action, call.id, said["cerbosCallId"], call.trace, f"gate-{encoding}"))

        def drive(encoding, some, middle):
            port = free_port()
            (folder / f"{encoding}.json").write_text(json.dumps(settings(folder, port, encoding, broker.address)))
            command = [server, "server", f"--config={folder / encoding}.json", "--log-level=warn"]
            with Process("cerbos", folder, command, ready=f"http://127.0.0.1:{port}/_cerbos/health") as cerbos:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                for number, call in enumerate(some):
                    if number == len(some) // 2:
                        middle()
                    put(connection, encoding, call)
                connection.close()
                cerbos.stop()

        def die():
            served.wait(lambda: received() > len(wanted) // 2, "decision of the first half")
            served.process.send_signal(signal.SIGKILL)
            served.process.wait()

        with served:
            drive("json", calls[:CALLS], die)
        with served:
            drive("protobuf", calls[CALLS:], lambda: None)
            served.wait(lambda: received() >= len(wanted) + entries, "last entry")
            served.stop()
    lake = folder / "lake"
    rows = ask(lake, "SELECT outcome, requester, agent, session, server_name, tool, action, request_id, source_record, trace_id, topic FROM decisions")
    holds("cerbos", wanted, [tuple(r.values()) for r in rows])
    accesses, rejected = count(lake, "SELECT count(*) AS n FROM asides WHERE reason = 'access_entry'"), count(lake, "SELECT count(*) AS n FROM rejects")
    twice = count(lake, "SELECT count(*) AS n FROM records WHERE duplicate")
    if (accesses, rejected, twice) != (entries, 0, 0):
        raise SystemExit(f"cerbos: {accesses} access entries of {entries}, {rejected} rejected, {twice} twice")
    return f"{entries} calls, half of them in protobuf: {outcomes(wanted)}; {refused} refused for their token, {accesses} access entries, one kill"
