#!/bin/sh
# Run once, by InfluxDB's image, when it has set up an empty volume: makes a token that may write the bucket, for the
# relay, and one that may read it, for Grafana. Neither may do anything else; the administrator's stays a secret.
set -eu
umask 077
folder=${TOKENS_FOLDER:-/tokens}

make_token() {
  name=$1
  shift
  influx auth create --org "$DOCKER_INFLUXDB_INIT_ORG" "$@" --json |
    sed -n 's/^.*"token": *"\([^"]*\)".*$/\1/p' > "$folder/$name.part"
  test -s "$folder/$name.part" || { echo "no token to $name was made" >&2; exit 1; }
  chgrp "$TOKENS_GID" "$folder/$name.part"
  chmod 0440 "$folder/$name.part"
  mv "$folder/$name.part" "$folder/$name"
}

make_token write --write-bucket "$DOCKER_INFLUXDB_INIT_BUCKET_ID" --description "The relay: writes"
make_token read --read-bucket "$DOCKER_INFLUXDB_INIT_BUCKET_ID" --description "Grafana: reads"
