#!/usr/bin/env bash
# `make supply-chain`: what we install, what we build, and what builds it. Every check runs, and the
# status is 1 when one of them has failed. The bill of materials is in dist/ afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

here=deploy/supply_chain
tools=.local/supply-chain
runtime=.local/runtime
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
bom=dist/contactstream-$version.cdx.json
python=.venv/bin/python
export PYTHONDONTWRITEBYTECODE=1

# An environment with exactly what a lock names. Made again when the lock has changed.
environment() {
  local folder=$1 lock=$2
  cmp --silent "$lock" "$folder/installed.lock" && return
  echo "installing what $lock names ..." >&2
  rm -rf "$folder"
  .venv/bin/uv venv --quiet --python "$python" "$folder"
  .venv/bin/uv pip install --quiet --python "$folder/bin/python" --require-hashes \
    --only-binary :all: --requirement "$lock"
  cp "$lock" "$folder/installed.lock"
}

# Two builds with all file times different must be the same bytes.
reproducible_wheel() {
  local first second copy=$tools/copy
  rm -rf "$copy" "$tools/first" "$tools/second"
  mkdir -p "$copy"
  cp -r pyproject.toml README.md connectors streams "$copy/"
  find "$copy" -exec touch -d @1000000000 {} +
  $python -m hatchling build --target wheel --directory "$tools/first" >/dev/null
  (cd "$copy" && "$OLDPWD/$python" -m hatchling build --target wheel \
    --directory "$OLDPWD/$tools/second") >/dev/null
  first=$(sha256sum <"$(echo "$tools"/first/*.whl)")
  second=$(sha256sum <"$(echo "$tools"/second/*.whl)")
  cp "$tools"/first/*.whl dist/
  echo "${first%% *}"
  [[ $first == "$second" ]] || { echo "the second build is ${second%% *}" >&2; return 1; }
}

# Of the lock alone: everything that our modules import is there.
runtime_suffices() {
  local site=$runtime/wheel
  rm -rf "$site"
  $python -m zipfile --extract "$(echo "$tools"/first/*.whl)" "$site"
  PYTHONPATH=$site "$runtime/bin/python" - <<'END'
import importlib, pkgutil
count = 0
for name in ("connectors", "streams"):
    package = importlib.import_module(name)
    for each in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(each.name)
        count += 1
print(f"{count} modules import")
END
}

bill_of_materials() {
  "$tools/bin/cyclonedx-py" environment --pyproject pyproject.toml --mc-type application \
    --schema-version 1.6 --output-reproducible --validate --outfile "$bom" "$runtime/bin/python"
  echo "$bom: $(grep -c '"purl"' "$bom") packages, valid CycloneDX 1.6"
}

licences() { "$runtime/bin/python" $here/licences.py $here/licences.toml; }
unsafe_calls() {
  "$tools/bin/bandit" --quiet --configfile pyproject.toml --recursive connectors deploy streams
}
# It says for each package which module it takes it for: the packages are not installed there.
dependencies() { "$tools/bin/deptry" . --no-ansi 2> >(grep --invert-match '^Assuming' >&2); }
# secrets.baseline has what a person has looked at: made-up secrets of the simulators, and hashes.
# The tests are full of the former, so that only keys of a known form count there.
secrets() {
  local baseline=$tools/secrets.baseline files status=0
  cp $here/secrets.baseline "$baseline"
  mapfile -d '' files < <(git ls-files -z)
  "$tools/bin/detect-secrets-hook" --baseline "$baseline" "${files[@]}" || status=$?
  # With 3, known ones have only moved to other lines.
  ((status == 0 || status == 3)) || return 1
  mapfile -d '' files < <(git ls-files -z tests)
  "$tools/bin/detect-secrets-hook" --disable-plugin KeywordDetector \
    --disable-plugin HexHighEntropyString --disable-plugin Base64HighEntropyString \
    --disable-plugin BasicAuthDetector "${files[@]}"
}
dockerfile() { "$tools/bin/hadolint" deploy/image/Dockerfile; }
policies() {
  "$tools/bin/checkov" --config-file $here/checkov.yaml --directory deploy
  "$tools/bin/checkov" --config-file $here/checkov.yaml --directory .github
}
schemas() {
  local check=$tools/bin/check-jsonschema
  "$check" --builtin-schema vendor.github-workflows .github/workflows/*.yml
  "$check" --builtin-schema vendor.dependabot .github/dependabot.yml
  "$check" --builtin-schema vendor.compose-spec deploy/compose/compose.yaml
}
workflows() { "$tools/bin/zizmor" --offline --persona pedantic .github; }

mkdir -p dist
environment "$tools" $here/tools.lock
environment "$runtime" deploy/runtime.lock

failed=()
for check in reproducible_wheel runtime_suffices bill_of_materials licences unsafe_calls \
  dependencies secrets dockerfile policies schemas workflows; do
  echo "== ${check//_/ }"
  # Not in an `if` or a list with `||`: there a failed command would not end the function.
  set +e
  (set -e; $check)
  status=$?
  set -e
  ((status == 0)) || failed+=("${check//_/ }")
done
((${#failed[@]} == 0)) || { echo "failed: $(IFS=,; echo "${failed[*]}")" >&2; exit 1; }
echo "every check has passed"
