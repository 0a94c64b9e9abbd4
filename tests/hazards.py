#!/usr/bin/env python3
"""What a lake survives: upkeep that is killed under ingest, a bucket that many writers share, and files that change under their reader.

Usage: hazards.py [upkeep|bucket|files ...]     CATENA_BIN names the binary, CATENA_PEERS_PY a Python with deltalake and moto

`upkeep` ends `catena maintain` with SIGKILL at random moments while files are ingested, and after each kill holds the
counts against what went in. `bucket` starts an S3 server (moto) and lets several `catena ingest` and a `catena maintain`
commit to one lake at the same time. At the end of both, every event stands in the lake once, and delta-rs counts as many.
`files` rotates, copies, truncates, overwrites, renames and deletes a file that `catena ingest --follow` follows, and ends
that with SIGKILL at random moments. At the end every line stands in the lake once.
Sizes and seed: CATENA_HAZARD_FILES, CATENA_HAZARD_ROTATIONS, CATENA_SEED. Exit code 0 when everything holds.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BIN = os.environ.get("CATENA_BIN", str(TARGET / "debug" / "catena"))
PEERS = os.environ.get("CATENA_PEERS_PY", str(ROOT / ".cache" / "peers" / "bin" / "python"))
# Taken out, because the product refuses settings that it does not know.
FILES = int(os.environ.pop("CATENA_HAZARD_FILES", "40"))
ROTATIONS = int(os.environ.pop("CATENA_HAZARD_ROTATIONS", "60"))
SEED = int(os.environ.pop("CATENA_SEED", time.time_ns() % 1_000_000))
EVENTS = 400
COUNT = "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM decisions"


def catena(*args, env=None):
    done = subprocess.run([BIN, *map(str, args)], capture_output=True, text=True, timeout=180, env=env)
    if done.returncode:
        raise RuntimeError(f"catena {args[0]}: exit {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def counts(lake, env=None):
    row = json.loads(catena("sql", "--lake", lake, "-o", "json", COUNT, env=env))[0]
    return row["n"], row["ids"]


def files(folder, seed, how_many):
    """Files of native events whose ids differ."""
    made = []
    for number in range(how_many):
        path = Path(folder) / f"events-{number:03}.ndjson"
        with open(path, "wb") as out:
            subprocess.run([sys.executable, ROOT / "tests" / "bench" / "gen.py", str(EVENTS), str(seed + number)], stdout=out, check=True)
        made.append(path)
    return made


def distinct(paths):
    return len({json.loads(line)["id"] for path in paths for line in open(path, encoding="utf-8")})


def by_delta_rs(table, options=None):
    """Rows of decisions as another implementation counts them."""
    script = (
        "import sys, json, deltalake; t = deltalake.DeltaTable(sys.argv[1], storage_options=json.loads(sys.argv[2]));"
        "print(t.to_pyarrow_dataset().to_table(columns=['class']).column('class').to_pylist().count('decision'), flush=True);"
        # Threads of that library can outlive the interpreter and end it with an abort; what it had to say is said.
        "import os; os._exit(0)"
    )
    done = subprocess.run([PEERS, "-c", script, table, json.dumps(options or {})], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"delta-rs: {done.stderr.strip()[-600:]}")
    return int(done.stdout)


def same(what, got, want):
    if got != want:
        sys.exit(f"{what}: {got}, and it should be {want}")


def upkeep(dice):
    """`catena maintain` dies at any moment; counts and rows stay the same before, during and after."""
    with tempfile.TemporaryDirectory() as folder:
        paths, lake = files(folder, 1000, FILES), Path(folder) / "lake"
        kills = done = 0
        for number, path in enumerate(paths):
            catena("ingest", "--lake", lake, "--format", "catena", "--json", path)
            keeper = subprocess.Popen([BIN, "maintain", "--lake", lake, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                keeper.wait(timeout=dice.uniform(0.01, 0.25))
                done += 1
            except subprocess.TimeoutExpired:
                keeper.send_signal(signal.SIGKILL)
                kills += 1
            keeper.wait()
            if number % 5 == 4:
                same(f"events after {kills} kills", counts(lake)[0], EVENTS * (number + 1))
        before = len(list((lake / "records").rglob("*.parquet")))
        # The lease of the last one that was killed has to run out first.
        deadline = time.monotonic() + 120
        while True:
            report = json.loads(catena("maintain", "--lake", lake, "--json"))
            if report["merged_files"] or time.monotonic() > deadline:
                break
            time.sleep(2)
        same("ids", counts(lake), (EVENTS * FILES, distinct(paths)))
        same("rows by delta-rs", by_delta_rs(str(lake / "records")), EVENTS * FILES)
        if kills < FILES // 3:
            sys.exit(f"only {kills} of {FILES} were killed: the moments are too late")
        print(f"upkeep: {kills} killed, {done} finished, {before} data files on disk before the last, {report['merged_files']} merged by it; {EVENTS * FILES} events once")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def bucket(dice):
    """Several writers and one keeper, one bucket, conditional puts."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        with open(Path(folder) / "server.log", "wb") as log:
            server = subprocess.Popen([PEERS, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
        try:
            endpoint = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/lakes", method="PUT"), timeout=5)
                    break
                except OSError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        sys.exit(f"the S3 server does not answer:\n{(Path(folder) / 'server.log').read_text()}")
                    time.sleep(0.1)
            options = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "us-east-1", "aws_endpoint": endpoint, "aws_allow_http": "true"}
            settings = Path(folder) / "catena.toml"
            settings.write_text("[store]\n" + "".join(f'{key} = "{value}"\n' for key, value in options.items()))
            lake, common = "s3://lakes/shared/lake", ("--config", settings)
            paths = files(folder, 5000, max(FILES // 2, 8))
            waiting, running, keepers, most = list(paths), [], 0, 0
            while waiting or running:
                while waiting and len(running) < 4:
                    running.append(subprocess.Popen([BIN, "ingest", *common, "--lake", lake, "--format", "catena", "--json", waiting.pop()], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
                most = max(most, len(running))
                if dice.random() < 0.2:
                    catena("maintain", *common, "--lake", lake, "--json")
                    keepers += 1
                for writer in [w for w in running if w.poll() is not None]:
                    running.remove(writer)
                    out, err = writer.communicate()
                    if writer.returncode:
                        sys.exit(f"a writer failed: {err.decode()[-800:]}")
                    same("accepted", json.loads(out)["accepted"], EVENTS)
                time.sleep(0.01)
            row = json.loads(catena("sql", *common, "--lake", lake, "-o", "json", COUNT))[0]
            same("events in the bucket", (row["n"], row["ids"]), (EVENTS * len(paths), distinct(paths)))
            s3 = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
            same("rows by delta-rs", by_delta_rs(f"{lake}/records", s3), EVENTS * len(paths))
            print(f"bucket: {len(paths)} writers, up to {most} at once, and {keepers} runs of upkeep; {EVENTS * len(paths)} events once")
        finally:
            server.kill()
            server.wait()


class Rotated:
    """A log that is followed, and all that happens to it. Lines are destroyed only when they were read, or lie in a file beside."""

    BANNER = '{"msg":"gateway 1.4 started"}\n'

    def __init__(self, dice, folder):
        self.dice, self.folder, self.lake = dice, folder, folder / "lake"
        self.path, self.written, self.kills, self.reader = folder / "live.log", 0, 0, None
        self.said = open(folder / "said", "ab")

    def start(self):
        if self.reader is None:
            env = {**os.environ, "CATENA_FLUSH__AGE_MS": "100"}
            self.reader = subprocess.Popen([BIN, "ingest", "--lake", self.lake, "--follow", self.path], stderr=self.said, env=env)

    def kill(self):
        if self.reader:
            self.reader.kill()
            self.reader.wait()
            self.reader, self.kills = None, self.kills + 1

    def rows(self):
        if not any((self.lake / "records" / "_delta_log").glob("*.json")):
            return []  # the reader has just been started, and there is no lake yet
        return [row["n"] for row in json.loads(catena("sql", "--lake", self.lake, "-o", "json", "SELECT event_id, count(*) AS n FROM records WHERE class = 'decision' GROUP BY event_id"))]

    def settle(self):
        """Waits until all that was written is in the lake."""
        self.start()
        deadline = time.monotonic() + 60
        while len(self.rows()) < self.written:
            if time.monotonic() > deadline or self.reader.poll() is not None:
                raise RuntimeError(f"{len(self.rows())} of {self.written} lines; {(self.folder / 'said').read_text()[-600:]}")
            time.sleep(0.1)

    def lines(self):
        first, self.written = self.written, self.written + self.dice.randint(1, 6)
        return "".join(f'{{"id":"e{n:06}","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}}}}\n' for n in range(first, self.written))

    def fresh(self):
        return (self.BANNER if self.dice.random() < 0.8 else "") + self.lines()

    def append(self, path, text):
        with open(path, "a", encoding="utf-8") as out:
            out.write(text)

    def beside(self, ending):
        return Path(f"{self.path}{ending}")

    def shift(self):
        if self.beside(".6").exists():
            self.settle()
        for n in range(5, 0, -1):
            if self.beside(f".{n}").exists():
                self.beside(f".{n}").rename(self.beside(f".{n + 1}"))

    def act(self):
        what, exists = self.dice.choice(["append", "append", "rotate", "rotate", "copytruncate", "overwrite", "copyback", "rewrite", "backup", "delete"]), self.path.exists()
        if what == "append" or not exists:
            self.append(self.path, self.lines() if exists else self.fresh())
        elif what == "rotate":
            self.shift()
            self.path.rename(self.beside(".1"))
            if self.dice.random() < 0.5:
                self.append(self.path, self.fresh())
            if self.dice.random() < 0.3:
                self.append(self.beside(".1"), self.lines())
        elif what == "copytruncate":
            self.shift()
            self.beside(".1").write_bytes(self.path.read_bytes())
            self.path.write_text(self.fresh(), encoding="utf-8")
        elif what == "overwrite":
            self.settle()
            self.path.write_text(self.fresh(), encoding="utf-8")
        elif what == "copyback" and self.beside(".1").exists():
            self.settle()
            self.beside(".tmp").write_bytes(self.beside(".1").read_bytes())
            self.beside(".tmp").rename(self.path)
        elif what == "rewrite":
            beside = self.folder / "sedAbC"
            beside.write_text(self.path.read_text(encoding="utf-8") + self.lines(), encoding="utf-8")
            beside.rename(self.path)
        elif what == "backup":
            self.beside(".bak").write_bytes(self.path.read_bytes())
        elif what == "delete":
            self.settle()
            self.path.unlink()


def rotations(dice):
    """A followed file is changed in every way while its reader is killed; every line is in the lake once."""
    with tempfile.TemporaryDirectory() as folder:
        log = Rotated(dice, Path(folder))
        try:
            # What was rotated before anything was followed is history, and not read.
            log.append(log.path, log.fresh())
            log.settle()
            for _ in range(ROTATIONS):
                log.act()
                if dice.random() < 0.7:
                    log.start()
                    time.sleep(dice.uniform(0, 0.6))
                if dice.random() < 0.3:
                    log.kill()
            log.settle()
            time.sleep(1)
            rows = log.rows()
            same("lines", (len(rows), sum(rows)), (log.written, log.written))
            if log.kills < ROTATIONS // 10:
                sys.exit(f"only {log.kills} kills in {ROTATIONS} steps")
            print(f"files: {ROTATIONS} steps, {log.kills} killed; {log.written} lines once")
        finally:
            log.kill()


def main():
    print(f"CATENA_SEED={SEED}")
    dice = random.Random(SEED)
    wanted = sys.argv[1:] or ["upkeep", "bucket", "files"]
    for name in wanted:
        {"upkeep": upkeep, "bucket": bucket, "files": rotations}[name](dice)


if __name__ == "__main__":
    main()
