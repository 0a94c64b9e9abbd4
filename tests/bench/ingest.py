#!/usr/bin/env python3
"""File to committed lake against DuckDB's NDJSON to zstd Parquet: the same events, the same run, two threads each.

Usage: ingest.py [EVENTS] [--rounds N] [--least RATIO]

The two take turns, best of N rounds counts. Catena decodes, redacts, validates, hashes a leaf for every event, and has
its files and its commit on disk (fsync) before it ends; DuckDB reads JSON and writes one Parquet file. Prints the ratio
of the rates, stored bytes per event, CPU-seconds per million events and what limits it. Exit code 1 below the least
ratio (0.8) or beyond 1.1 of DuckDB's bytes.

CATENA_BIN names the binary (a release build), CATENA_PEERS_PY a Python that has the package duckdb.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "bench"
THREADS = 2
SEED = 7
BYTES_RATIO_MAX = 1.1

DUCKDB = """
import duckdb, sys
source, target, threads = sys.argv[1:]
db = duckdb.connect()
db.execute(f"SET threads = {threads}")
db.execute(f"COPY (SELECT * FROM read_json('{source}', format = 'newline_delimited')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
"""


class Run:
    """One child process: its wall time, its CPU time and its memory, as the kernel counts them."""

    def __init__(self, command, **settings):
        begun = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **settings})
        self.out = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.wall_s = time.monotonic() - begun
        self.user_s, self.system_s = used.ru_utime, used.ru_stime
        self.cpu_s = self.user_s + self.system_s
        self.memory_mb = used.ru_maxrss / 1024
        if child.returncode:
            sys.exit(f"`{' '.join(map(str, command))}` ended with {child.returncode}")


def events(count):
    """The events, made once and kept."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"events-{count}-{SEED}.ndjson"
    if not path.exists():
        print(f"making {count} events ...", file=sys.stderr)
        part = path.with_suffix(".part")
        with open(part, "wb") as f:
            subprocess.run([sys.executable, Path(__file__).with_name("gen.py"), str(count), str(SEED)], stdout=f, check=True)
        part.rename(path)
    with open(path, "rb") as f:  # both find it in the page cache
        while f.read(1 << 24):
            pass
    return path


def stored(folder):
    return sum(p.stat().st_size for p in Path(folder).rglob("*.parquet") if "_delta_log" not in p.parts)


def duckdb(python, source, folder):
    target = Path(folder) / "duckdb.parquet"
    run = Run([python, "-c", DUCKDB, str(source), str(target), str(THREADS)])
    run.bytes = target.stat().st_size
    return run


def catena(binary, source, folder, count):
    lake = Path(folder) / "lake"
    run = Run([binary, "ingest", "--lake", str(lake), "--format", "catena", "--threads", str(THREADS), "--json", str(source)])
    report = json.loads(run.out)
    if report["accepted"] != count:
        sys.exit(f"catena accepted {report['accepted']} of {count} events: {report}")
    run.bytes = stored(lake)
    return run


def limit(run):
    """What a run waited for, from how busy its threads were."""
    busy = run.cpu_s / run.wall_s
    if busy > 0.85 * THREADS:
        share = run.system_s / run.cpu_s
        return f"the processor: {busy:.2f} of {THREADS} cores busy, {share:.0%} of it in the kernel"
    return f"waiting (disk, or other work on this machine): {busy:.2f} of {THREADS} cores busy"


def row(name, run, count):
    print(
        f"{name:<8} {count / run.wall_s:>9,.0f} events/s  {run.bytes / count:>6.1f} bytes/event  "
        f"{run.cpu_s * 1e6 / count:>6.2f} CPU-s per million  {run.memory_mb:>6.0f} MB  limited by {limit(run)}"
    )


def main():
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("events", type=int, nargs="?", default=1_000_000)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--least", type=float, default=0.8)
    args = parse.parse_args()
    binary = os.environ.get("CATENA_BIN", str(ROOT / "target" / "release" / "catena"))
    python = os.environ.get("CATENA_PEERS_PY", str(ROOT / ".cache" / "peers" / "bin" / "python"))
    if not Path(binary).exists():
        sys.exit("no release binary: `make release`, or set CATENA_BIN")
    source = events(args.events)
    best = {}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            for name, run in (("duckdb", duckdb(python, source, folder)), ("catena", catena(binary, source, folder, args.events))):
                if name not in best or run.wall_s < best[name].wall_s:
                    best[name] = run
    ours, theirs = best["catena"], best["duckdb"]
    row("duckdb", theirs, args.events)
    row("catena", ours, args.events)
    rate, size = theirs.wall_s / ours.wall_s, ours.bytes / theirs.bytes
    work = theirs.cpu_s / ours.cpu_s
    print(f"ingest: rate ratio {rate:.2f}, CPU ratio {work:.2f}, bytes ratio {size:.2f} ({args.events:,} events, {THREADS} threads, best of {args.rounds})")
    return int(rate < args.least or size > BYTES_RATIO_MAX)


if __name__ == "__main__":
    sys.exit(main())
