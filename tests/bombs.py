#!/usr/bin/env python3
"""Statements that would take a service down, against one that takes records in all the while.

Usage: bombs.py [FILE]     CATENA_BIN names the binary; FILE holds statements in the form of query/engine/tests/all/bombs.txt

A service with two tenants runs with an address space of its own limit. One tenant sends events all the time; the other
runs the statements, two at a time; after each, the first asks a plain question. At the end: the service is alive, every
event that was acknowledged is there once, no statement was called a fault of the service, the plain questions were
answered, and the process never had more than 6 GiB in memory. Exit code 0 when everything holds.
"""

import hashlib
import http.client
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BIN = os.environ.get("CATENA_BIN", str(TARGET / "debug" / "catena"))
STATEMENTS = ROOT / "query" / "engine" / "tests" / "all" / "bombs.txt"
# Taken out, because the product refuses settings that it does not know.
RATE = int(os.environ.pop("CATENA_BOMBS_RATE", "1000"))
SECONDS = int(os.environ.pop("CATENA_BOMBS_SECONDS", "5"))
GIB = 1 << 30
MEMORY = 6 * GIB
KEYS = {"acme": "acme-key-0123456789abcdef", "beta": "beta-key-0123456789abcdef"}


def expand(line):
    """Writes out `⟦40×text⟧`."""

    def written(match):
        times, text = match.group(1).split("×", 1)
        return "".join(text.replace("§-", str(i - 1)).replace("§", str(i)) for i in range(1, int(times) + 1))

    return re.sub(r"⟦([^⟧]*)⟧", written, line)


def statements(path):
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [expand(line) for line in lines if line and not line.startswith("#")]


class Service:
    """A `catena serve` with an address space that is not unlimited."""

    def __init__(self, folder):
        keys = ", ".join(
            f'{{ sha256 = "{hashlib.sha256(key.encode()).hexdigest()}", tenant = "{tenant}" }}' for tenant, key in KEYS.items()
        )
        config = Path(folder) / "catena.toml"
        config.write_text(
            f'lake = "{folder}/lake"\nlisten = "127.0.0.1:0"\n[http]\nkeys = [{keys}]\n'
            f"[query]\nseconds_max = {SECONDS}\nmemory_bytes = {256 << 20}\nchains_bytes = {256 << 20}\n",
            encoding="utf-8",
        )

        def limited():
            resource.setrlimit(resource.RLIMIT_AS, (16 * GIB, 16 * GIB))

        self.log = open(Path(folder) / "service.log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [BIN, "serve", "--config", str(config)], stderr=self.log, stdout=subprocess.DEVNULL, preexec_fn=limited
        )
        self.port = self.address()

    def address(self):
        for _ in range(600):
            match = re.search(r"on http://127\.0\.0\.1:(\d+)", self.said())
            if match:
                return int(match.group(1))
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the service did not start: {self.said()[-2000:]}")

    def said(self):
        return Path(self.log.name).read_text(encoding="utf-8", errors="replace")

    def peak(self):
        """Most bytes that the process ever had in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) << 10

    def call(self, method, path, tenant, body=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {KEYS[tenant]}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def sql(self, tenant, query):
        began = time.monotonic()
        status, body = self.call("POST", "/api/v1/sql", tenant, json.dumps({"query": query}))
        return status, body, time.monotonic() - began


class Sender(threading.Thread):
    """Sends events of one tenant at a rate, until told to stop."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.service, self.sent, self.slowest, self.refused, self.go = service, 0, 0.0, 0, True

    def run(self):
        number = 0
        batch = max(RATE // 10, 1)
        while self.go:
            began = time.monotonic()
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            lines = "".join(
                json.dumps(
                    {
                        "id": f"e{number + i}",
                        "time": now,
                        "decision": {"verdict": "allow"},
                        "requester": {"id": f"user{i % 50}"},
                        "session": {"id": f"s{(number + i) // 20}"},
                        "tool": {"name": f"tool{i % 30}"},
                    }
                )
                + "\n"
                for i in range(batch)
            )
            status, _ = self.service.call("POST", "/ingest/v1/events", "acme", lines)
            if status == 200:
                self.sent += batch
                number += batch
            else:
                self.refused += 1
            took = time.monotonic() - began
            self.slowest = max(self.slowest, took)
            time.sleep(max(0.0, 0.1 - took))


def main():
    todo = statements(sys.argv[1] if len(sys.argv) > 1 else STATEMENTS)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(folder)
        try:
            return attack(service, todo)
        finally:
            service.process.kill()
            service.process.wait()


def attack(service, todo):
    lines = "".join(
        json.dumps({"id": f"b{i}", "time": "2026-01-01T00:00:00Z", "decision": {"verdict": "allow"}, "tool": {"name": f"tool{i}"}}) + "\n"
        for i in range(3000)
    )
    status, body = service.call("POST", "/ingest/v1/events", "beta", lines)
    assert status == 200, body
    sender = Sender(service)
    sender.start()
    time.sleep(3)
    outcomes, wrong, slowest, plain, again = {}, [], 0.0, 0.0, 0

    def one(statement):
        shown = statement[:90]
        try:
            status, body, took = service.sql("beta", statement)
        except OSError as e:
            return shown, f"no answer: {e}", 0.0
        code = json.loads(body).get("code") if status >= 400 else "rows"
        if status >= 500:
            return shown, f"{status} {body[:200]!r}", took
        if took > SECONDS + 6:
            return shown, f"took {took:.1f} s", took
        return shown, code, took

    with ThreadPoolExecutor(2) as two:
        for i in range(0, len(todo), 2):
            for shown, outcome, took in two.map(one, todo[i : i + 2]):
                slowest = max(slowest, took)
                known = " " not in outcome
                outcomes[outcome if known else "wrong"] = outcomes.get(outcome if known else "wrong", 0) + 1
                if not known:
                    wrong.append(f"{shown}: {outcome}")
            if service.process.poll() is not None:
                print(f"bombs: the service ended with {service.process.returncode} at {todo[i:i + 2]}", [t[:200] for t in todo[i : i + 2]])
                print(service.said()[-2000:])
                return 1
            # A statement that holds its threads longer than its limit takes down with it what ran on them: they are given up,
            # and the next query has new ones. That one must be answered.
            status, body, took = service.sql("acme", "SELECT count(*) AS n FROM decisions")
            if status != 200:
                again += 1
                status, body, took = service.sql("acme", "SELECT count(*) AS n FROM decisions")
            plain = max(plain, took)
            if status != 200:
                wrong.append(f"the other tenant after {todo[i][:90]}: {status} {body[:200]!r}")
            if i % 20 == 0:
                print(f"{i + 2} of {len(todo)} statements, {service.peak() >> 20} MiB at most", flush=True)
    sender.go = False
    sender.join()
    deadline = time.monotonic() + 60
    found = None
    while time.monotonic() < deadline and found != sender.sent:
        status, body, _ = service.sql("acme", "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM decisions")
        row = json.loads(body)["data"][0] if status == 200 else {}
        found = row.get("n") if row.get("n") == row.get("ids") else None
        time.sleep(0.5)
    if found != sender.sent:
        wrong.append(f"{sender.sent} events were acknowledged, {found} are there")
    if service.peak() > MEMORY:
        wrong.append(f"the process had {service.peak() >> 20} MiB in memory")
    for line in wrong:
        print(f"wrong: {line}")
    for line in service.said().splitlines():
        if "panic" in line or "ERROR" in line or "WARN" in line:
            print(f"log: {line[:400]}")
    print(
        f"bombs: {len(todo)} statements, slowest {slowest:.1f} s, {json.dumps(outcomes, sort_keys=True)}; {sender.sent} events acknowledged "
        f"and there, slowest body {sender.slowest:.2f} s, {sender.refused} refused; the other tenant waited {plain:.2f} s at most, "
        f"{again} times had to ask again; "
        f"{service.peak() >> 20} MiB at most; {len(wrong)} wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
