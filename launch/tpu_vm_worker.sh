# shellcheck shell=bash
# Start-up script of every TPU worker, run by root at each boot: installs what is missing and starts the training.
#
# Sent by launch/tpu_vm.sh, which puts the settings in front: source, ref, share and the array arguments.
# IFANP_JAX_ROOT, for tests, stands before every path that is written to.
set -euo pipefail
root="${IFANP_JAX_ROOT:-}"
home="$root/opt/ifanp_jax"
shared="$root/mnt/shared"
: "${source:?}" "${ref:?}" "${share:?}" "${arguments[0]:?}"

retry() {  # until it works: the network may not be up yet, and the other workers wait for this one
  until "$@"; do
    echo "again in 30 s: $*"
    sleep 30
  done
}

mount_share() { mountpoint --quiet "$shared" || mount -t nfs "$share" "$shared"; }

get_source() {  # `until` above switches `set -e` off in here
  rm -rf "$home/source" && mkdir -p "$home/source" && cd "$home/source" &&
    case "$source" in
      gs://*) gcloud storage cat "$source" | tar -xz --strip-components=1 ;;
      /*) tar -xzf "$root$source" --strip-components=1 ;;
      *) git init --quiet && git fetch --quiet --depth=1 "$source" "$ref" && git checkout --quiet FETCH_HEAD ;;
    esac
}

install_package() {  # with a Python of its own: that of the image may be too old
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet uv &&
    python3 -m uv venv --quiet --clear --python=3.12 "$home/venv" &&
    python3 -m uv pip install --quiet --python="$home/venv/bin/python" --editable "$home/source[tpu]"
}

mkdir -p "$shared" "$home" "$root/etc/systemd/system"
if [[ ! -e "$home/installed" ]]; then
  retry apt-get -o DPkg::Lock::Timeout=600 update --quiet
  retry apt-get -o DPkg::Lock::Timeout=600 install --quiet --yes git nfs-common python3-pip
fi
retry mount_share
if [[ ! -e "$home/installed" ]]; then
  retry get_source
  retry install_package
  touch "$home/installed"
fi

{
  printf 'exec %q -m ifanp_jax.main' "$home/venv/bin/python"
  printf ' %q' "${arguments[@]}"
  echo
} > "$home/train.sh"
# 1 is an error that a new start would meet again; after 143, 75 and all others the training goes on.
cat > "$root/etc/systemd/system/ifanp_jax.service" << UNIT
[Unit]
Description=Training of ifanp_jax
Wants=network-online.target
After=network-online.target
RequiresMountsFor=$shared

[Service]
WorkingDirectory=$home/source
Environment=HOME=/root
ExecStart=/bin/bash $home/train.sh
Restart=on-failure
RestartPreventExitStatus=1
RestartSec=30
RemainAfterExit=yes
KillMode=mixed
TimeoutStopSec=120
UNIT
systemctl daemon-reload
systemctl start ifanp_jax
