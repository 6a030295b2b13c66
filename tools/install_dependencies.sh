#!/usr/bin/env bash
# install_dependencies.sh [build|check]... - installs what the build, or also the checks of .ci/run, lack (Debian, Ubuntu).
#
# Looks for the tools and libraries themselves, not for package names, so that it has nothing to do, and needs no rights,
# where they came from elsewhere. Installs with apt-get as root or through sudo; where it may not, it says what to type.
set -euo pipefail

# group, what to look for (a command, a pkg-config module, a Python module or a file), and the Debian package that brings it
table="
build command:cc            gcc
build file:/usr/include/stdio.h libc6-dev
build command:cmake         cmake
build command:ninja         ninja-build
build command:pkg-config    pkg-config
build module:libjpeg        libjpeg-dev
build module:libpng         libpng-dev
build module:libwebp        libwebp-dev
build module:jansson        libjansson-dev
build module:zlib           zlib1g-dev
build module:libzip         libzip-dev
build module:libcurl        libcurl4-openssl-dev
build module:libcrypto      libssl-dev
build module:libprotobuf-c  libprotobuf-c-dev
build command:protoc-c      protobuf-c-compiler
build module:cmocka         libcmocka-dev
check command:git           git
check command:g++           g++
check command:clang         clang
check command:clang-tidy    clang-tidy
check command:llvm-cov      llvm
check command:shellcheck    shellcheck
check command:file          file
check command:jq            jq
check python:numpy          python3-numpy
check command:mpirun        openmpi-bin
check module:ompi-c         libopenmpi-dev
"

is_there() {
    case $1 in
    command:*) command -v "${1#command:}" >/dev/null ;;
    module:*) command -v pkg-config >/dev/null && pkg-config --exists "${1#module:}" ;;
    python:*) python3 -c "import ${1#python:}" 2>/dev/null || /usr/bin/python3 -c "import ${1#python:}" 2>/dev/null ;;
    file:*) [ -e "${1#file:}" ] || ! command -v dpkg >/dev/null ;;
    esac
}

missing_packages() {
    local group probe package
    while read -r group probe package; do
        [ -n "$group" ] || continue
        [[ " $* " == *" $group "* ]] || continue
        is_there "$probe" || echo "$package"
    done <<<"$table"
}

groups=("${@:-build}")
mapfile -t missing < <(missing_packages "${groups[@]}")
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
line="${as_root[*]:+sudo }apt-get install ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "dla: missing, as Debian names them: ${missing[*]}; install them with your system's package manager" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "dla: missing packages and no sudo here; as root: apt-get install ${missing[*]}" >&2
        exit 1
    elif ! sudo -n true 2>/dev/null && [ ! -t 0 ]; then
        echo "dla: missing packages, and sudo would ask for a password; please type: $line" >&2
        exit 1
    fi
fi
echo "dla: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# The package lists of a fresh system are empty or old.
"${as_root[@]}" apt-get update -qq >&2
if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
    echo "dla: apt-get could not install them; please type: $line" >&2
    exit 1
fi
