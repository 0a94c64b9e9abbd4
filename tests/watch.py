#!/usr/bin/env python3
"""Chains are followed while the follower is killed and others follow too: every revision stands once, the last ones are right.

Usage: watch.py     CATENA_BIN names the binary, CATENA_SEED the dice

One process receives; two follow, each killed with SIGKILL again and again, one of them with too little memory for all chains at once. In
the end, when that one is left alone, what was last said of every chain must be what
a rebuild says, every (chain, revision) must stand once, and revisions must count from 1 without a gap.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from badinput import Served, catena  # noqa: E402

KILLS = 12
SESSIONS = 60
COLUMNS = "chain_id, root, lineage, started, ended, events, operations, depth, fanout, denied, orphans, cycle_broken, widened"


def event(dice, n, live):
    session = dice.choice(live)
    parent = dice.choice(session["events"])["id"] if session["events"] and dice.random() < 0.5 else None
    if dice.random() < 0.1:
        parent = f"e{dice.randrange(n, n + 40):06d}"  # one that is still to come, perhaps
    made = {
        "id": f"e{n:06d}",
        "time": f"2026-11-{1 + n % 20:02d}T{n // 20 % 24:02d}:{n % 60:02d}:00Z",
        "decision": {"verdict": dice.choice(["allow", "allow", "deny", "step_up"])},
        "requester": {"id": session["who"]},
        "actors": [{"id": f"agent:{dice.randrange(4)}"}],
        "session": {"id": session["id"]},
        "server": {"id": "crm"},
        "tool": {"name": dice.choice(["read", "write"])},
    }
    if parent:
        made["links"] = {"parent_decision": parent}
    session["events"].append(made)
    return json.dumps(made)


# Two thirds of what is there at the end, and parts of half of that: the second follower soon follows from afar.
SHORT_OF_MEMORY = {"CATENA_QUERY__CHAINS_BYTES": str(1500 * 600)}


class Follower:
    def __init__(self, lake, settings):
        self.settings = settings
        self.process = subprocess.Popen(
            [os.environ["CATENA_BIN"], "serve", "--role", "watch", "--lake", lake, "--listen", "127.0.0.1:0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **settings},
        )

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def rows(lake, query):
    return json.loads(catena("sql", "--lake", lake, "--json", query))


def main():
    # Taken out, because the product refuses settings that it does not know.
    seed = int(os.environ.pop("CATENA_SEED", None) or random.randrange(1 << 32))
    print(f"CATENA_SEED={seed}", flush=True)
    dice = random.Random(seed)
    live = [{"id": f"s{i}", "who": f"user{i % 9}@corp.example", "events": []} for i in range(SESSIONS)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        lake = f"{folder}/lake"
        n = kills = 0
        with Served(folder, "[flush]\nage_ms = 200\n", "--role", "collect") as served:
            followers = [Follower(lake, {}), Follower(lake, SHORT_OF_MEMORY)]
            try:
                # At last the second is left alone.
                while kills < KILLS or n < 2300 or len(followers) > 1:
                    if kills >= KILLS and n >= 2300:
                        followers.pop(0).kill()
                    lines = [event(dice, n + i, live) for i in range(dice.randrange(20, 200))]
                    n += len(lines)
                    status, said = served.post("/ingest/v1/events", "\n".join(lines).encode())
                    if status != 200:
                        sys.exit(f"watch: {status} {said}")
                    time.sleep(dice.uniform(0.1, 1.5))
                    if dice.random() < 0.6 and kills < KILLS:
                        at = dice.randrange(2)
                        followers[at].kill()
                        followers[at] = Follower(lake, followers[at].settings)
                        kills += 1
                deadline = time.monotonic() + 90
                while True:
                    time.sleep(1)
                    last = f"""SELECT {COLUMNS} FROM chain_revisions r
                        JOIN (SELECT chain_id, max(revision) AS revision FROM chain_revisions GROUP BY 1) newest USING (chain_id, revision)
                        WHERE state <> 'merged' ORDER BY chain_id"""
                    said, rebuilt = rows(lake, last), rows(lake, f"SELECT {COLUMNS} FROM chains ORDER BY chain_id")
                    counted = rows(lake, "SELECT count(*) AS n FROM decisions")[0]["n"]
                    if counted == n and said == rebuilt:
                        break
                    if time.monotonic() > deadline:
                        wrong = [s for s in said if s not in rebuilt][:3], [r for r in rebuilt if r not in said][:3]
                        sys.exit(f"watch: {counted} of {n} decisions, {len(said)} chains said, {len(rebuilt)} rebuilt; {wrong}")
            finally:
                for follower in followers:
                    follower.kill()
        revisions = rows(lake, "SELECT chain_id, revision FROM chain_revisions")
        by_chain = {}
        for row in revisions:
            by_chain.setdefault(row["chain_id"], []).append(row["revision"])
        for chain, numbers in by_chain.items():
            if sorted(numbers) != list(range(1, len(numbers) + 1)):
                sys.exit(f"watch: revisions of {chain}: {sorted(numbers)}")
        merged = rows(lake, "SELECT count(*) AS n FROM chain_aliases")[0]["n"]
        stray = rows(lake, "SELECT count(*) AS n FROM chain_aliases WHERE chain_id NOT IN (SELECT chain_id FROM chains)")[0]["n"]
        if stray:
            sys.exit(f"watch: {stray} of {merged} ids lead nowhere")
    print(f"watch: {n} decisions in {len(rebuilt)} chains, {len(revisions)} revisions each once, {merged} ids given up, {kills} kills of two followers")


if __name__ == "__main__":
    main()
