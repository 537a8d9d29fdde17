#!/usr/bin/env bash
# Gives tests a Docker engine and the base image, where there may be neither.
#   docker.sh start   prints the DOCKER_HOST to use (empty: the usual one); exit 77: no engine can run here, and why
#   docker.sh images  provides the images of docker-compose.yml that are not ours; after `start`, with its DOCKER_HOST
#   docker.sh stop    stops the engine that `start` started, if it did
# What takes long is kept in PRICING_DOCKER_CACHE (/var/tmp/pricing-docker): images, and the stand-in for a base image
# that cannot be pulled.
set -euo pipefail

base=python:3.11-slim
cache=${PRICING_DOCKER_CACHE:-/var/tmp/pricing-docker}
own=unix://$cache/docker.sock

give_up() {
  echo "no Docker engine: $1" >&2
  exit 77
}

answers() { DOCKER_HOST=$1 timeout 10 docker version >/dev/null 2>&1; }

start_engine() {
  [[ $EUID == 0 ]] || give_up "none answers, and only root could start one"
  command -v dockerd >/dev/null || give_up "none answers, and dockerd is not installed (apt-get install docker.io)"
  mkdir -p "$cache"
  rm -f "$cache/docker.pid"
  setsid dockerd --data-root "$cache/data" --exec-root "$cache/exec" --host "$own" --pidfile "$cache/docker.pid" \
    >"$cache/dockerd.log" 2>&1 </dev/null &
  for _ in {1..60}; do
    ! answers "$own" || return 0
    sleep 0.5
  done
  give_up "dockerd does not start: $(tail -n 1 "$cache/dockerd.log")"
}

# A minimal Debian with this machine's CPython 3.11 under /usr/local, tagged as the base image that cannot be pulled.
stand_in() {
  local prefix root
  command -v mmdebstrap >/dev/null || give_up "$base cannot be pulled, and mmdebstrap, to make a stand-in, is not installed"
  prefix=$(python3.11 -c 'import sys; print(sys.base_prefix)' 2>/dev/null) || give_up "$base cannot be pulled, and there is no python3.11 to make a stand-in of"
  [[ $prefix != /usr ]] || give_up "$base cannot be pulled, and a stand-in needs a python3.11 with a prefix of its own"
  root=$(mktemp -d "$cache/root.XXXXXX")
  trap 'rm -rf "$root"' RETURN
  mmdebstrap --quiet --variant=minbase \
    --include=ca-certificates,netbase,tzdata,libsqlite3-0,libffi8,libssl3t64,zlib1g,libbz2-1.0,liblzma5,libreadline8t64,libexpat1,libuuid1,libncursesw6,libzstd1 \
    trixie "$root" >&2
  rm -rf "$root"/usr/share/{doc,locale,man}  # as in the image that it stands for
  mkdir -p "$root/usr/local/lib/python3.11/site-packages"
  cp -a "$prefix"/lib/libpython3* "$root/usr/local/lib/" 2>/dev/null || true  # absent where Python is linked statically
  tar -C "$prefix/lib/python3.11" --exclude=./site-packages --exclude=./test --exclude='*.a' --exclude=__pycache__ -c . | tar -C "$root/usr/local/lib/python3.11" -x
  install "$prefix/bin/python3.11" "$root/usr/local/bin/python3.11"
  ln -s python3.11 "$root/usr/local/bin/python3"
  ln -s python3.11 "$root/usr/local/bin/python"
  ldconfig -r "$root"
  chroot "$root" python3 -m ensurepip --default-pip >&2
  # A network that is reached through this machine's certificates and settings is reached so from a container too.
  [[ ! -e /etc/pip.conf ]] || cp /etc/pip.conf "$root/etc/pip.conf"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  tar -C "$root" -c . | docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV LANG=C.UTF-8' --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
    --change 'CMD ["python3"]' - "$base" >&2
}

# One Debian with the servers of docker-compose.yml; each image that cannot be pulled is that, with what the published image
# has in common with it: user, folders, first words of the command.
stand_ins() {
  local root context image
  root=$(mktemp -d "$cache/root.XXXXXX")
  context=$(mktemp -d "$cache/context.XXXXXX")
  trap 'rm -rf "$root" "$context"' RETURN
  mmdebstrap --quiet --variant=minbase --include=postgresql-17,prometheus trixie "$root" >&2
  ln -s -t "$root/usr/local/bin" ../../lib/postgresql/17/bin/{initdb,postgres}
  install -d -o "$(stat -c %u "$root/var/lib/postgresql")" -m 700 "$root/var/lib/postgresql/data" "$root/run/postgresql"
  install -d -o 65534 -g 65534 "$root/prometheus"
  cat >"$root/usr/local/bin/postgres-entrypoint" <<'SCRIPT'
#!/bin/sh
set -e
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  printf %s "$POSTGRES_PASSWORD" >/tmp/password
  initdb --pgdata="$PGDATA" --username=postgres --pwfile=/tmp/password --no-sync $POSTGRES_INITDB_ARGS
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec postgres -D "$PGDATA" -c "listen_addresses=*" "$@"
SCRIPT
  chmod 755 "$root/usr/local/bin/postgres-entrypoint"
  tar -C "$root" -c . | docker import - pricing-test-servers >&2
  for image in "$@"; do
    case $image in
      postgres:*) printf 'USER postgres\nENTRYPOINT ["postgres-entrypoint"]\n' ;;
      prom/prometheus:*) printf 'USER 65534\nENTRYPOINT ["prometheus"]\n' ;;
      *) give_up "$image cannot be pulled, and there is no stand-in for it" ;;
    esac | sed '1i FROM pricing-test-servers' >"$context/Dockerfile"
    docker build --quiet --tag "$image" "$context" >&2
  done
}

case ${1:-} in
  images)
    mapfile -t wanted < <(sed -n 's/^ *image: \([a-z][a-z/]*:[^ ]*\)$/\1/p' "$(dirname "$0")/../../docker-compose.yml" | grep -v grafana)
    missing=()
    for image in "${wanted[@]}"; do
      docker image inspect "$image" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$image" >&2 || missing+=("$image")
    done
    ((${#missing[@]} == 0)) || stand_ins "${missing[@]}"
    ;;
  start)
    command -v docker >/dev/null || give_up "the docker command is not installed (apt-get install docker-cli)"
    host=${DOCKER_HOST:-}
    if ! answers "$host"; then
      host=$own
      answers "$host" || start_engine
    fi
    export DOCKER_HOST=$host
    docker buildx version >/dev/null 2>&1 || give_up "the plug-in buildx is not installed (apt-get install docker-buildx)"
    docker compose version >/dev/null 2>&1 || give_up "the plug-in compose is not installed (apt-get install docker-compose)"
    docker image inspect "$base" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$base" >&2 || stand_in
    echo "$host"
    ;;
  stop)
    [[ ! -f $cache/docker.pid ]] || kill "$(<"$cache/docker.pid")"
    ;;
  *)
    echo "usage: docker.sh start|images|stop" >&2
    exit 2
    ;;
esac
