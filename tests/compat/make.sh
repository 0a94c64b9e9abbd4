#!/bin/bash
# Makes tests/compat/VERSION with the binary that CATENA_BIN names (target/debug/catena by default).
set -euo pipefail

root=$(cd -- "$(dirname -- "$0")/../.." && pwd)
version=${1:?usage: tests/compat/make.sh VERSION}
bin=${CATENA_BIN:-$root/target/debug/catena}
here=$root/tests/compat/$version
[ ! -e "$here" ] || { echo "$here is there: what a released version wrote is not made again" >&2; exit 1; }
lake=$here/lake
records=$(mktemp -d)
trap 'rm -rf "$records"' EXIT
mkdir -p "$here"

# Each part is a commit of its own.
head -40 "$root/tests/corpus/catena/fleet.ndjson" > "$records/decisions.ndjson"
cat > "$records/others.ndjson" <<'RECORDS'
{"id":"x-1","time":"2026-11-20T09:00:00Z","kind":"execution","requester":{"id":"alice@corp.example"},"actors":[{"id":"agent:compat","kind":"agent"}],"session":{"id":"s-compat"},"server":{"name":"tickets"},"tool":{"name":"close"},"call":{"http":{"status":200}}}
{"id":"r-1","time":"2026-11-20T08:00:00Z","kind":"grant","grant_id":"g-1","grantor":"alice@corp.example","grantee":"agent:compat","authority":{"scope":["tickets:write"]},"basis":"interactive_consent"}
{"id":"broken","time":"2026-11-20T09:00:00Z"}
not a record
RECORDS
printf '%s\n' '{"level":"info","msg":"Initializing server.","time":"2026-11-20T09:00:00Z"}' > "$records/opa.log"
for file in decisions.ndjson others.ndjson opa.log; do
    "$bin" ingest --lake "$lake" --json "$records/$file" > /dev/null
done
"$bin" maintain --lake "$lake" --json > /dev/null
head -60 "$root/tests/corpus/mcp/python-sdk/opa-decisions.jsonl" > "$records/mcp.jsonl"
"$bin" ingest --lake "$lake" --json "$records/mcp.jsonl" > /dev/null

# The role `watch` publishes revisions of chains.
"$bin" serve --lake "$lake" --role watch --listen 127.0.0.1:0 2> "$records/watch.log" &
watch=$!
classes="SELECT class, count(*) AS rows FROM records GROUP BY class ORDER BY class"
for _ in $(seq 100); do
    "$bin" sql --lake "$lake" -o csv "$classes" | grep -q '^chain,' && break
    sleep 0.2
done
kill "$watch"
wait "$watch" || true

chains="SELECT count(*) AS chains, sum(events) AS events, sum(denied) AS denied, max(depth) AS depth FROM chains"
{
    echo '{'
    echo "\"classes\": $("$bin" sql --lake "$lake" --json "$classes"),"
    echo "\"chains\": $("$bin" sql --lake "$lake" --json "$chains")"
    echo '}'
} | python3 -m json.tool > "$here/expected.json"
"$bin" config defaults > "$here/catena.toml"
echo "made $here:"
cat "$here/expected.json"
du -sh "$here"
