#!/bin/bash
# All tests, part by part. Stops at the first part that fails and names it; ends with what each runner said last.
set -uo pipefail

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
logs=.cache/test
mkdir -p "$logs"
export CATENA_PEERS_PY=$root/.cache/peers/bin/python
export CATENA_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/catena
whole=(--locked --workspace --features catena-tests/whole)
closing=()

part() { # name, pattern of its closing lines, command ...
    local name=$1 pattern=$2 log=$logs/$1.log
    shift 2
    echo
    echo "=== $name: $*"
    local begun=$SECONDS
    "$@" 2>&1 | tee "$log"
    local code=${PIPESTATUS[0]} took=$((SECONDS - begun))
    if [ "$code" != 0 ]; then
        echo
        echo "=== FAILED: $name (exit $code after $took s); its output is in $log"
        exit 1
    fi
    closing+=("$name ($took s)")
    while IFS= read -r line; do closing+=("    $line"); done < <([ -n "$pattern" ] && grep -E "$pattern" "$log")
}

part tools "" tests/install/tools.sh test
part kafka "" tests/kafka/install.sh
part peers "" tests/install/peers.sh
part packages "" tests/install/producers.sh
part build "^ +Finished" cargo build "${whole[@]}" --all-targets
part lint "^ +Finished" make lint
part rust "^test result|^ +Running|^ +Doc-tests" cargo test "${whole[@]}"
part samples "agree|differ" python3 tests/samples.py
part badinput "^file:|^http:|^kafka:|^mend:" python3 tests/badinput.py
part secrets "^secrets:" python3 tests/secrets.py
part exporters "^exporters:" python3 tests/exporters.py
part bombs "^bombs:" python3 tests/bombs.py
part watch "^watch:|^CATENA_SEED" python3 tests/watch.py
part producers "^(opa|cerbos|envoy|registry):|^CATENA_SEED" python3 tests/producers.py
part hazards "^upkeep:|^bucket:|^CATENA_SEED" python3 tests/hazards.py

echo
echo "=== all parts passed, in $SECONDS s"
printf '%s\n' "${closing[@]}"
