#!/usr/bin/env python3
"""Chains of a whole lake against DuckDB's recursive CTE over `parent_decision` alone: the same Parquet files, the same run.

Usage: chains.py [--millions 1,3,10] [--rounds N] [--most RATIO] [--follow SECONDS] [--moving SECONDS]

Ours does all tiers of evidence, sessions, attempts and paths, and answers `SELECT count(*), sum(events), max(depth) FROM chains` as a whole
process; DuckDB follows one column, and only its query is timed. They take turns, best of N rounds counts. What does not fit into the
memory that chains have by default is also rebuilt part by part. Then a service
that has the chains in memory is asked for the chain of one event, over HTTP: p50 and p99 of 500. With --follow, a service follows the
lake while 10,000 events a second arrive: processor time per event, and how long after its commit a decision stands in a
published chain. With --moving, a service is asked for chains while they arrive: of a call of its history, and of one that it
has just taken, until it stands in its chain. Exit code 1 when a ratio is beyond --most (4).

CATENA_BIN names the binary (a release build), CATENA_PEERS_PY a Python that has the package duckdb. A lake of a million events
takes about 80 MB and is kept in .cache/bench.
"""

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ingest import CACHE, SEED, THREADS, Run

GEN = Path(__file__).with_name("gen.py")
MILLION = 1_000_000
PORT = 7979
RATE = 10_000
# What chains may take unless it is set, what an event takes, and room for all that is tried here.
MEMORY = 4 << 30
EVENT_BYTES = 600
ROOMY = {"CATENA_QUERY__CHAINS_BYTES": str(16 << 30)}

DUCKDB = """
import duckdb, json, sys, time
threads, rounds, *files = sys.argv[1:]
db = duckdb.connect()
db.execute(f"SET threads = {threads}")
db.execute("SET enable_progress_bar = false")
query = '''
WITH RECURSIVE e AS (SELECT event_id, parent_decision FROM read_parquet($files)),
t AS (
    SELECT event_id, event_id AS root, 1 AS depth FROM e
    WHERE parent_decision IS NULL OR parent_decision NOT IN (SELECT event_id FROM e)
    UNION ALL
    SELECT e.event_id, t.root, t.depth + 1 FROM t JOIN e ON e.parent_decision = t.event_id
)
SELECT count(*), count(DISTINCT root), max(depth) FROM t
'''
begun = time.monotonic()
rows = db.execute(query, {"files": files}).fetchall()
print(json.dumps([time.monotonic() - begun, rows[0]]))
"""


def lake(binary, millions):
    """A lake of so many million events, made once and kept: each million of its own seed, an hour after the one before."""
    path = CACHE / f"chains-{millions}m"
    if not (path / "done").exists():
        print(f"making a lake of {millions} million events ...", file=sys.stderr)
        for part in range(millions):
            with tempfile.NamedTemporaryFile(dir=CACHE, suffix=".ndjson") as f:
                subprocess.run([sys.executable, GEN, str(MILLION), str(SEED + part)], stdout=f, check=True)
                subprocess.run([binary, "ingest", "--lake", path, "--format", "catena", f.name], stdout=subprocess.DEVNULL, check=True)
        (path / "done").touch()
    files = [str(p) for p in (path / "records").rglob("*.parquet") if "class=decision" in str(p)]
    for file in files:  # both find it in the page cache
        Path(file).read_bytes()
    return path, files


def rebuild(binary, python, millions, rounds):
    path, files = lake(binary, millions)
    query = "SELECT count(*) AS chains, sum(events) AS events, max(depth) AS depth FROM chains"
    ours, theirs, memory, cpu = [], [], 0, []
    for _ in range(rounds):
        run = Run([binary, "sql", "--lake", path, "--json", query], **ROOMY)
        ours.append(run.wall_s)
        cpu.append(run.cpu_s)
        memory = max(memory, run.memory_mb)
        found = json.loads(run.out)[0]
        if found["events"] != millions * MILLION:
            sys.exit(f"{found} of {millions} million events")
        took, peer = json.loads(Run([python, "-c", DUCKDB, str(THREADS), "1", *files]).out)
        theirs.append(took)
    ratio = min(ours) / min(theirs)
    print(
        f"chains: {millions} million events: {min(ours):.2f} s and {min(cpu):.2f} CPU-s (all tiers, {found['chains']} chains), "
        f"DuckDB {min(theirs):.2f} s (parents alone, {peer[1]} trees); ratio {ratio:.2f}; {memory:.0f} MB"
    )
    if millions * MILLION * EVENT_BYTES > MEMORY:
        parts = Run([binary, "sql", "--lake", path, "--json", query])
        if json.loads(parts.out)[0] != found:
            sys.exit(f"{parts.out} part by part, {found} at once")
        print(
            f"chains: {millions} million events part by part, with {MEMORY >> 20} MB for chains: {parts.wall_s:.2f} s and {parts.cpu_s:.2f} CPU-s, "
            f"{parts.memory_mb:.0f} MB"
        )
    return ratio


class Service:
    def __init__(self, binary, path, role, **settings):
        self.process = subprocess.Popen(
            [binary, "serve", "--role", role, "--lake", path, "--listen", f"127.0.0.1:{PORT}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **ROOMY, "CATENA_QUERY__SECONDS_MAX": "600", **settings},
        )
        deadline = time.monotonic() + 60
        while self.get("/api/v1/status" if "answer" in role else "/readyz") is None:
            if time.monotonic() > deadline:
                sys.exit("the service does not answer")
            time.sleep(0.1)

    def get(self, target):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=600)
            connection.request("GET", target)
            answer = connection.getresponse()
            return answer.read()
        except OSError:
            return None

    def cpu_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def lookups(binary, python, millions):
    path, files = lake(binary, millions)
    sample = f"SELECT event_id FROM read_parquet({files}) USING SAMPLE 500 ROWS (reservoir, 7)"
    ids = json.loads(Run([python, "-c", f"import duckdb, json; print(json.dumps([r[0] for r in duckdb.sql({sample!r}).fetchall()]))"]).out)
    service = Service(binary, path, "answer")
    try:
        service.get(f"/api/v1/chains/{ids[0]}")
        took = []
        for event in ids:
            begun = time.monotonic()
            if b"chain_id" not in service.get(f"/api/v1/chains/{event}"):
                sys.exit(f"no chain of {event}")
            took.append(time.monotonic() - begun)
        p50, p99 = (of * 1000 for of in percentiles(took))
        print(f"chains: the chain of one event of {millions} million: p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(took)}; {service.memory_mb():.0f} MB")
    finally:
        service.stop()


def versions(path):
    """When each version of the lake was committed, in seconds; of revisions, which version they reflect."""
    found = {}
    for entry in (path / "records" / "_delta_log").glob("*.json"):
        if not entry.stem.isdigit():
            continue
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        at = next((a["commitInfo"]["timestamp"] / 1000 for a in actions if "commitInfo" in a), None)
        chains = [a["txn"]["version"] - 1 for a in actions if "txn" in a and a["txn"]["appId"].startswith("chains/")]
        decisions = any("class=decision" in a["add"]["path"] for a in actions if "add" in a)
        found[int(entry.stem)] = (at, chains[0] if chains else None, decisions)
    return found


class Lake:
    """A copy of a lake of history, to be added to."""

    def __init__(self, binary, millions):
        self.source = lake(binary, millions)[0] if millions else None

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(dir=CACHE)
        path = Path(self.folder.name) / "lake"
        if self.source:
            shutil.copytree(self.source, path)
        return path

    def __exit__(self, *_):
        self.folder.cleanup()


def made(events):
    """So many new events, a line each."""
    return subprocess.run([sys.executable, GEN, str(events), str(SEED + 1000)], stdout=subprocess.PIPE, check=True).stdout.splitlines()


def send(lines, seconds, then=lambda lines: None):
    """Sends events for so long, ten times a second; how many a second they were."""
    begun = time.monotonic()
    for tenth in range(seconds * 10):
        some = lines[tenth * (RATE // 10) : (tenth + 1) * (RATE // 10)]
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        connection.request("POST", "/ingest/v1/events", body=b"\n".join(some))
        if connection.getresponse().status != 200:
            sys.exit("events were not taken")
        then(some)
        pause = begun + (tenth + 1) / 10 - time.monotonic()
        if pause > 0:
            time.sleep(pause)
    return RATE * seconds / (time.monotonic() - begun)


def percentiles(all):
    all = sorted(all)
    return [all[min(int(len(all) * q), len(all) - 1)] for q in (0.5, 0.99)]


def follow(binary, millions, seconds):
    """Follows a lake of history while events arrive."""
    with Lake(binary, millions) as path:
        service = Service(binary, path, "collect,watch")
        try:
            last = None
            while True:  # until the history stands
                time.sleep(2)
                now = service.cpu_s()
                if last is not None and now - last < 0.1:
                    break
                last = now
            began, before = len(versions(path)), service.cpu_s()
            rate = send(made(RATE * seconds), seconds)
            time.sleep(6)
            used = service.cpu_s() - before
            log = versions(path)
            lags = []
            for version, (at, _, decisions) in log.items():
                if decisions and version >= began:
                    said = [t for t, reflects, _ in log.values() if reflects is not None and reflects >= version]
                    lags.append(min(said) - at if said else float("inf"))
            p50, p99 = percentiles(lags)
            print(
                f"chains: followed at {rate:.0f} events/s after {millions} million: {used / (RATE * seconds) * 1e6:.1f} CPU-us an event "
                f"(received, committed, followed, published); committed to published p50 {p50:.2f} s, p99 {p99:.2f} s of {len(lags)} commits; {service.memory_mb():.0f} MB"
            )
        finally:
            service.stop()


def moving(binary, millions, seconds):
    """Asks for chains of a lake of history while events arrive: of any call, and of calls that were just taken."""
    with Lake(binary, millions) as path:
        # Visible is what was committed: often, so that little of what is measured is waiting for that.
        service = Service(binary, path, "collect,answer", CATENA_FLUSH__AGE_MS="200")
        try:
            lines = made(RATE * seconds)
            history = json.loads(Run([binary, "sql", "--lake", path, "--json", "SELECT event_id FROM decisions LIMIT 1"]).out)[0]["event_id"]
            service.get(f"/api/v1/chains/{history}")
            looked, came, sent, ended = [], [], [], threading.Event()

            def ask():
                while not ended.is_set():
                    begun = time.monotonic()
                    service.get(f"/api/v1/chains/{history}")
                    looked.append(time.monotonic() - begun)
                    if sent:
                        at, event = sent[-1]
                        while b"chain_id" not in service.get(f"/api/v1/chains/{event}"):
                            time.sleep(0.02)
                        came.append(time.monotonic() - at)

            asking = threading.Thread(target=ask)
            asking.start()
            rate = send(lines, seconds, lambda some: sent.append((time.monotonic(), json.loads(some[-1])["id"])))
            ended.set()
            asking.join()
            (look50, look99), (came50, came99) = percentiles(looked), percentiles(came)
            print(
                f"chains: asked at {rate:.0f} events/s after {millions} million: the chain of one event p50 {look50 * 1000:.0f} ms, p99 {look99 * 1000:.0f} ms, once {max(looked):.2f} s, of {len(looked)}; "
                f"taken (and flushed every 0.2 s) to found in its chain p50 {came50:.2f} s, p99 {came99:.2f} s, once {max(came):.2f} s, of {len(came)}; {service.memory_mb():.0f} MB"
            )
        finally:
            service.stop()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--millions", default="1")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--most", type=float, default=4.0)
    arguments.add_argument("--follow", type=int, default=0, metavar="SECONDS")
    arguments.add_argument("--moving", type=int, default=0, metavar="SECONDS")
    asked = arguments.parse_args()
    binary, python = os.environ["CATENA_BIN"], os.environ["CATENA_PEERS_PY"]
    sizes = [int(m) for m in asked.millions.split(",")]
    ratios = [rebuild(binary, python, millions, asked.rounds) for millions in sizes]
    lookups(binary, python, sizes[-1])
    if asked.follow:
        for millions in [0, *sizes]:
            follow(binary, millions, asked.follow)
    if asked.moving:
        for millions in sizes:
            moving(binary, millions, asked.moving)
    if max(ratios, default=0) > asked.most:
        sys.exit(f"chains: ratio {max(ratios):.2f} is beyond {asked.most}")


if __name__ == "__main__":
    main()
