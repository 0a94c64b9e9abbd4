#!/usr/bin/env bash
# Runs the fuzz targets one after another: run.sh SECONDS [TARGET...]. A target that finds something leaves it under
# fuzz/artifacts and does not stop the others; the exit code tells. What is new to a target grows in fuzz/found.
#
# Without a sanitizer, because our own code is safe Rust: overflows and assertions are on all the same. SANITIZER=address (with a
# nightly toolchain) also watches the C of zstd, at half the speed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?how many seconds for each target}
shift
sanitizer=${SANITIZER:-none}
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
[ -d fuzz/seeds ] || fuzz/seed.sh
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
cargo fuzz build --sanitizer "$sanitizer"

failed=()
for target in "${targets[@]}"; do
    folders=("fuzz/found/$target")
    mkdir -p "${folders[0]}"
    for folder in "fuzz/corpus/$target" "fuzz/seeds/$target"; do
        [ -d "$folder" ] && folders+=("$folder")
    done
    # Records that tests write out: the only ones there are of many producers.
    case $target in avro | catalogue | frame | json | mapping | protobuf | redact | rules) ;; *) folders+=(fuzz/seeds/written) ;; esac
    log="fuzz/found/$target.log"
    echo "$target for $seconds s"
    if cargo fuzz run --sanitizer "$sanitizer" "$target" "${folders[@]}" -- -dict=fuzz/catena.dict -max_len=8192 \
        -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 >"$log" 2>&1; then
        grep -E '^#[0-9]+.*DONE' "$log" | tail -n 1
    else
        grep -aE 'panicked at|SUMMARY|Test unit written|^error' -A 1 "$log" | tail -n 12 || tail -n 12 "$log"
        failed+=("$target")
    fi
done
[ ${#failed[@]} -eq 0 ] || { echo "found something: ${failed[*]}"; exit 1; }
