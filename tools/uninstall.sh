#!/usr/bin/env bash
# uninstall.sh MANIFEST - removes the files that `cmake --install` listed there, and the folders that this leaves empty.
set -euo pipefail
manifest=${1:?usage: uninstall.sh MANIFEST}
if [ ! -f "$manifest" ]; then
    echo "dla: nothing to remove: no $manifest (it is written by make install)" >&2
    exit 1
fi
while IFS= read -r path || [ -n "$path" ]; do
    [ -n "$path" ] || continue
    rm -f -- "${DESTDIR:-}$path"
    # Only folders that carry the project's name: the others belong to the system.
    folder=$(dirname "$path")
    while [[ $(basename "$folder") == dla ]]; do
        rmdir --ignore-fail-on-non-empty -- "${DESTDIR:-}$folder" 2>/dev/null || break
        folder=$(dirname "$folder")
    done
done <"$manifest"
rm -f -- "$manifest"
