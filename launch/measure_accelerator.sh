#!/usr/bin/env bash
# Measures an accelerator: benchmarks in bfloat16 and float32, then whole trainings, timed and evaluated.
#
#   launch/measure_accelerator.sh RESULTS [TFDS_DIR] [CELEBA_ARRAYS]
#
# RESULTS         folder for everything that is measured; made where missing. RESULTS/accelerator.md is the
#                 table of all benchmarks
# TFDS_DIR        where TFDS prepared mnist; "" leaves the MNIST training out
# CELEBA_ARRAYS   folder with train.npy and val.npy, uint8 (N, 32, 32, 3); "" leaves the CelebA trainings out
#
# BENCHMARK_FLAGS and TRAINING_FLAGS, in the environment, are added to every benchmark and training, and
# INPAINTER_FLAGS to the benchmarks of the inpainter.
set -euo pipefail
if [[ "${1:-}" == "--help" ]]; then
  sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
  exit 0
fi
results="${1:?name a folder for the results}"
tfds_dir="${2:-}"
celeba_arrays="${3:-}"
read -ra benchmark_flags <<< "${BENCHMARK_FLAGS:-}"
read -ra training_flags <<< "${TRAINING_FLAGS:-}"
read -ra inpainter_flags <<< "${INPAINTER_FLAGS:-}"
mkdir -p "$results"
results="$(cd "$results" && pwd)"
[[ -z "$tfds_dir" ]] || tfds_dir="$(cd "$tfds_dir" && pwd)"
[[ -z "$celeba_arrays" ]] || celeba_arrays="$(cd "$celeba_arrays" && pwd)"
for name in mnist celeba celeba_multiscale; do
  if [[ -e "$results/$name" ]]; then
    echo "error: $results holds trainings already, whose time would mean nothing; name a new folder." >&2
    exit 1
  fi
done
cd "$(dirname "$0")/.."

benchmark() {  # benchmark NAME CONFIG DTYPE BATCH_SIZE FLAGS...
  local file="$results/benchmark_$1_$3"
  python -m ifanp_jax.benchmark --config="$2" --config.model.compute_dtype="$3" \
    --config.train.batch_size="$4" --output="$file.json" "${@:5}" "${benchmark_flags[@]}" | tee "$file.txt"
}

train() {  # train NAME CONFIG FLAGS...
  local name="$1" started=$SECONDS
  python -m ifanp_jax.main --config="$2" --workdir="$results/$name" \
    --config.model.compute_dtype=bfloat16 "${@:3}" "${training_flags[@]}"
  echo "$name: $((SECONDS - started)) s from start to figures" | tee -a "$results/seconds.txt"
}

for dtype in bfloat16 float32; do
  benchmark celeba_ifanp configs/celeba_ifanp.py "$dtype" 512
  benchmark mnist_ifanp configs/mnist_ifanp.py "$dtype" 512
  benchmark celeba_multiscale configs/celeba_multiscale.py "$dtype" 512
  benchmark deepfill64 configs/faces64.py:deepfill.DeepFill64 "$dtype" 64 "${inpainter_flags[@]}"
  python -m benchmarks collect --results="$results" > "$results/accelerator.md"
done
if [[ -n "$tfds_dir" ]]; then
  train mnist configs/mnist_ifanp.py --config.data.dir="$tfds_dir"
fi
if [[ -n "$celeba_arrays" ]]; then
  arrays=(--config.data.source=arrays --config.data.dir="$celeba_arrays")
  train celeba configs/celeba_ifanp.py "${arrays[@]}"
  train celeba_multiscale configs/celeba_multiscale.py "${arrays[@]}"
fi
cat "$results/accelerator.md"
