#!/usr/bin/env bash
# Checks and measures the CUDA kernel on this machine's GPU, in about four minutes: the GPU tests, then masked
# layers against dense ones, the batches that matter most first, so that a run that is cut short still leaves
# results. Everything is compiled beforehand, by as many processes as there are tables and shapes. Run it from
# the repository's root with a Python that has the development packages:
#   benchmarks/gpu_check.sh FOLDER [PYTHON]
# FOLDER gets tests.txt and a JSON file per table, with the card's name in it.
set -u
folder=${1:?folder for the results} python=${2:-python3}
mkdir -p "$folder"
TRITON_CACHE_DIR=$(mktemp -d)
export TRITON_CACHE_DIR PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
trap 'rm -rf "$TRITON_CACHE_DIR"' EXIT
tables="bf16:16x32 bf16:64x128 bf16:1x32 bf16:64x8 tf32:16x32"
status=0

layer() { # precision:batch, more arguments
    timeout 100 "$python" -m benchmarks masked_linear --device cuda \
        --precision "${1%:*}" --batches "${1#*:}" "${@:2}"
}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
for table in $tables; do
    for shape in 768x768 3072x768 768x3072; do
        layer "$table" --shapes $shape --runs 1 >/dev/null 2>&1 &
    done
done
timeout 150 "$python" -m pytest -q -m gpu -p no:cacheprovider tests/masking/kernels/test_cuda.py \
    tests/benchmarks/cases/test_masked_linear.py >"$folder/tests.txt" 2>&1 || status=1
tail -15 "$folder/tests.txt"
wait
# What was the fastest while others ran may not be the fastest.
find "$TRITON_CACHE_DIR" -name '*.autotune.json' -delete
for table in $tables; do
    echo "== $table"
    layer "$table" --json "$folder/masked_linear-${table/:/-}.json" || status=1
done
exit $status
