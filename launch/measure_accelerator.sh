#!/usr/bin/env bash
# Measures an accelerator: the benchmark in bfloat16 and float32, then whole trainings, timed and evaluated.
#
#   launch/measure_accelerator.sh RESULTS [TFDS_DIR] [CELEBA_ARRAYS]
#
# RESULTS         folder for everything that is measured; made where missing
# TFDS_DIR        where TFDS prepared mnist; "" leaves the MNIST training out
# CELEBA_ARRAYS   folder with train.npy and val.npy, uint8 (N, 32, 32, 3); "" leaves the CelebA training out
set -euo pipefail
results="${1:?name a folder for the results}"
tfds_dir="${2:-}"
celeba_arrays="${3:-}"
mkdir -p "$results"
results="$(cd "$results" && pwd)"
[[ -z "$tfds_dir" ]] || tfds_dir="$(cd "$tfds_dir" && pwd)"
[[ -z "$celeba_arrays" ]] || celeba_arrays="$(cd "$celeba_arrays" && pwd)"
if [[ -e "$results/mnist" || -e "$results/celeba" ]]; then
  echo "error: $results holds trainings already, whose time would mean nothing; name a new folder." >&2
  exit 1
fi
cd "$(dirname "$0")/.."

benchmark() {  # benchmark NAME DTYPE BATCH_SIZE
  python -m ifanp_jax.benchmark --config="configs/$1_ifanp.py" --config.model.compute_dtype="$2" \
    --config.train.batch_size="$3" --output="$results/benchmark_$1_$2.json" | tee "$results/benchmark_$1_$2.md"
}

train() {  # train NAME FLAGS...
  local name="$1" started=$SECONDS
  shift
  python -m ifanp_jax.main --config="configs/${name}_ifanp.py" --workdir="$results/$name" \
    --config.model.compute_dtype=bfloat16 "$@"
  echo "$name: $((SECONDS - started)) s from start to figures" | tee -a "$results/seconds.txt"
}

for dtype in bfloat16 float32; do
  benchmark celeba "$dtype" 512
  benchmark mnist "$dtype" 512
done
if [[ -n "$tfds_dir" ]]; then
  train mnist --config.data.dir="$tfds_dir"
fi
if [[ -n "$celeba_arrays" ]]; then
  train celeba --config.data.source=arrays --config.data.dir="$celeba_arrays"
fi
