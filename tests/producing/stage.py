"""What the scenarios with real producers share: their processes, tokens that are signed, and the comparison at the end."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("CATENA_PEERS_PY", sys.executable)  # a Kafka client is here too
from badinput import ROOT, catena  # noqa: E402

HOME = ROOT / ".cache" / "producers"
PYTHON = HOME / "python" / "bin" / "python"


class Missing(Exception):
    """A producer is not installed."""


def binary(name):
    """A producer that was built from its sources, by whoever wanted it."""
    path = HOME / "bin" / name
    if not path.exists():
        raise Missing(f"{name} is not installed: `make producers` builds it from its Go module")
    return str(path)


class Process:
    """A producer on loopback; ends with the block, and then tells what it said if something failed."""

    def __init__(self, name, folder, command, ready=None, env=None):
        self.name, self.ready, self.command, self.env = name, ready, command, env
        self.path = folder / f"{name}.log"

    def __enter__(self):
        self.log = open(self.path, "ab")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log, env={**os.environ, **(self.env or {})})
        if self.ready:
            try:
                wait(lambda: answers(self.ready) or self.process.poll() is not None, f"answer of {self.name}")
            except BaseException:
                self.__exit__()
                raise
            if self.process.poll() is not None:
                sys.exit(f"{self.name} ended:\n{self.said()}")
        return self

    def said(self):
        return self.path.read_text(errors="replace")[-3000:]

    def stop(self):
        """Asks it to end, and lets it bring out what it holds."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status < 300
    except (OSError, urllib.error.HTTPError):
        return False


def wait(reached, what, longest=240):
    deadline = time.monotonic() + longest
    while not reached():
        if time.monotonic() > deadline:
            sys.exit(f"no {what} after {longest} s")
        time.sleep(0.1)


def ask(lake, sql, *more):
    return json.loads(catena("sql", "--lake", lake, "--rows-max", "1000000", "-o", "json", *more, sql))


def count(lake, sql, *more):
    return ask(lake, sql, *more)[0]["n"]


def holds(name, wanted, found):
    """Holds what stands in the lake against what was asked for, row by row and as often."""
    wanted, found = Counter(wanted), Counter(found)
    if wanted != found:
        lost, added = wanted - found, found - wanted
        show = lambda rows: "".join(f"\n    {n} x {row}" for row, n in list(rows.items())[:5])
        sys.exit(f"{name}: {lost.total()} are missing{show(lost)}\n  {added.total()} were not asked for{show(added)}")


def outcomes(rows):
    """Totals by outcome of rows that begin with it."""
    return ", ".join(f"{n} {outcome}" for outcome, n in sorted(Counter(row[0] for row in rows).items()))


class Signer:
    """A key of its own, and tokens signed with it."""

    def __init__(self):
        from cryptography.hazmat.primitives.asymmetric import rsa

        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def keys(self):
        """The public half, as a key set."""
        import jwt

        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return json.dumps({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]})

    def token(self, claims, seconds=3600):
        import jwt

        now = int(time.time())
        return jwt.encode({**claims, "iat": now, "exp": now + seconds}, self.key, "RS256", {"kid": "k1"})
