#!/usr/bin/env bash
# Runs the fuzz targets, JOBS=1 of them at a time: run.sh SECONDS [TARGET...]. The seconds are of a processor and not of the clock, so
# that a busy machine tries as much as an idle one. A target that finds something leaves it under fuzz/artifacts and does not stop the
# others; the exit code tells. What is new to a target grows in fuzz/found.
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
binaries=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release

# Seconds of a processor that a process has had.
spent() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    read -ra fields <<<"${stat##*) }"
    echo $(((fields[11] + fields[12]) / $(getconf CLK_TCK)))
}

one() {
    local target=$1 folders log had last=0 pid
    folders=("fuzz/found/$target")
    mkdir -p "${folders[0]}" "fuzz/artifacts/$target"
    for folder in "fuzz/corpus/$target" "fuzz/seeds/$target"; do
        [ -d "$folder" ] && folders+=("$folder")
    done
    # Records that tests write out: the only ones there are of many producers.
    case $target in avro | catalogue | frame | json | mapping | protobuf | redact | rules) ;; *) folders+=(fuzz/seeds/written) ;; esac
    log="fuzz/found/$target.log"
    "$binaries/$target" "${folders[@]}" -artifact_prefix="fuzz/artifacts/$target/" -dict=fuzz/catena.dict -max_len=8192 \
        -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 >"$log" 2>&1 &
    pid=$!
    while had=$(spent $pid) && [ -n "$had" ]; do
        last=$had
        # What it has to say at the end is asked for with a signal.
        ((had < seconds)) || { kill -USR1 $pid 2>/dev/null || true; break; }
        sleep 1
    done
    if wait $pid; then
        echo "$target, $last s of a processor: $(grep -aE '^#[0-9]+' "$log" | tail -n 1)"
    else
        echo "$target found something after $last s of a processor:"
        grep -aE 'panicked at|SUMMARY|Test unit written|^error' -A 1 "$log" | tail -n 12 || tail -n 12 "$log"
        return 1
    fi
}

failed=() running=()
# Ends the oldest.
reap() {
    wait "${running[0]%% *}" || failed+=("${running[0]#* }")
    running=("${running[@]:1}")
}
for target in "${targets[@]}"; do
    ((${#running[@]} < ${JOBS:-1})) || reap
    one "$target" &
    running+=("$! $target")
done
while ((${#running[@]} > 0)); do reap; done
[ ${#failed[@]} -eq 0 ] || { echo "found something: ${failed[*]}"; exit 1; }
