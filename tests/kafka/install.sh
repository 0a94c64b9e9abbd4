#!/bin/sh
# Puts Apache Kafka's jars into .cache/kafka/libs below the project root, by their Maven package names.
# Needs: Maven and Java 17. Does nothing when they are there already.
set -eu

kafka=org.apache.kafka:kafka_2.13:4.1.0
logger=org.slf4j:slf4j-nop:1.7.36

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
home=$root/.cache/kafka
libs=$home/libs
stamp=$home/installed

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$kafka $logger" ]; then
    exit 0
fi

dependency() {
    echo "<dependency><groupId>$1</groupId><artifactId>$2</artifactId><version>$3</version></dependency>"
}

# Fetched beside and moved into place at the end: an interrupted run leaves nothing that looks complete.
work=$home/fetch.$$
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
IFS=:
{
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>catena</groupId><artifactId>kafka</artifactId>'
    echo '<version>1</version><packaging>pom</packaging><dependencies>'
    # The fields of a package name are what is split here.
    # shellcheck disable=SC2086
    dependency $kafka
    # shellcheck disable=SC2086
    dependency $logger
    echo '</dependencies></project>'
} >"$work/pom.xml"
unset IFS

mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/libs"
rm -rf "$libs"
mv "$work/libs" "$libs"
echo "$kafka $logger" >"$stamp"
