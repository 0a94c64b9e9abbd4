"""Open Policy Agent uploads its decision log while Catena dies, comes back, and answers are lost on the way."""

import http.client
import json
import random
import select
import signal
import socket
import threading
from pathlib import Path

from badinput import Served, free_port

from . import fleet
from .stage import Process, ask, binary, count, holds, outcomes, wait

SETTINGS = "[flush]\nage_ms = 1000\n"


class Relay:
    """Passes connections on, and loses answers when it is told to: the server has said yes, and the client never hears it."""

    def __init__(self, target):
        self.target, self.lose, self.lost, self.refused = target, 0, 0, 0
        self.on_loss = lambda: None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            self.refused += 1
            client.close()
            return
        with client, server:
            try:
                while True:
                    for ready in select.select([client, server], [], [])[0]:
                        data = ready.recv(1 << 16)
                        if not data:
                            return
                        if ready is server and self.lose > 0:
                            self.lose -= 1
                            self.on_loss()
                            self.lost += 1
                            return
                        (server if ready is client else client).sendall(data)
            except OSError:
                return

    def close(self):
        self.listener.close()


def question(call):
    parent = {"parent": call.chain[-2]} if len(call.chain) > 1 else {}
    return {
        "user": {"id": call.user},
        "agent": {"id": call.agent, "kind": call.kind, "root": call.chain[0], "chain": call.chain, **parent},
        "session": {"id": call.session},
        "server": {"name": call.server},
        "tool": {"name": call.tool, "action_class": call.action},
        "params": call.params,
        "token": {"claims": call.claims()},
        "context": {"request_id": call.id, "traceparent": call.traceparent, "approved": call.approved},
    }


def run(folder, seed, signer):
    server = binary("opa")
    dice = random.Random(f"opa {seed}")
    policy, calls = fleet.Policy(dice), fleet.calls(dice, 600)
    served = Served(folder, SETTINGS)
    relay, port = Relay(served.port), free_port()
    (folder / "data.json").write_text(json.dumps({"policy": policy.document()}))
    (folder / "opa.json").write_text(json.dumps({
        "services": {"catena": {"url": f"http://127.0.0.1:{relay.port}"}},
        # Small chunks, so that there are many.
        "decision_logs": {"service": "catena", "reporting": {"min_delay_seconds": 1, "max_delay_seconds": 1, "upload_size_limit_bytes": 8192}},
    }))
    rules = Path(__file__).with_name("opa.rego")
    command = [server, "run", "--server", "--disable-telemetry", "--log-level", "error", "--addr", f"127.0.0.1:{port}", "--config-file", str(folder / "opa.json"), str(rules), str(folder / "data.json")]
    wanted, unmapped = {}, 0
    with Process("opa", folder, command, ready=f"http://127.0.0.1:{port}/health") as opa:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

        def put(path, body):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())

        def put_calls(some):
            for call in some:
                answer = put("/v1/data/gate/decision", {"input": question(call)})
                outcome = policy.verdict(call)
                if answer["result"]["effect"] != outcome:
                    raise SystemExit(f"opa: {call.id}: the policy says {answer['result']}, and should say {outcome}")
                reasons = tuple(sorted(policy.refusals(call) or policy.wants(call) or ["granted"]))
                wanted[answer["decision_id"]] = (outcome, call.user, call.agent, call.session, call.server, call.tool, call.id, call.trace, policy.version, reasons)

        received = lambda: json.loads(served.get("/api/v1/status")[1] or b"{}").get("received", 0)
        with served:
            put_calls(calls[:150])
            served.wait(lambda: received() >= 100, "upload")
            # Questions to a rule that is not there are logged without a result.
            for call in calls[:20]:
                put("/v1/data/gate/nothing", {"input": question(call)})
                unmapped += 1
            # The answer to a chunk is lost, twice: it comes again.
            relay.lose = 2
            put_calls(calls[150:300])
            wait(lambda: relay.lost == 2, "lost answers")
            # And once more, and there it dies: what it said yes to stands in its log alone.
            relay.on_loss = lambda: served.process.send_signal(signal.SIGKILL)
            relay.lose = 1
            put_calls(calls[300:400])
            wait(lambda: relay.lost == 3, "lost answer at the end")
            served.process.wait()
        put_calls(calls[400:500])
        wait(lambda: relay.refused >= 2, "attempts while nobody listens")
        with served:
            put_calls(calls[500:])
            opa.stop()
            lake = folder / "lake"
            served.wait(lambda: received() >= len(calls) + unmapped, "last upload")
            served.stop()
    relay.close()
    rows = ask(lake, "SELECT event_id, outcome, requester, agent, session, server_name, tool, request_id, trace_id, policy_version, reasons FROM decisions WHERE tool IS NOT NULL")
    found = [(r.pop("event_id"), *[tuple(sorted(v)) if isinstance(v, list) else v for v in r.values()]) for r in rows]
    holds("opa", [(id, *row) for id, row in wanted.items()], found)
    others = ask(lake, "SELECT outcome, count(*) AS n FROM decisions WHERE tool IS NULL GROUP BY outcome")
    if others != [{"outcome": "unknown", "n": unmapped}]:
        raise SystemExit(f"opa: {others}, and it should be {unmapped} without a result")
    again = count(lake, "SELECT count(*) AS n FROM records WHERE class = 'decision' AND duplicate")
    rejected = count(lake, "SELECT count(*) AS n FROM rejects")
    if not again or rejected:
        raise SystemExit(f"opa: {again} came again, {rejected} rejected; some should have come again, and none be rejected")
    return f"{len(calls)} questions: {outcomes(wanted.values())}; {unmapped} without a result; 3 answers lost, {relay.refused} attempts while it was dead, {again} decisions came again, each shown once"
