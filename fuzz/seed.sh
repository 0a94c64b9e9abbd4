#!/usr/bin/env bash
# Cuts the recorded logs, and the records that tests write out, into one file per record: fuzz/seeds/<target>.
# The same corpus gives the same seeds. Nothing here is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 - "$@" <<'PY'
import base64, glob, gzip, hashlib, json, pathlib, re, shutil

ROOT = pathlib.Path("fuzz/seeds")
BYTES_MAX = 4096  # a fuzzer learns more from many short records than from few long ones
PER_FILE = 40
CORPUS = pathlib.Path("tests/corpus")
# Folders of machines that logs were recorded on, and something as long.
PLACES = [("/" + a + "/", "/" + b + "/") for a, b in [("t" "mp", "srv"), ("wo" "rk", "data"), ("ro" "ot", "data"), ("ho" "me", "data")]]

shutil.rmtree(ROOT, ignore_errors=True)


def seed(target, data):
    if isinstance(data, str):
        data = data.encode()
    for place, other in PLACES:
        data = data.replace(place.encode(), other.encode())
    if len(data) <= BYTES_MAX:
        folder = ROOT / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)


def body(path):
    data = (CORPUS / path).read_bytes()
    return gzip.decompress(data) if path.endswith(".gz") else data


def spread(items):
    """Some of many, from everywhere among them; each shape of line at least once."""
    items = [i for i in items if 0 < len(i) <= BYTES_MAX]
    return items[:: max(1, len(items) // PER_FILE)]


def lines(path):
    return spread([l for l in body(path).split(b"\n") if l.strip()])


def message(record, key="value_b64"):
    """A message of Kafka as the harness reads it: headers, then the value."""
    head = "".join(f"@{name}: {value}\n" for name, value in record.get("headers", []))
    return head.encode() + base64.b64decode(record.get(key) or "")


formats = re.findall(r'Format::\w+ => "([a-z-]+)"', pathlib.Path("ingest/decode/src/lib.rs").read_text())
formats = [f for f in formats if (pathlib.Path("fuzz/fuzz_targets") / f"{f}.rs").exists()]

recorded = {
    "agentgateway": lines("agentgateway/access.jsonl"),
    "catena": lines("catena/fleet.ndjson"),
    "cerbos": lines("cerbos/file/audit.log.gz") + lines("cerbos/file/server.log.gz"),
    "cloudevents": lines("cloudevents/structured.jsonl"),
    "envoy": lines("envoy/access.jsonl") + lines("envoy/access-default.log"),
    "mcp": lines("mcp/python-sdk/exchanges.jsonl.gz"),
    "opa": lines("opa/main/console.stderr.gz") + lines("mcp/python-sdk/opa-decisions.jsonl"),
    "openfga": lines("openfga/openfga.log"),
}
for path in ["cerbos/kafka-json", "cerbos/kafka-proto"]:
    messages = [json.loads(l) for l in body(f"{path}/messages.jsonl.gz").splitlines()]
    recorded["cerbos"] += spread([message(m) for m in messages])
recorded["cloudevents"] += [message(json.loads(l)) for l in body("cloudevents/binary.jsonl").splitlines()]
batch = json.loads(body("cloudevents/batch.json"))
recorded["cloudevents"].append(json.dumps(batch[:2]).encode())
recorded["otlp"] = []
for name in ["logs", "spans"]:
    recorded["otlp"].append(b"@content-type: application/x-protobuf\n" + body(f"otlp/{name}.pb"))
    # One record per request, so that they are short.
    request = json.loads(body(f"otlp/{name}.json"))
    for top, scopes, records in [("resourceLogs", "scopeLogs", "logRecords"), ("resourceSpans", "scopeSpans", "spans")]:
        for resource in request.get(top, []):
            for scope in resource[scopes]:
                for record in scope[records]:
                    one = {top: [{**resource, scopes: [{**scope, records: [record]}]}]}
                    recorded["otlp"].append(json.dumps(one, separators=(",", ":")).encode())

# Records that tests write out: of producers without a recorded log they are all there is.
written, schemas, mappings, rules, catalogues = [], [], [], [], []
for path in sorted(glob.glob("ingest/decode/tests/*.rs") + glob.glob("ingest/decode/src/**/*.rs", recursive=True)):
    text = pathlib.Path(path).read_text()
    texts = re.findall(r'r#"(.*?)"#', text, re.S)
    written += [t for t in texts if t.lstrip()[:1] in ("{", "[") and len(t) > 20]
    plain = [t.replace("\\n", "\n").replace('\\"', '"') for t in re.findall(r'"((?:[^"\\]|\\.){12,}?)"', text)]
    schemas += [t for t in texts + plain if re.search(r"\b(message|enum)\s+\w+\s*\{", t)]
    mappings += [t for t in texts + plain if re.match(r"\s*(format|name|extends)\s*=", t)]
    rules += [t for t in texts + plain if re.search(r"\[\[rule\]\]|^\s*(off|telling|plain)\s*=", t, re.M)]
    catalogues += [t for t in texts + plain if re.match(r"\s*(tools:|- |server,|tool,|\{\"tools\")", t)]

for format in formats:
    for data in recorded.get(format, []):
        seed(format, data)
        seed("auto", data)
for text in written:
    seed("written", text)
# Of the plants those that are texts, and those that are members: `PLANTS` in fuzz/src/plant.rs.
TEXTS, MEMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 16], [8, 11]
for number, data in enumerate(d for f in sorted(recorded) for d in recorded[f][::4]):
    # A format, a secret and a template in which the secret takes the place of a string.
    texts = [m for m in re.finditer(rb'"[^"\\]{3,60}"', data)]
    if texts:
        at = texts[number * 7 % len(texts)]
        template = data[: at.start() + 1] + b"$$" + data[at.end() - 1 :]
        seed("redact", bytes([number % 21, TEXTS[number % 12]]) + template)
        member = data[: at.start()] + b'{$$,"a":1}' + data[at.end() :]
        seed("redact", bytes([number % 21, MEMBERS[number % 2]]) + member)
for number, text in enumerate(t for t in written if '"' in t):
    data = text.encode()
    texts = [m for m in re.finditer(rb'"[^"\\]{1,60}"', data)]
    if texts:
        at = texts[number * 7 % len(texts)]
        seed("redact", bytes([0, TEXTS[number % 12]]) + data[: at.start() + 1] + b"$$" + data[at.end() - 1 :])

for data in recorded["catena"]:
    seed("wire", data)
for text in written:
    if '"catena"' in text or '"kind"' in text or '"decision"' in text:
        seed("wire", text)
seed("wire", '{"id":"1","time":"2026-01-01T00:00:00Z","decision":{"verdict":"allow"},"catena":{"format":"opa","index":3,"count":9,"flags":["x"]}}')

for data in [d for f in recorded for d in recorded[f][::10]]:
    seed("json", data)
    seed("frame", b"\x07" + data + b"\n" + data)
    seed("frame", b"\x20" + gzip.compress(data, mtime=0))
for text in written[::5]:
    seed("json", text)
    seed("frame", "\x0f[" + text + ", " + text + "]\n")
    try:
        seed("frame", "\x03" + json.dumps(json.loads(text), indent=1))
    except ValueError:
        pass

for path in glob.glob("ingest/decode/mappings/**/*.toml", recursive=True):
    seed("mapping", pathlib.Path(path).read_text())
for text in mappings:
    seed("mapping", text)
    seed("mapping", text + '\n[outcome]\nfrom = "/item/verdict"\n[outcome.values]\npermit = "allow"\ndeny = "deny"\n')
seed("mapping", "format = 'mapped'\neach = '/list'\npair = { with = '/pairs', item = '/id', other = '/id' }\nparse = ['/text']\n[fields]\nid = '/item/id'\ntime = ['/item/at', '/record/time']\n'requester.id' = '/record/who/sub'\n'actors.act' = '/record/who/act'\n")

for text in rules:
    seed("rules", text)
for text in schemas:
    seed("protobuf", text.encode() + b"\0\0\0\0\1\0\x0a\3abc\x10\7")
for path in ["cerbos", "otlp", "well_known"]:
    text = pathlib.Path(f"ingest/decode/schemas/{path}.proto").read_text()
    for part in re.findall(r"(?:message|enum) \w+ \{.*?\n\}", text, re.S):
        seed("protobuf", 'syntax = "proto3";\n' + part + "\n\0\0\0\0\1\0\x0a\3abc")
AVRO = [
    ('"string"', b"\x06abc"),
    ('{"type":"array","items":["null","long"]}', b"\x04\x02\x0e\x00\x00"),
    ('{"type":"map","values":"double"}', b"\x02\x02a" + b"\x00" * 8 + b"\x00"),
    ('{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"b","type":["null","R"]},{"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},{"name":"f","type":{"type":"fixed","name":"F","size":2}}]}', b"\x0e\x00\x02ab"),
    ('{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}', b"\x04\x01\x02"),
    ('["null","boolean","int","float",{"type":"int","logicalType":"date"}]', b"\x08\x0e"),
]
for schema, data in AVRO:
    seed("avro", schema.encode() + b"\0\0\0\0\1" + data)
for text in catalogues:
    for kind in range(3):
        seed("catalogue", bytes([kind]) + text.encode())
seed("catalogue", "\0server: s\napproved_by: me\ntools:\n- tool: a\n  action: read\n  impact: 2\n- {tool: b, data_class: pii}\n")
seed("catalogue", "\1server,tool,action,impact\ns,a,read,1\ns,\"b,c\",admin,3\n")
seed("catalogue", '\2{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","description":"d","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}]}}')
for folder in sorted(ROOT.iterdir()):
    print(f"{folder.name}: {len(list(folder.iterdir()))}")
PY
