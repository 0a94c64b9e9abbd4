#!/usr/bin/env python3
"""Real OpenTelemetry SDKs send to a running `catena serve`, and what they sent stands in the lake.

Usage: exporters.py     CATENA_BIN names the binary, CATENA_PEERS_PY a Python with the OpenTelemetry SDK

Logs and spans, over HTTP with protobuf and over gRPC with gzip, by the exporters that gateways use. A log that says its
verdict is a decision, one of a call without any is an execution, one of something else is set aside. Exit code 0 when the
totals agree with what was sent.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from badinput import PEERS, Served, catena  # noqa: E402

SEND = """
import logging, sys
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry._logs import LogRecord, SeverityNumber
way, endpoint, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
if way == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    logs, spans = (e(endpoint=endpoint, insecure=True, compression=Compression.Gzip) for e in (OTLPLogExporter, OTLPSpanExporter))
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    logs = OTLPLogExporter(endpoint=endpoint + "/v1/logs", compression=Compression.Gzip)
    spans = OTLPSpanExporter(endpoint=endpoint + "/v1/traces", compression=Compression.NoCompression)
resource = Resource.create({"service.name": "gateway", "service.instance.id": "gateway-" + way})
tracing = TracerProvider(resource=resource)
tracing.add_span_processor(BatchSpanProcessor(spans))
logging_ = LoggerProvider(resource=resource)
logging_.add_log_record_processor(BatchLogRecordProcessor(logs))
tracer, logger = tracing.get_tracer("agent"), logging_.get_logger("authz.audit")
import time
for i in range(n):
    with tracer.start_as_current_span("tools/call ticket.read", attributes={"mcp.method.name": "tools/call", "gen_ai.tool.name": "ticket.read", "gen_ai.agent.id": "agent:a"}):
        verdict = ["allow", "deny", "deny"][i % 3]
        attributes = {"mcp.method.name": "tools/call", "gen_ai.tool.name": "ticket.delete", "gen_ai.agent.id": "agent:a", "user.id": f"user{i % 5}@corp.example", "gen_ai.security.decision.type": verdict}
        logger.emit(LogRecord(timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, body=verdict, attributes=attributes, event_name="authz.decision"))
        logger.emit(LogRecord(timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, body="started", attributes={"thread": i}))
tracing.shutdown()
logging_.shutdown()
"""
PAIRS = 60


def main():
    if subprocess.run([PEERS, "-c", "import opentelemetry.exporter.otlp.proto.grpc"], capture_output=True).returncode:
        sys.exit("exporters: the OpenTelemetry SDK is not installed: tests/install/peers.sh")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Served(folder, "[flush]\nage_ms = 200\n") as served:
            for way in ("http", "grpc"):
                endpoint = f"http://127.0.0.1:{served.port}"
                sent = subprocess.run([PEERS, "-c", SEND, way, endpoint, str(PAIRS)], capture_output=True, text=True, timeout=120)
                if sent.returncode or "Failed" in sent.stderr or "rror" in sent.stderr:
                    sys.exit(f"exporters: {way}: {sent.stdout[-800:]} {sent.stderr[-2500:]}")
            served.stop()
        lake = folder / "lake"
        ask = lambda sql: json.loads(catena("sql", "--lake", lake, "-o", "json", sql))
        found = {
            "decisions": ask("SELECT source, outcome, count(*) AS n, count(DISTINCT requester) AS people, count(trace_id) AS traced FROM decisions GROUP BY source, outcome ORDER BY source, outcome"),
            "executions": ask("SELECT source, tool, count(*) AS n, count(DISTINCT span_id) AS spans FROM executions GROUP BY source, tool ORDER BY source"),
            "asides": ask("SELECT reason, count(*) AS n FROM asides GROUP BY reason"),
            "rejects": ask("SELECT reason, detail FROM rejects"),
        }
        third = PAIRS // 3
        both = [s for way in ("grpc", "http") for s in [f"gateway-{way}"]]
        wanted = {
            "decisions": [{"source": s, "outcome": o, "n": n, "people": 5, "traced": n} for s in both for o, n in (("allow", third), ("deny", 2 * third))],
            "executions": [{"source": s, "tool": "ticket.read", "n": PAIRS, "spans": PAIRS} for s in both],
            "asides": [{"reason": "otlp_unrelated", "n": 2 * PAIRS}],
            "rejects": [],
        }
        for key, want in wanted.items():
            if found[key] != want:
                sys.exit(f"exporters: {key} are {found[key]}, and should be {want}")
        joined = ask("SELECT count(*) AS n FROM decisions d JOIN executions e ON d.trace_id = e.trace_id AND d.source = e.source")
        if joined[0]["n"] != 2 * PAIRS:
            sys.exit(f"exporters: {joined} of {2 * PAIRS} decisions stand in the trace of their call")
        print(f"exporters: {2 * PAIRS} decisions, {2 * PAIRS} executions and {2 * PAIRS} other logs over HTTP and gRPC, each as it was sent")


if __name__ == "__main__":
    main()
