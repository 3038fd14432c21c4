#!/usr/bin/env bash
# Build the wheel, install it where there is nothing else, and run there what needs PyTorch and NumPy alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${1:-python3}
bare=$(mktemp -d)
trap 'rm -rf "$bare"' EXIT

"$python" -m venv "$bare/env"
"$bare/env/bin/pip" wheel -qq --disable-pip-version-check --no-deps -w "$bare" .
"$bare/env/bin/pip" install -qq --no-compile --disable-pip-version-check -c constraints.txt "$bare"/nonsmooth-*.whl
echo "installed beside nonsmooth: $("$bare/env/bin/pip" list --format freeze | sed 's/=.*//' | grep -vxE 'pip|setuptools|nonsmooth' | tr '\n' ' ')"

# From another folder, so that the checkout's own source is not what is imported.
mapfile -t pages < <(grep -lE '^```python' README.md $(find docs -name '*.md') | xargs grep -LE 'nonsmooth\[|results/quick' | xargs realpath)
runner=$PWD/tests/environments/run_pages.py
cd "$bare"
failed=$(OMP_NUM_THREADS=1 env/bin/python "$runner" "${pages[@]}")
[[ $failed == "{}" ]] || { echo "$failed"; exit 1; }
echo "${#pages[@]} pages run"

for lacking in 'import nonsmooth.estimators' 'import nonsmooth.claims' 'import nonsmooth.lab'; do
    said=$(env/bin/python -c "$lacking" 2>&1 | tail -n 1) || true
    [[ $said == ImportError:*'pip install "nonsmooth['* ]] || { echo "$lacking: $said"; exit 1; }
done
said=$(env/bin/nonsmooth --help 2>&1) && exit 1
[[ $said == *'pip install "nonsmooth[reproduce]"' && $(wc -l <<<"$said") == 1 ]] || { echo "$said"; exit 1; }
echo "what lacks an extra says which"
