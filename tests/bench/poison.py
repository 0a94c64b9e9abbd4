#!/usr/bin/env python3
"""Healthy partitions beside poisoned ones: does the rate at which their records are committed hold?

Usage: poison.py [--healthy RATE] [--poison RATE] [--kind cut|noise|schema] [--seconds N] [--rounds N] [--least SHARE]

A real broker, one topic with four partitions, one `catena serve` with two consumers: partitions 0 and 2 get native events at a rate,
1 and 3 nothing, or only records that cannot be read, at another rate, so that every consumer has both. The two take turns. `cut` are events cut in half,
`noise` is 200 bytes of anything, `schema` are frames of schema numbers that the registry does not know (needs tests/install/producers.sh).
Prints for both the rate of committed healthy records, how far they lag behind their producer, and who used the processors: when
those are full, everything is slow, and the share says little. Exit code 1 below the least share (0.9), or when a record is not accounted for.

CATENA_BIN names the binary, CATENA_PEERS_PY a Python with confluent-kafka.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import ingest  # noqa: E402
from badinput import PEERS, ROOT, Broker, Served, catena  # noqa: E402

HEALTHY, POISONED = (0, 2), (1, 3)
TICK_S = 0.02
WARM_S = 3

# Sends on a schedule; says how many it sent, in what time, and what processor time that took.
PRODUCE = """
import random, sys, time
from confluent_kafka import Producer
brokers, topic, partitions, rate, seconds, kind, source = sys.argv[1:]
partitions, rate, seconds = [int(p) for p in partitions.split(",")], int(rate), float(seconds)
wanted = int(rate * seconds)
with open(source, "rb") as f:
    lines = [line.rstrip() for line, _ in zip(f, range(wanted if kind == "good" else 5000))]
dice = random.Random(1)
if kind == "cut":
    lines = [line[: len(line) // 2] for line in lines]
elif kind == "noise":
    lines = [dice.randbytes(200) for _ in lines]
elif kind == "schema":
    lines = [b"\\0" + (10**6 + n % 3).to_bytes(4, "big") + line[:200] for n, line in enumerate(lines)]
p = Producer({"bootstrap.servers": brokers, "linger.ms": 20, "compression.type": "lz4", "queue.buffering.max.messages": 1000000})
print("ready", flush=True)
sys.stdin.readline()
begun, sent = time.monotonic(), 0
while sent < wanted:
    due = min(wanted, int((time.monotonic() - begun) * rate) + 1)
    while sent < due:
        try:
            p.produce(topic, lines[sent % len(lines)], partition=partitions[sent % len(partitions)])
            sent += 1
        except BufferError:
            p.poll(0.01)
    p.poll(0)
    time.sleep(0.01)
left = p.flush(60)
print(sent - left, time.monotonic() - begun, time.process_time(), flush=True)
"""


def cpu_s(pid):
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine():
    """Processor time that was spent, and that passed, on all cores."""
    fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def gauge(served, name, topic):
    """A figure of each partition."""
    found = re.findall(rf'^{name}{{(.*)}} (\d+)', served.get("/metrics")[1].decode(), re.M)
    of = lambda labels, key: re.search(rf'{key}="([^"]*)"', labels)[1]
    return {int(of(labels, "partition")): int(value) for labels, value in found if of(labels, "topic") == topic}


def positions(served, topic):
    return gauge(served, "catena_position", topic)


class Sender:
    def __init__(self, broker, topic, partitions, rate, seconds, kind, source):
        args = [PEERS, "-c", PRODUCE, broker, topic, ",".join(map(str, partitions)), str(rate), str(seconds), kind, str(source)]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().strip() == "ready"

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def done(self):
        sent, took, cpu = self.process.stdout.readline().split()
        self.process.wait()
        return int(sent), float(took), float(cpu)


def measure(broker, args, source, name, poison, registry):
    """One run: a topic and a lake of its own."""
    folder = Path(tempfile.mkdtemp(dir=ingest.CACHE))
    try:
        broker.create(name, partitions=4)
        extra = f', registry = "{registry}"' if registry else ""
        settings = f'[flush]\nage_ms = 500\n[kafka]\nbrokers = "{broker.address}"\nworkers = 2\ntopics = [{{ name = "{name}", format = "catena"{extra} }}]\n'
        with Served(folder, settings) as served:
            served.wait(lambda: len(gauge(served, "catena_kafka_high_watermark", name)) == 4, "partition")
            senders = [Sender(broker.address, name, HEALTHY, args.healthy, args.seconds, "good", source)]
            if poison:
                senders.append(Sender(broker.address, name, POISONED, poison, args.seconds, args.kind, source))
            pids = {"catena": served.process.pid, "broker": broker.process.pid}
            before, all_before = {k: cpu_s(pid) for k, pid in pids.items()}, machine()
            begun = time.monotonic()
            for sender in senders:
                sender.go()
            samples, lags, last = [], [], -1
            while (now := time.monotonic() - begun) < args.seconds:
                committed = sum(positions(served, name).get(p, 0) for p in HEALTHY)
                if committed != last and now > WARM_S:
                    samples.append((now, committed))
                last = committed
                if now > WARM_S:
                    lags.append(args.healthy * now - committed)
                time.sleep(TICK_S)
            used = {k: (cpu_s(pid) - before[k]) / args.seconds for k, pid in pids.items()}
            busy, passed = (b - a for a, b in zip(all_before, machine()))
            sent = [sender.done() for sender in senders]
            total = sum(s[0] for s in sent)
            served.wait(lambda: sum(positions(served, name).values()) >= total, "record at the end", 600)
            drained = time.monotonic() - begun - args.seconds
            served.stop()
        rows = json.loads(catena("sql", "--lake", folder / "lake", "-o", "json", "SELECT class, count(*) AS n FROM records WHERE class <> 'chain' GROUP BY class ORDER BY class"))
        wanted = [{"class": "decision", "n": sent[0][0]}] + ([{"class": "reject", "n": sent[1][0]}] if poison else [])
        if rows != wanted:
            sys.exit(f"poison: the lake holds {rows}, sent were {wanted}")
        if len(samples) < 3:
            sys.exit(f"poison: only {len(samples)} commits were seen")
        (t0, n0), (t1, n1) = samples[0], samples[-1]
        used["producers"] = sum(s[2] for s in sent) / args.seconds
        return {
            "rate": (n1 - n0) / (t1 - t0), "lag_s": statistics.median(lags) / args.healthy, "lag_max_s": max(lags) / args.healthy,
            "offered": [round(s[0] / s[1]) for s in sent], "drained_s": drained, "used": used, "busy": busy / passed, "cores": os.cpu_count(),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tell(what, run):
    used = ", ".join(f"{k} {v:.2f}" for k, v in run["used"].items())
    offered = " and ".join(f"{n:,}/s" for n in run["offered"])
    print(
        f"{what:<8} offered {offered}: healthy committed {run['rate']:,.0f}/s, lag {run['lag_s']:.1f} s (at most {run['lag_max_s']:.1f}), "
        f"the rest came {run['drained_s']:.1f} s after the end; cores: {used}; machine {run['busy']:.0%} busy",
        flush=True,
    )


def main():
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--healthy", type=int, default=5000)
    parse.add_argument("--poison", type=int, default=20000)
    parse.add_argument("--kind", choices=["cut", "noise", "schema"], default="cut")
    parse.add_argument("--seconds", type=float, default=20)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--least", type=float, default=0.9)
    args = parse.parse_args()
    subprocess.run(["sh", str(ROOT / "tests" / "kafka" / "install.sh")], check=True, stdout=subprocess.DEVNULL)
    source = ingest.events(int(args.healthy * args.seconds))
    runs = {"without": [], "with": []}
    base = Path(tempfile.mkdtemp(dir=ingest.CACHE))
    try:
        with Broker(base / "kafka") as broker:
            if args.kind == "schema":
                from producing.registry import apicurio

                registry, url = apicurio(base)
                with registry:
                    rounds(broker, args, source, runs, url)
            else:
                rounds(broker, args, source, runs, None)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    rate = {what: statistics.median(r["rate"] for r in found) for what, found in runs.items()}
    lag = {what: statistics.median(r["lag_s"] for r in found) for what, found in runs.items()}
    share = rate["with"] / rate["without"]
    print(f"poison: {args.kind} at {args.poison:,}/s, healthy keep {share:.0%} of their rate ({rate['without']:,.0f}/s to {rate['with']:,.0f}/s), lag {lag['without']:.1f} s to {lag['with']:.1f} s (median of {args.rounds})")
    return int(share < args.least)


def rounds(broker, args, source, runs, registry):
    for number in range(args.rounds):
        for what, poison in (("without", 0), ("with", args.poison)):
            run = measure(broker, args, source, f"mixed-{number}-{what}", poison, registry)
            tell(what, run)
            runs[what].append(run)


if __name__ == "__main__":
    sys.exit(main())
