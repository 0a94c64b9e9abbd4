#!/usr/bin/env python3
"""Real producers decide and log while Catena collects, and what stands in the lake is what they were asked.

Usage: producers.py [opa|cerbos|envoy|registry ...]     CATENA_BIN names the binary, CATENA_SEED the seed

Policies and calls are drawn from a seed that is printed, so every run is another one. What must become of each call is worked out
by the driver (producing/fleet.py). `opa`: decision log uploads, through lost answers and a kill. `cerbos`: its Kafka back end, JSON
and protobuf, through a kill. `envoy`: its access log as a file, and over OTLP by gRPC and HTTP. `registry`: records framed by a
schema registry, through its restart. tests/install/producers.sh installs; a producer that is not there is skipped, and said so, unless it is named. Exit code 0
when everything agrees.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".cache" / "producers" / "python" / "bin" / "python"
NAMES = ("opa", "cerbos", "envoy", "registry")


def main():
    if Path(sys.executable) != PYTHON:
        # Signing of tokens and framing of records need packages, which have a Python of their own.
        subprocess.run([str(ROOT / "tests" / "install" / "producers.sh")], check=True)
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    # Taken out, because the product refuses settings that it does not know.
    seed = int(os.environ.pop("CATENA_SEED", time.time_ns() % 1_000_000))
    print(f"CATENA_SEED={seed}", flush=True)
    from producing import stage

    unknown = [name for name in sys.argv[1:] if name not in NAMES]
    if unknown:
        sys.exit(f"no producer {unknown[0]}; there are {', '.join(NAMES)}")
    signer = stage.Signer()
    for name in sys.argv[1:] or NAMES:
        scenario = __import__(f"producing.{name}", fromlist=["run"])
        folder = Path(tempfile.mkdtemp())
        begun = time.monotonic()
        try:
            said = scenario.run(folder, seed, signer)
        except stage.Missing as missing:
            if sys.argv[1:]:
                sys.exit(f"{name}: {missing}")
            print(f"{name}: skipped: {missing}", flush=True)
            continue
        except BaseException:
            for log in sorted(folder.glob("*.log")):
                print(f"--- {log.name}, its end:\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            raise
        finally:
            if not os.environ.get("KEEP"):
                shutil.rmtree(folder, ignore_errors=True)
        print(f"{name}: {said} ({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
