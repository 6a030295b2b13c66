#!/usr/bin/env bash
# What `make install` leaves works from another folder and under another prefix: the program with its built-in network, man pages,
# and the library for C and C++ programs through pkg-config (shared, static) and through CMake; `make uninstall` takes it away.
set -euo pipefail
build=$(cd "$(dirname "$1")" && pwd)
source_root=$2
photo=$source_root/examples/photos/garbage_truck.jpg
if grep -qE '^DLA_(SANITIZE|FUZZ|COVERAGE):BOOL=ON' "$build/CMakeCache.txt"; then
    echo "skipped: an instrumented library needs instrumented programs"
    exit 77
fi
folder=$(mktemp -d)
manifest=$build/install_manifest.txt   # that of an install by the user stays
[ ! -f "$manifest" ] || mv "$manifest" "$folder/users_manifest"
restore() {
    rm -f "$manifest"
    [ ! -f "$folder/users_manifest" ] || mv "$folder/users_manifest" "$manifest"
    rm -rf "$folder"
}
trap restore EXIT

# Runs a program on the photograph of a garbage truck and looks at its answer.
recognises() {
    local output
    output=$("$@" "$photo")
    [[ $output == *"garbage truck"* ]] || { echo "FAILED: $* says: $output" >&2; return 1; }
}

prefix=$folder/first
cmake --install "$build" --prefix "$prefix" >/dev/null
mv "$prefix" "$folder/moved"   # a package may be unpacked anywhere
prefix=$folder/moved
cd "$folder"

"$prefix/bin/dla" --version
recognises "$prefix/bin/dla" classify
test -s "$prefix/share/man/man1/dla-classify.1"
test -s "$prefix/share/bash-completion/completions/dla"

# ---- pkg-config ----
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name dla.pc)")
export PKG_CONFIG_PATH
library_path=$(pkg-config --variable=libdir dla)
cc=${CC:-cc}
read -ra flags < <(pkg-config --cflags --libs dla)
"$cc" -std=c17 -Wall -Werror "$source_root/examples/classify.c" "${flags[@]}" -o shared
LD_LIBRARY_PATH=$library_path recognises ./shared
echo "pkg-config, shared: works"
# Only libdla itself statically: the static forms of what it stands on need more packages than its build does.
mapfile -t modules < <(pkg-config --print-requires-private dla)
read -ra flags < <(pkg-config --cflags --libs dla "${modules[@]}")
read -ra private < <(sed -n 's/^Libs.private: //p' "$PKG_CONFIG_PATH/dla.pc")
"$cc" -std=c17 "$source_root/examples/classify.c" "${flags[@]/#-ldla/-l:libdla.a}" "${private[@]}" -o static
[[ $(ldd static) != *libdla* ]]
recognises ./static
echo "pkg-config, static: works"

# ---- CMake ----
mkdir project
cat >project/CMakeLists.txt <<'PROJECT'
cmake_minimum_required(VERSION 3.20)
project(user LANGUAGES C)
find_package(dla 0.1 REQUIRED)
add_executable(with_shared ${EXAMPLE})
target_link_libraries(with_shared dla::dla)
add_executable(with_static ${EXAMPLE})
target_link_libraries(with_static dla::static)
PROJECT
cmake -S project -B project/build -DEXAMPLE="$source_root/examples/classify.c" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build project/build >/dev/null
recognises project/build/with_shared
recognises project/build/with_static
echo "CMake package, shared and static: works"

# ---- the header by itself, in C++ and in strict C ----
if command -v c++ >/dev/null; then
    echo '#include <dla/dla.h>' >header.cpp
    c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I "$prefix/include" header.cpp
fi
echo '#include <dla/dla.h>' >header.c
"$cc" -std=c11 -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -fsyntax-only -I "$prefix/include" header.c
echo "header: C11 and C++17"

# ---- and away with it ----
cmake --install "$build" --prefix "$folder/second" >/dev/null
"$source_root/tools/uninstall.sh" "$manifest"
left=$(find "$folder/second" -type f -o -type l)
[ -z "$left" ] || { echo "uninstall left: $left" >&2; exit 1; }
echo "uninstall: nothing left"
