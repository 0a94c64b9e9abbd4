#!/usr/bin/env python3
"""Secrets go in by every way, and none of them comes to rest anywhere.

Usage: secrets.py     CATENA_BIN names the binary, CATENA_PEERS_PY a Python with pyarrow

Plants secrets of 20 kinds, in six placements, in records of several formats and in records that cannot be read; sends them
by file and over HTTP; and private keys of 6 kinds line by line, between other records. Others are planted where only the log of the
service could keep them: in statements that fail, in keys, in paths and headers that are refused, with line breaks and escapes. Then reads everything that was written: every column of every data file, every other file below the
lake byte by byte, the log of the service, its metrics, and its answers. The secrets are made here, from parts, at random.
Exit code 0 when none is found and all records are accounted for.
"""

import base64
import json
import os
import random
import string
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from badinput import PEERS, Served, catena  # noqa: E402

SEED = int(os.environ.pop("CATENA_SEED", "20260820"))
PER_KIND = 12


def kinds(dice):
    def word(n, alphabet=string.ascii_letters + string.digits):
        return "".join(dice.choice(alphabet) for _ in range(n))

    hexa, upper = string.hexdigits.lower()[:16], string.ascii_uppercase + "234567"
    part = lambda data: base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()
    return {
        "aws": lambda: "AK" + "IA" + word(16, upper),
        "github": lambda: "gh" + "p_" + word(36),
        "github-fine": lambda: "github" + "_pat_" + word(22) + "_" + word(59),
        "gitlab": lambda: "gl" + "pat-" + word(20),
        "slack": lambda: "xo" + "xb-" + word(12, string.digits) + "-" + word(12, string.digits) + "-" + word(24),
        "stripe": lambda: "sk" + "_live_" + word(24),
        "openai": lambda: "sk" + "-proj-" + word(48),
        "anthropic": lambda: "sk" + "-ant-api03-" + word(93) + "AA",
        "google": lambda: "AI" + "za" + word(35),
        "npm": lambda: "np" + "m_" + word(36),
        "pypi": lambda: "py" + "pi-AgEIcHlwaS5vcmc" + word(60),
        "sendgrid": lambda: "S" + "G." + word(22) + "." + word(43),
        "huggingface": lambda: "h" + "f_" + word(34, string.ascii_letters),
        "digitalocean": lambda: "do" + "p_v1_" + word(64, hexa),
        "jwt": lambda: f'{part({"alg": "RS256", "typ": "JWT"})}.{part({"sub": word(8), "iat": 1787234591})}.{word(86)}',
        "pem": lambda: "-----BEGIN " + "PRIVATE KEY-----\n" + "\n".join(word(64) for _ in range(4)) + "\n-----END PRIVATE KEY-----",
        "url": lambda: word(18),
        "connection": lambda: word(20),
        "bearer": lambda: word(40),
        "named": lambda: word(16),
    }


def written(kind, secret):
    """How a secret of a kind is found in the wild."""
    return {
        "url": f"https://deploy:{secret}@git.corp.example/x.git",
        "connection": f"postgres://app:{secret}@db.corp.example:5432/main",
        "bearer": f"Authorization: Bearer {secret}",
        "named": f"password={secret}",
    }.get(kind, secret)


def placements(text):
    yield "value", {"note": text}
    yield "prose", {"note": f"please use {text} for the job"}
    yield "nested", {"body": json.dumps({"headers": {"x": text}})}
    yield "base64", {"data": base64.b64encode(text.encode()).decode()}
    yield "url", {"query": "a=1&t=" + urllib.parse.quote(text, safe="")}
    yield "list", {"items": [["x", {"y": [text]}]]}


def records(dice):
    """Lines of a log, and the secrets in them."""
    lines, secrets, n = [], [], 0
    for kind, make in kinds(dice).items():
        for _ in range(PER_KIND // 6):
            for where, params in placements("%s"):
                secret = make()
                secrets.append((kind, where, secret))
                # The placement is made again around the secret itself, since encodings differ.
                params = dict(placements(written(kind, secret)))[where]
                n += 1
                lines.append(shape(n, params, written(kind, secret), dice))
    return lines, secrets


def shape(n, params, text, dice):
    """One record in one of several formats, some of which cannot be read."""
    native = {"id": f"s{n}", "time": "2026-08-20T14:03:11Z", "decision": {"verdict": "allow", "reasons": [f"seen {n}"]}, "call": {"params": params}}
    pick = n % 6
    if pick == 0:
        return json.dumps(native)
    if pick == 1:
        return json.dumps({"decision_id": f"d{n}", "labels": {"id": "pdp"}, "path": "a/b", "timestamp": "2026-08-20T14:03:11Z", "input": {"params": params, "who": "dana"}, "result": True})
    if pick == 2:
        return json.dumps({**native, "novelty": params, "session": {"id": f"run {text}"}})
    if pick == 3:  # a rejection: kept, without what it hid
        return json.dumps({**native, "decision": {"verdict": f"maybe {text}"}})
    if pick == 4:
        return json.dumps({"shape": "of nobody", "members": params})
    return json.dumps(native)[:-1].replace("\n", " ")  # cut short


def key_lines(dice):
    """Files of lines with private keys in them, and the lines of the keys, each a secret of its own."""
    word = lambda n: "M1z" + "".join(dice.choice(string.ascii_letters + string.digits + "+/") for _ in range(n - 3))
    texts, secrets = [], []
    for kind in ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"):
        for write in (str, "2026-12-01T00:00:00Z api-1  | {}".format, "    {}\r".format, lambda l: json.dumps({"log": l + "\n", "stream": "stdout"})):
            body = [word(64), word(64), word(32)]
            secrets += [("key line", kind, line) for line in body]
            between = json.dumps({"id": f"k{len(secrets)}", "time": "2026-08-20T14:03:11Z", "decision": {"verdict": "allow"}})
            dashes = "-" * 5
            lines = [f"{dashes}BEGIN {kind}{dashes}", *body, f"{dashes}END {kind}{dashes}"]
            texts.append([*map(write, lines[:2]), between, *map(write, lines[2:])])
    body = [word(64), word(40)]
    secrets += [("key line", "PuTTY", line) for line in body]
    texts.append(["PuTTY-User-Key-File-3: ssh-ed25519", "Encryption: none", "Private-Lines: 2", *body, "Private-MAC: 00ff"])
    return texts, secrets


def overheard(served, dice):
    """Requests that fail and name a secret; what only the log of the service could keep of them."""
    secrets = [("overheard", str(n), "gh" + "p_" + "".join(dice.choice(string.ascii_letters) for _ in range(36))) for n in range(8)]
    hostile = "\n2026-12-01T00:00:00Z ERROR forged\x1b[31m"
    s = [secret for _, _, secret in secrets]
    for query in (f"SELECT CAST('{s[0]}' AS BIGINT)", f"SELECT count(*) FROM decisions WHERE tool ~ '({s[1]}{hostile}'", f"SELECT * FROM \"{s[2]}\"", f"SELECT '{s[3]}' WHERE CAST(id AS INT) > 0"):
        served.post("/api/v1/sql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"})
    served.get("/api/v1/chains/" + urllib.parse.quote(s[4] + hostile, safe=""))
    served.get("/api/v1/sql?q=" + urllib.parse.quote(f"SELECT regexp_like(tool, '[{s[5]}{hostile}') FROM decisions"))
    served.post("/ingest/v1/events?format=" + s[6], b"{}")
    served.post("/ingest/v1/events", b"{}", {"Authorization": f"Bearer {s[7]}", "Content-Encoding": "gzip"})
    return secrets


DUMP = """
import sys, pathlib
import pyarrow.parquet as pq
out = sys.stdout.buffer
for path in pathlib.Path(sys.argv[1]).rglob("*.parquet"):
    table = pq.read_table(path, partitioning=None)
    for name in table.column_names:
        for value in table.column(name).to_pylist():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, bytes):
                    out.write(item + b"\\n")
                elif isinstance(item, str):
                    out.write(item.encode() + b"\\n")
"""


def found_in(secrets, name, data):
    return [f"{kind} ({where}) in {name}" for kind, where, secret in secrets if any(form in data for form in forms(secret))]


def forms(secret):
    """A secret as it stands, in pieces long enough to be of use, and encoded."""
    plain = secret.encode()
    yield plain if len(plain) < 200 else plain[40:120]
    yield base64.b64encode(plain).rstrip(b"=")[4:-4]
    yield json.dumps(secret)[1:-1].encode()
    yield urllib.parse.quote(secret, safe="").encode()


def main():
    dice = random.Random(SEED)
    lines, secrets = records(dice)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = []
        log = folder / "mixed.log"
        half = len(lines) // 2
        texts, keys = key_lines(dice)
        secrets += keys
        keyed = folder / "keyed.log"
        keyed.write_text("\n".join(line for text in texts[::2] for line in text) + "\n")
        more = sum(map(len, texts))
        log.write_text("\n".join(lines[:half]) + "\n")
        lake = folder / "lake"
        report = json.loads(catena("ingest", "--lake", lake, "--json", log))
        if report["records"] != half:
            sys.exit(f"secrets: {report}")
        catena("ingest", "--lake", lake, "--json", keyed)
        with Served(folder, "[flush]\nage_ms = 100\n") as served:
            for line in lines[half:]:
                status, answer = served.post("/ingest/v1/events?format=auto", line.encode())
                said.append(answer)
                if status != 200:
                    sys.exit(f"secrets: answered {status}: {answer[:300]}")
            for text in texts[1::2]:
                said.append(served.post("/ingest/v1/events?format=auto", "\n".join(text).encode())[1])
            said.append(served.get("/metrics")[1])
            secrets += overheard(served, dice)
            served.wait(lambda: json.loads(served.get("/api/v1/status")[1] or b"{}").get("received", 0) >= len(lines) + more, "all records")
            for path in ("/api/v1/status", "/api/v1/sources", "/api/v1/chains", "/api/v1/chains?limit=1000", "/api/v1/sql?q=" + urllib.parse.quote("SELECT * FROM chain_events"), "/api/v1/sql?q=" + urllib.parse.quote("SELECT * FROM records")):
                said.append(served.get(path)[1])
            served.stop()
        dumped = subprocess.run([PEERS, "-c", DUMP, str(lake)], capture_output=True, timeout=120)
        if dumped.returncode:
            sys.exit(f"secrets: {dumped.stderr.decode()[-800:]}")
        if b"seen 1" not in dumped.stdout or len(dumped.stdout) < 10_000:
            sys.exit("secrets: the data files could not be read, so nothing was looked at")
        leaks = found_in(secrets, "the data files", dumped.stdout)
        looked = 0
        for path in folder.rglob("*"):
            if path.is_file() and path not in (log, keyed):
                looked += 1
                leaks += found_in(secrets, path.relative_to(folder), path.read_bytes())
        served_log = (folder / "serve.log").read_text()
        if "\x1b" in served_log or any(line.startswith("2026-12-01T00:00:00Z") for line in served_log.splitlines()):
            sys.exit(f"secrets: the log was forged:\n{served_log[-2000:]}")
        for n, text in enumerate(said):
            leaks += found_in(secrets, f"answer {n}", text)
        counts = json.loads(catena("sql", "--lake", lake, "-o", "json", "SELECT class, count(*) AS n FROM records WHERE class <> 'chain' GROUP BY class ORDER BY class"))
        if sum(row["n"] for row in counts) != len(lines) + more:
            sys.exit(f"secrets: {counts} of {len(lines) + more} records")
        share = 1 - len({leak.split(" in ")[0] for leak in leaks}) / len(secrets)
        if leaks:
            sys.exit(f"secrets: {len(leaks)} came through:\n  " + "\n  ".join(leaks[:40]))
        print(f"secrets: {len(secrets)} of {len(kinds(dice))} kinds in {len(lines)} records by file and HTTP; none in {looked} files, the log, {len(said)} answers ({share:.3f} kept out)")


if __name__ == "__main__":
    main()
