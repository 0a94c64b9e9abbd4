#!/usr/bin/env bash
# Keeps of what has been found the few inputs that reach most, as fuzz/corpus/<target>: at most BYTES_MAX for each target, because the
# normal tests try all of them. Inputs under a name that does not look like a digest were put there by hand, and stay.
set -euo pipefail
cd "$(dirname "$0")/.."
BYTES_MAX=9000
# An input beyond this is better as a seed.
INPUT_BYTES_MAX=1500
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
    from=() ; small=$(mktemp -d) ; merged=$(mktemp -d)
    for folder in "fuzz/corpus/$target" "fuzz/found/$target" "fuzz/seeds/$target" fuzz/seeds/written; do
        [ -d "$folder" ] && from+=("$folder")
    done
    # Paths of machines in recorded logs are of no use to anyone.
    find "${from[@]}" -type f -size "-${INPUT_BYTES_MAX}c" -exec cp -n {} "$small" \;
    cargo fuzz run --sanitizer "${SANITIZER:-none}" "$target" "$merged" "$small" -- -set_cover_merge=1 -rss_limit_mb=4096 >"fuzz/found/$target.merge.log" 2>&1
    mkdir -p "fuzz/corpus/$target"
    find "fuzz/corpus/$target" -type f -regextype posix-extended -regex '.*/[0-9a-f]{16,40}' -delete
    kept=0
    # The order in which the merge took them: those that reach most come first.
    while read -r path; do
        size=$(stat -c %s "$path")
        if ((kept + size <= BYTES_MAX)) && ! LC_ALL=C grep -qaE '/(t''mp|ro''ot|wo''rk|ho''me)/' "$path"; then
            cp "$path" "fuzz/corpus/$target/$(sha1sum "$path" | cut -c 1-16)"
            kept=$((kept + size))
        fi
    done < <(ls -1tr "$merged"/* 2>/dev/null)
    rm -r "$small" "$merged"
    echo "$target: $(find "fuzz/corpus/$target" -type f | wc -l) inputs, $kept bytes"
done
