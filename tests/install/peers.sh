#!/bin/sh
# Puts other readers of the lake (DuckDB, delta-rs, PyArrow) and an S3 server (moto), a Kafka client, and the OpenTelemetry SDK into .cache/peers, a Python environment of their own.
# Does nothing when they are there already.
set -eu

packages="duckdb==2.0.0 deltalake==1.6.6 pyarrow==26.0.1 moto[server]==5.2.5 confluent-kafka==2.16.1 opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 opentelemetry-exporter-otlp-proto-grpc==1.45.2"

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
home=$root/.cache/peers
stamp=$home/installed

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$packages" ] && "$home/bin/python" -c 'import duckdb, deltalake, pyarrow, moto.server, confluent_kafka, opentelemetry.exporter.otlp.proto.grpc' 2>/dev/null; then
    exit 0
fi

rm -rf "$home"
mkdir -p "$root/.cache"
python3 -m venv "$home"
# The packages are several words.
# shellcheck disable=SC2086
"$home/bin/pip" install --quiet --disable-pip-version-check $packages
"$home/bin/python" -c 'import duckdb, deltalake, pyarrow, moto.server, confluent_kafka, opentelemetry.exporter.otlp.proto.grpc'
echo "$packages" >"$stamp"
