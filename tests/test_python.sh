#!/usr/bin/env bash
# The wheel, unpacked elsewhere, passes the Python tests (those against timm and torchvision where they are installed).
set -euo pipefail
build=$(cd "$(dirname "$1")" && pwd)
source_root=$(realpath "$2")
if grep -qE '^DLA_(SANITIZE|FUZZ|COVERAGE):BOOL=ON' "$build/CMakeCache.txt"; then
    echo "skipped: an instrumented library cannot be loaded into Python"
    exit 77
fi
python=
for candidate in "${PYTHON:-python3}" /usr/bin/python3; do
    if [ -z "$python" ] && "$candidate" -c 'import numpy' 2>/dev/null; then
        python=$candidate
    fi
done
if [ -z "$python" ]; then
    echo "skipped: no Python with NumPy (apt-get install python3-numpy)"
    exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
wheel=$(DLA_LIBRARY="$build/libdla.so" "$python" "$source_root/python/build_wheel.py" "$folder")
"$python" -m zipfile -e "$wheel" "$folder/unpacked"
cd "$folder"
PYTHONPATH=$folder/unpacked "$python" "$source_root/python/tests/test_dla.py"
