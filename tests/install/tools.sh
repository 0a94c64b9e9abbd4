#!/bin/sh
# Sees to what a build (`tools.sh build`) or all tests (`tools.sh test`) need, and installs what is missing with apt.
# The Rust toolchain itself is the reader's choice: any that meets `rust-version` in Cargo.toml.
set -eu

need=""
want() { # command, Debian package
    command -v "$1" >/dev/null 2>&1 || need="$need $2"
}

if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is missing: install a Rust toolchain first (Cargo.toml names the oldest version)" >&2
    exit 1
fi
# librdkafka, OpenSSL and zstd are built from source.
want cc gcc
want c++ g++
want make make
want perl perl
want bash bash
want cmake cmake
want pkg-config pkg-config
if [ "${1:-build}" = test ]; then
    want python3 python3
    want java openjdk-17-jre-headless
    want mvn maven
    if command -v python3 >/dev/null 2>&1 && ! python3 -c 'import ensurepip' 2>/dev/null; then
        need="$need python3-venv"
    fi
fi
[ -n "$need" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing, and there is no apt-get to install them:$need" >&2
    exit 1
fi
as=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "missing; install them as root:$need" >&2; exit 1; }
    as=sudo
fi
echo "installing$need"
$as apt-get update -qq
# The names are several words.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as apt-get install -y -qq --no-install-recommends $need
