#!/usr/bin/env bash
# Runs one training as N processes on this machine: a GPU each, or on CPU with a device each.
#
#   launch/local_processes.sh N --config=configs/digits_ifanp.py --workdir=runs/digits_ifanp ...
#
# N         number of processes; what follows goes to every `python -m ifanp_jax.main`. The flags that tell the
#           processes of each other (--coordinator, --num_processes, --process_id) are added here.
#
# JAX_PLATFORMS=cpu keeps it off the GPUs; CUDA_VISIBLE_DEVICES=2,3 says which of them to take.
# SIGTERM and SIGINT (Ctrl-C) go once to every process, which saves and ends; a second one ends them at once.
# A closed terminal counts as SIGTERM, unless `nohup` stands in front.
# When one process fails the others notice by their heartbeat; this waits until all have ended.
#
# Exit status: 0 when all processes end with 0. Otherwise the first of these that a process ended with:
#   1              an error that a new start would meet again: do not restart
#   any other      a process crashed or was killed (137: out of memory?): restart
#   75             another process vanished or is stuck: restart
#   143, then 130  SIGTERM or SIGINT, the state is saved: restart
set -euo pipefail
usage() { sed -nE '2,/^[^#]/s/^# ?//p' "$0"; }
if [[ "${1:-}" == --help ]]; then usage; exit 0; fi
if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  usage >&2
  echo "error: the first argument is the number of processes, not '${1:-}'." >&2
  exit 1
fi
num_processes="$1"
shift

gpus=()
if [[ "${JAX_PLATFORMS:-cuda}" =~ cuda|gpu ]]; then
  if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
    IFS=, read -ra gpus <<< "$CUDA_VISIBLE_DEVICES"
  elif command -v nvidia-smi > /dev/null; then
    mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null || true)
  fi
fi
if (( ${#gpus[@]} < num_processes )); then
  if [[ "${JAX_PLATFORMS:-}" =~ cuda|gpu ]]; then
    echo "error: $num_processes processes need as many GPUs, but there are ${#gpus[@]}." >&2
    exit 1
  fi
  if (( ${#gpus[@]} )); then
    echo "$num_processes processes but ${#gpus[@]} GPUs: all run on CPU." >&2
  fi
  gpus=()
  export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
fi

severity() {  # of an exit status: the highest one is reported
  case "$1" in 0) echo 0 ;; 130) echo 1 ;; 143) echo 2 ;; 75) echo 3 ;; 1) echo 5 ;; *) echo 4 ;; esac
}

pids=()
signal=""
forward() {
  signal="$1"
  kill -s "$signal" "${pids[@]}" 2> /dev/null || true  # some may have ended
}
trap 'forward TERM' TERM HUP
trap 'forward INT' INT

port="$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
set -m  # a process group each: Ctrl-C reaches the processes only from here, and so only once
for (( index = 0; index < num_processes; index++ )); do
  if (( ${#gpus[@]} )); then export CUDA_VISIBLE_DEVICES="${gpus[index]}"; fi
  python -m ifanp_jax.main "$@" --coordinator="127.0.0.1:$port" --num_processes="$num_processes" \
    --process_id="$index" < /dev/null &
  pids+=("$!")
done
if [[ -n "$signal" ]]; then forward "$signal"; fi  # it came before all were there

status=0
for pid in "${pids[@]}"; do
  while :; do
    signal=""
    code=0
    wait "$pid" || code=$?
    if [[ -z "$signal" ]]; then break; fi  # else it was the signal that ended `wait`: once more
  done
  if (( $(severity "$code") > $(severity "$status") )); then status="$code"; fi
done
exit "$status"
