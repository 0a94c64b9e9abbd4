#!/bin/bash
# All tests, part by part. Parts that need what a failed part installs or builds are not run; all others go on. Ends with the
# closing lines of each runner, and fails when a part has failed.
set -uo pipefail

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
logs=.cache/test
mkdir -p "$logs"
export CATENA_PEERS_PY=$root/.cache/peers/bin/python
export CATENA_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/catena
whole=(--locked --workspace --features catena-tests/whole)
closing=()
failed=()

need() { # like part, but nothing after it can run without it
    part "$@"
    [ "${#failed[@]}" = 0 ] || finish
}

finish() {
    echo
    printf '%s\n' "${closing[@]}"
    echo
    if [ "${#failed[@]}" != 0 ]; then
        printf '=== FAILED: %s\n' "${failed[@]}"
        exit 1
    fi
    echo "=== all parts passed, in $SECONDS s"
    exit 0
}

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
        echo "=== FAILED: $name (exit $code after $took s)"
        failed+=("$name (exit $code after $took s); its output is in $log")
    fi
    closing+=("$name ($took s)$([ "$code" = 0 ] || echo ': FAILED')")
    while IFS= read -r line; do closing+=("    $line"); done < <([ -n "$pattern" ] && grep -E "$pattern" "$log")
}

need tools "" tests/install/tools.sh test
need kafka "" tests/kafka/install.sh
need peers "" tests/install/peers.sh
need packages "" tests/install/producers.sh
need build "^ +Finished" cargo build "${whole[@]}" --all-targets
part lint "^ +Finished" make lint
part rust "^test result|^ +Running|^ +Doc-tests" cargo test "${whole[@]}" --no-fail-fast
part samples "agree|differ" python3 tests/samples.py
part badinput "^file:|^http:|^kafka:|^mend:" python3 tests/badinput.py
part secrets "^secrets:" python3 tests/secrets.py
part exporters "^exporters:" python3 tests/exporters.py
part bombs "^bombs:" python3 tests/bombs.py
part watch "^watch:|^CATENA_SEED" python3 tests/watch.py
part producers "^(opa|cerbos|envoy|registry):|^CATENA_SEED" python3 tests/producers.py
part hazards "^upkeep:|^bucket:|^CATENA_SEED" python3 tests/hazards.py

finish
