#!/usr/bin/env bash
# run.sh [OPTIONS] [MODEL...] - dla beside ONNX Runtime, OpenVINO, PyTorch and ncnn on this machine (`run.sh --help`).
# run.sh --train [OPTIONS] [MODEL...] - training steps beside PyTorch's (`run.sh --train --help`).
# run.sh --epoch [OPTIONS] FOLDER - an epoch of PyTorch's on a folder of photographs (`run.sh --epoch --help`).
# run.sh --gpu [OPTIONS] [MODEL...] - dla beside PyTorch on a GPU (`run.sh --gpu --help`); gpu_table.py makes tables of the results.
#
#     PEERS_BUILD   build folder of dla, default build; its library is measured
#     PEERS_VENV    Python environment with the packages of requirements.txt, default PEERS_BUILD/peers/venv, made if missing
#     PEERS_MALLOC  library that PyTorch allocates with in --train and --epoch, default tcmalloc where it is installed (Debian:
#                   libtcmalloc-minimal4); empty: glibc, which gives memory back so often that page faults take half of a step
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${PEERS_BUILD:-$root/build}")
venv=${PEERS_VENV:-$build/peers/venv}
script=compare.py

if [[ " $* " == *" --help "* && ! (-e $build/libdla.so && -x $venv/bin/python) ]]; then
    sed -n '2,/^set /{s/^# \{0,1\}//p}' "$0"
    echo "The options of each: the same, once \`make peers\` has built dla and made the Python environment."
    exit 0
fi
if [ ! -e "$build/libdla.so" ]; then
    echo "run.sh: $build has no libdla.so; \`make build\` makes it" >&2
    exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
    echo "run.sh: making $venv: 2 GB from the Python package indexes, 6 where PyTorch comes with CUDA" >&2
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$root/bench/peers/requirements.txt"
fi
mkdir -p "$build/peers"
# Times of kernels are measured and remembered here, not in the user's cache.
export DLA_LIBRARY="$build/libdla.so" DLA_BINARY="$build/dla" PYTHONPATH="$root/python" XDG_CACHE_HOME="$build/peers/cache"
case "${1:-}" in
--gpu)
    script=gpu.py
    shift
    ;;
--train | --epoch)
    script=${1#--}.py
    shift
    export LD_PRELOAD=${PEERS_MALLOC-$(/sbin/ldconfig -p | awk '/libtcmalloc_minimal\.so\.4 / { print $NF; exit }')}
    ;;
esac
exec "$venv/bin/python" "$root/bench/peers/$script" "$@"
