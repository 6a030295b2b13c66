#!/usr/bin/env bash
# lint.sh BUILD [PATTERN] - clang-tidy (.clang-tidy) over every C file that BUILD compiles, or those whose path fits the pattern, shellcheck over
# every script.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
all='^(src|cli|examples|fuzz)/.*\.c$'
pattern=${2:-$all}
mkdir -p "$build/lint"
# Kernels are compiled once per instruction set: reading them once is enough.
jq --arg root "$PWD/" --arg pattern "$pattern" '[unique_by(.file)[] | select(.file | startswith($root)) | select(.file | ltrimstr($root) | test($pattern))]' \
    "$build/compile_commands.json" >"$build/lint/compile_commands.json"
mapfile -t files < <(jq -r '.[].file' "$build/lint/compile_commands.json")
echo "clang-tidy: ${#files[@]} files"
# The lines counting what was found in system headers are noise.
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy --quiet --warnings-as-errors='*' -p "$build/lint" 2> >(grep -v 'warnings\? generated' >&2)

mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
echo "shellcheck: ${#scripts[@]} scripts"
shellcheck "${scripts[@]}"
