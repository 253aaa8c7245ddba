#!/usr/bin/env bash
# Tests that need a container engine and HAProxy. Uses an engine that answers; else starts a dockerd of its own, as root, without
# touching the machine's network rules, and ends it. Exit 3: something is missing, and it says what.
set -euo pipefail
cd "$(dirname "$0")/../.."
missing=()
command -v haproxy >/dev/null || missing+=("HAProxy (apt-get install haproxy)")
work=$(mktemp -d "${TMPDIR:-/tmp}/datapilot-docker.XXXXXX")
finish() {
  if [ -f "$work/dockerd.pid" ]; then
    local pid
    pid=$(cat "$work/dockerd.pid")
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
    ip link delete docker0 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT

answers() { curl -sf --max-time 3 ${1:+--unix-socket "$1"} "${2:-http://localhost}/_ping" >/dev/null 2>&1; }
engine=${DOCKER_HOST:-unix:///var/run/docker.sock}
case $engine in
  unix://*) answers "${engine#unix://}" && found=1 || found= ;;
  tcp://*) answers "" "http://${engine#tcp://}" && found=1 || found= ;;
  *) found= ;;
esac
if [ -z "$found" ]; then
  if command -v dockerd >/dev/null && [ "$(id -u)" = 0 ]; then
    dockerd --host "unix://$work/docker.sock" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
      --storage-driver "${DATAPILOT_STORAGE_DRIVER:-overlay2}" --bip 172.31.250.1/24 --ip 127.0.0.1 --iptables=false --ip6tables=false \
      --ip-forward=false --ip-masq=false --log-level warn >"$work/dockerd.log" 2>&1 &
    for _ in $(seq 150); do
      answers "$work/docker.sock" && found=1 && break
      sleep 0.2
    done
    if [ -n "$found" ]; then
      # Its cleaner is an image that would have to be pulled.
      export DOCKER_HOST="unix://$work/docker.sock" TESTCONTAINERS_RYUK_DISABLED=true TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1
    else
      tail -n 5 "$work/dockerd.log" >&2
      missing+=("a container engine (dockerd is there and does not start: see above)")
    fi
  else
    missing+=("a container engine (set DOCKER_HOST, or apt-get install docker.io and run as root)")
  fi
fi
if [ ${#missing[@]} -gt 0 ]; then
  printf 'test-platform: missing: %s\n' "${missing[@]}" >&2
  exit 3
fi
PATH=$PWD/node_modules/.bin:$PATH vitest run --config vitest.platform.config.ts
