#!/usr/bin/env python3
"""Reads the real decision logs of tests/corpus into lakes, and holds every total against what their driver knows.

Usage: samples.py [NAME...]     CATENA_BIN names the binary; otherwise the one that was built last

Speaks only `catena ingest --json` and `catena sql`, so it also checks those two. The truth comes from `driver.jsonl` and
`expected.json`, which were written by whoever asked the questions, and from counting the raw records here; never from
the product. Exit code 0 when everything agrees.
"""

import glob
import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OUTCOMES = ("allow", "deny", "step_up")
COLUMNS = {"by_user": "requester", "by_tool": "tool", "by_session": "session", "by_agent": "agent"}


def binary():
    if "CATENA_BIN" in os.environ:
        return os.environ["CATENA_BIN"]
    built = [p for p in (TARGET / "debug" / "catena", TARGET / "release" / "catena") if p.exists()]
    if not built:
        sys.exit("no binary: `cargo build -p catena`, or set CATENA_BIN")
    return str(max(built, key=lambda p: p.stat().st_mtime))


BIN = binary()


class Lake:
    """A fresh lake; what went into it, and what it answers."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, command, *args):
        done = subprocess.run([BIN, command, "--lake", self.folder, *args], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"catena {command}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def ingest(self, fmt, files):
        return json.loads(self.run("ingest", "--format", fmt, "--json", *map(str, files)))

    def sql(self, query):
        return json.loads(self.run("sql", "-o", "json", query))

    def count(self, query):
        return self.sql(query)[0]["n"]


class Check:
    """Collects what differs."""

    def __init__(self, name):
        self.name, self.faults, self.held = name, [], 0

    def equal(self, what, want, got):
        if want == got:
            self.held += 1
        else:
            self.faults.append(f"{what}: true {shorten(want, got)}, got {shorten(got, want)}")

    def adds_up(self, report):
        """The counts of a report account for every record."""
        parts = report["accepted"] + report["duplicates"] + report["rejected"]
        self.equal("received = accepted + duplicates + rejected", report["received"], parts)
        self.equal("sum of by_outcome", report["decisions"], sum(report["by_outcome"].values()))
        self.equal("sum of by_reason", report["rejected"], sum(report["by_reason"].values()))


def shorten(value, other):
    """Of two dictionaries only what differs."""
    if isinstance(value, dict) and isinstance(other, dict):
        value = {k: v for k, v in value.items() if other.get(k) != v}
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) < 240 else text[:240] + " ..."


def load(path):
    return json.loads((CORPUS / path).read_text())


def lines(path):
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(CORPUS / path, "rt", encoding="utf-8") as f:
        return [line for line in f if line.strip()]


def find(path):
    """A corpus file, packed or not."""
    packed = CORPUS / (path + ".gz")
    return packed if packed.exists() else CORPUS / path


def totals(lake, column, where):
    """{key: {outcome: count}}, without zeros."""
    found = {}
    for row in lake.sql(f"SELECT {column} AS k, outcome, count(*) AS n FROM decisions WHERE {where} GROUP BY 1, 2"):
        found.setdefault(row["k"], {})[row["outcome"]] = row["n"]
    return found


def by_outcome(lake, where):
    return {row["outcome"]: row["n"] for row in lake.sql(f"SELECT outcome, count(*) AS n FROM decisions WHERE {where} GROUP BY 1")}


def without_step_up(totals):
    """Cerbos has two effects; a step-up is a denial with an output, so its driver counts it as one."""
    folded = dict(totals)
    if "step_up" in folded:
        folded["deny"] = folded.get("deny", 0) + folded.pop("step_up")
    return folded


CALLS = "tool IS NOT NULL AND tool <> ''"


def compare(check, lake, expected, where=CALLS, fold=lambda t: t, outcomes="by_outcome"):
    want = {k: v for k, v in expected[outcomes].items() if v}
    check.equal("outcomes", want, {k: v for k, v in fold(by_outcome(lake, where)).items() if k in OUTCOMES})
    for key, column in COLUMNS.items():
        if key in expected:
            if any("/" in name for name in expected[key]) and column == "tool":
                # The driver names both; prompts and resources have no server.
                column = "CASE WHEN tool LIKE 'mcp_%' THEN tool ELSE concat(coalesce(server_name, server), '/', tool) END"
            found = {k: fold(v) for k, v in totals(lake, column, where).items()}
            check.equal(key, expected[key], found)


def same_again(check, lake, fmt, files):
    """Reading the same files once more changes nothing."""
    before = lake.count("SELECT count(*) AS n FROM decisions")
    report = lake.ingest(fmt, files)
    check.equal("accepted when read again", 0, report["accepted"])
    check.equal("decisions after reading again", before, lake.count("SELECT count(*) AS n FROM decisions"))


def opa_console(check, lake):
    files = [find("opa/main/console.stderr")]
    check.adds_up(lake.ingest("opa", files))
    compare(check, lake, load("opa/main/expected.json"))
    want = sum(json.loads(line).get("msg") == "Decision Log" for line in lines(files[0]) if line.startswith("{"))
    check.equal("decision events", want, lake.count("SELECT count(DISTINCT source_record) AS n FROM decisions"))
    same_again(check, lake, "opa", files)


def opa_uploads(check, lake):
    files = sorted(glob.glob(str(CORPUS / "opa/main/uploads/upload-*.json.gz")))
    sent = [event["decision_id"] for path in files for event in json.loads(gzip.open(path).read())]
    report = lake.ingest("opa", files)
    check.adds_up(report)
    check.equal("records sent", len(sent), report["received"])
    check.equal("sent again", len(sent) - len(set(sent)), report["duplicates"])
    check.equal("shown once", len(set(sent)), lake.count("SELECT count(*) AS n FROM decisions"))
    compare(check, lake, load("opa/main/expected.json"))
    same_again(check, lake, "opa", files)


def opa_auto(check, lake):
    """The producer is recognised record by record, without being told."""
    lake.ingest("auto", [find("opa/main/console.stderr")])
    shown = lake.count("SELECT count(*) AS n FROM decisions")
    check.equal("decision events", 438, shown)


def cerbos_file(check, lake):
    files = [find("cerbos/file/audit.log")]
    check.adds_up(lake.ingest("cerbos", files))
    compare(check, lake, load("cerbos/file/expected.json"), fold=without_step_up, outcomes="actions_by_outcome")
    check.equal("step-ups among them", 75, lake.count("SELECT count(*) AS n FROM decisions WHERE outcome = 'step_up'"))
    same_again(check, lake, "cerbos", files)


def envoy(check, lake):
    """Calls that the JWT filter refused have nobody and no tool in their line: only the trace joins them to the driver."""
    files = [find("envoy/access.jsonl")]
    check.adds_up(lake.ingest("envoy", files))
    decided = {}
    for row in lake.sql("SELECT trace_id, outcome, requester, tool, session FROM decisions"):
        decided.setdefault(row["trace_id"], []).append(row)
    agree, wrong, named = 0, Counter(), Counter()
    calls = [call for call in map(json.loads, lines("envoy/driver.jsonl")) if "expected" in call]
    for call in calls:
        found = decided.get(call["traceparent"].split("-")[1], [])
        got = found[0]["outcome"] if len(found) == 1 else f"{len(found)} decisions"
        agree += got == call["expected"]
        wrong[(call["expected"], got)] += got != call["expected"]
        if len(found) == 1 and call["decided_by"] != "jwt":
            told = (found[0]["requester"], found[0]["tool"], found[0]["session"])
            named["right"] += told == (call["user"], call["tool"], call["session"])
            named["all"] += 1
    check.equal("calls that agree by trace", len(calls), agree)
    check.equal("calls that differ", {}, {f"{want} as {got}": n for (want, got), n in wrong.items() if n})
    check.equal("requester, tool and session of calls past the JWT filter", named["all"], named["right"])
    check.equal("calls past the JWT filter", sum(c["decided_by"] != "jwt" for c in calls), named["all"])
    same_again(check, lake, "envoy", files)


def native(check, lake):
    files = [find("catena/fleet.ndjson")]
    check.adds_up(lake.ingest("catena", files))
    compare(check, lake, load("catena/expected.json"))
    same_again(check, lake, "catena", files)


def mcp(check, lake):
    files = [find("mcp/python-sdk/opa-decisions.jsonl")]
    check.adds_up(lake.ingest("opa", files))
    expected = load("mcp/python-sdk/expected.json")
    compare(check, lake, expected)
    # The gateway does not log the run's name, but each run is one session.
    sessions = totals(lake, "session", CALLS)
    order = lambda found: sorted(sorted(outcomes.items()) for outcomes in found.values())
    check.equal("calls by run, as sessions", order(expected["by_run"]), order(sessions))
    same_again(check, lake, "opa", files)


CASES = {
    "opa-console": opa_console,
    "opa-uploads": opa_uploads,
    "opa-auto": opa_auto,
    "cerbos-file": cerbos_file,
    "envoy": envoy,
    "mcp": mcp,
    "native": native,
}


def main():
    unknown = [name for name in sys.argv[1:] if name not in CASES]
    if unknown:
        sys.exit(f"no case {unknown[0]}; there are {', '.join(CASES)}")
    faults = 0
    for name in sys.argv[1:] or CASES:
        check = Check(name)
        with tempfile.TemporaryDirectory() as folder:
            try:
                CASES[name](check, Lake(folder))
            except (RuntimeError, subprocess.TimeoutExpired, KeyError, json.JSONDecodeError) as e:
                check.faults.append(f"{type(e).__name__}: {e}")
        print(f"{name}: {check.held} totals agree" + (f", {len(check.faults)} differ" if check.faults else ""))
        for fault in check.faults:
            print(f"    {fault}")
        faults += len(check.faults)
    print("samples: all agree" if not faults else f"samples: {faults} differ")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
