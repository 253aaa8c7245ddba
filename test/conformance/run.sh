#!/usr/bin/env bash
# Runs the official Connect and gRPC conformance suite against both listeners. Needs Go once, to build the suite.
set -euo pipefail

VERSION=v1.0.7
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
BIN=${DATAPILOT_CACHE:-$HOME/.cache/datapilot}/bin
SUITE=$BIN/connectconformance-$VERSION
export PATH=$ROOT/node_modules/.bin:$PATH

if [ ! -x "$SUITE" ]; then
  command -v go >/dev/null || { echo "Go 1.24 or newer is needed to build the conformance suite: put go on PATH." >&2; exit 1; }
  mkdir -p "$BIN"
  BUILD=$(mktemp -d "$BIN/build.XXXXXX")
  trap 'rm -rf "$BUILD"' EXIT
  (cd "$BUILD" && GOBIN=$BUILD go install "connectrpc.com/conformance/cmd/connectconformance@$VERSION")
  mv "$BUILD/connectconformance" "$SUITE"
fi

passed=0 failed=0
for listener in http grpc; do
  status=0
  log=$("$SUITE" --mode server --conf "$HERE/$listener.yaml" -- node --disable-warning=ExperimentalWarning "$HERE/server.ts" "$listener" 2>&1) || status=$?
  p=$(grep -oE '^[0-9]+ passed' <<<"$log" | tail -1 | cut -d' ' -f1 || true)
  f=$(grep -oE '[0-9]+ failed' <<<"$log" | tail -1 | cut -d' ' -f1 || true)
  p=${p:-0} f=${f:-0}
  # Nothing that ran is a failure too.
  if [ "$p" -eq 0 ] || { [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; }; then f=$((f + 1)); fi
  [ "$f" -eq 0 ] || printf '%s\n' "$log" >&2
  echo "conformance of the $listener listener: $p passed, $f failed"
  passed=$((passed + p)) failed=$((failed + f))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
