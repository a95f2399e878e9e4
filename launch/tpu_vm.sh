#!/usr/bin/env bash
# Trains on a Cloud TPU slice of any size: asks for it in the queue, and every worker trains as soon as it is there.
#
#   launch/tpu_vm.sh create NAME ZONE --source=GIT_URL --share=HOST:/EXPORT [GCLOUD_FLAGS...] -- ARGUMENTS...
#   launch/tpu_vm.sh status NAME ZONE             state of the request, then of the training on every worker
#   launch/tpu_vm.sh logs NAME ZONE [WORKER]      follows what one worker writes (0 unless given); Ctrl-C ends it
#   launch/tpu_vm.sh delete NAME ZONE             deletes the request and its machines; the share is left as it is
#
# --source       git URL that the workers can read, or a tarball (gs://... or a path under /mnt/shared), made by
#                `git archive --prefix=ifanp_jax/ --output=ifanp_jax.tar.gz HEAD`
# --ref          branch, tag or commit of the git URL (default HEAD); with a commit all workers surely run the same
# --share        NFS export, such as a Filestore instance in the network of the TPU; mounted as /mnt/shared
# GCLOUD_FLAGS   go to `gcloud compute tpus queued-resources create`: --accelerator-type=v6e-16 and
#                --runtime-version=v2-alpha-tpuv6e are needed, --spot, --project or --network may be wanted
# ARGUMENTS      of `python -m ifanp_jax.main`; --workdir lies under /mnt/shared, files of the clone are relative
#
# A worker starts the training again 30 s after it ended, and at every boot, unless it ended with 0 (done) or 1 (an
# error that a new start would meet again). The machines stay, and cost, until `delete`. A spot slice that was
# preempted never comes back: its state is SUSPENDED; `delete` it, and the same `create` goes on from the last
# checkpoint.
set -euo pipefail
usage() { sed -nE '2,/^[^#]/s/^# ?//p' "$0"; }
fail() {
  echo "error: $*" >&2
  exit 1
}

if [[ "${1:-}" == --help ]]; then usage; exit 0; fi
if (( $# < 3 )); then
  usage >&2
  fail "give a command, a name and a zone."
fi
command="$1" name="$2" zone="$3"
shift 3

create() {
  local source="" ref=HEAD share="" workdir="" argument gcloud_flags=()
  while (( $# )) && [[ "$1" != -- ]]; do
    case "$1" in
      --source=*) source="${1#*=}" ;;
      --ref=*) ref="${1#*=}" ;;
      --share=*) share="${1#*=}" ;;
      *) gcloud_flags+=("$1") ;;
    esac
    shift
  done
  [[ -n "$source" && -n "$share" ]] || fail "create needs --source and --share."
  (( $# > 1 )) || fail "the arguments of the training are missing; give them behind a --."
  shift
  for argument in "$@"; do
    if [[ "$argument" == --workdir=* ]]; then workdir="${argument#*=}"; fi
  done
  [[ "$workdir" == /mnt/shared/* ]] || fail "--workdir is '$workdir'; give --workdir=/mnt/shared/..."

  startup_script="$(mktemp)"
  trap 'rm -f "$startup_script"' EXIT
  {
    echo '#!/usr/bin/env bash'
    printf 'source=%q ref=%q share=%q\n' "$source" "$ref" "$share"
    printf 'arguments=('
    printf ' %q' "$@"
    echo ' )'
    cat "$(dirname "$0")/tpu_vm_worker.sh"
  } > "$startup_script"
  gcloud compute tpus queued-resources create "$name" --zone="$zone" --node-id="$name" \
    --metadata-from-file=startup-script="$startup_script" "${gcloud_flags[@]}"
}

on_worker() {  # on_worker WORKER COMMAND
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker="$1" --command="$2"
}

case "$command" in
  create) create "$@" ;;
  status)
    state="$(gcloud compute tpus queued-resources describe "$name" --zone="$zone" --format='value(state.state)')"
    echo "$state"
    if [[ "$state" == ACTIVE ]]; then
      # running: active/running; done: active/exited; error: failed/failed with ExecMainStatus=1
      on_worker all 'hostname; systemctl show ifanp_jax --property=ActiveState,SubState,ExecMainStatus,NRestarts'
    fi
    ;;
  logs) on_worker "${1:-0}" 'sudo journalctl --unit=google-startup-scripts --unit=ifanp_jax --lines=200 --follow' ;;
  delete) gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force ;;
  *) fail "'$command' is no command; there are create, status, logs and delete." ;;
esac
