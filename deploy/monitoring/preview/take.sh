#!/usr/bin/env bash
# Writes a picture of each dashboard over the made-up past of the tests. See README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(cd ../../.. && pwd)
if ! command -v npm >/dev/null; then
  echo "npm is missing: no pictures are taken" >&2
  exit 0
fi
[[ -n ${BUILT:-} ]] || npm run build >/dev/null

work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; sleep 1; rm -rf "$work"' EXIT

(cd "$root" && exec .venv/bin/python -m tests.monitoring.story "$work") >"$work/address" &
started+=($!)
until [[ -s $work/address ]]; do sleep 1; done
PROMETHEUS=$(cat "$work/address") node node_modules/vite/bin/vite.js preview >/dev/null &
started+=($!)
sleep 20 # the alerts of the story need some seconds to fire

for file in ../dashboards/*.json; do
  name=$(basename "$file" .json)
  height=$(node -e '
    const { panels } = JSON.parse(require("fs").readFileSync(process.argv[1]));
    const bottom = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h));
    console.log(bottom * 38 + 60);' "$file")
  chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars \
    --disable-background-networking --disable-component-update --disable-sync \
    --user-data-dir="$work/chromium-$name" --window-size="1200,$height" \
    --virtual-time-budget=30000 --screenshot="$work/$name.png" \
    "http://127.0.0.1:4173/?dashboard=$name" 2>/dev/null
  pngquant --force --strip --nofs 24 --output "$work/$name.png" "$work/$name.png"
  zopflipng -y --filters=0 --iterations=5 "$work/$name.png" "../pictures/$name.png" >/dev/null
done
