#!/usr/bin/env bash
# coverage.sh BUILD - runs the tests of a -DDLA_COVERAGE=ON build (Clang) and prints how many lines they reached, by folder.
set -euo pipefail
source_root=$(cd "$(dirname "$0")/.." && pwd)
cd "${1:?usage: coverage.sh BUILD}"
rm -rf profiles && mkdir profiles
LLVM_PROFILE_FILE="$PWD/profiles/%m.profraw" ctest --output-on-failure -j "$(nproc)"
llvm-profdata merge -sparse profiles/*.profraw -o tests.profdata

objects=()
for program in dla test_* fuzz_*; do
    [ -x "$program" ] && [ -f "$program" ] && objects+=(-object "$program")
done
llvm-cov export -summary-only -instr-profile=tests.profdata "${objects[@]}" 2>/dev/null >coverage.json
jq -r --arg root "$source_root/" '
    [.data[0].files[] | select(.filename | startswith($root)) | .filename |= ltrimstr($root) | select(.filename | test("^(src|cli)/"))]
    | (group_by(.filename | split("/")[:-1] | join("/"))[]
       | "\([.[].summary.lines.covered] | add)\t\([.[].summary.lines.count] | add)\t\(.[0].filename | split("/")[:-1] | join("/"))"),
      "\([.[].summary.lines.covered] | add)\t\([.[].summary.lines.count] | add)\tall"' coverage.json |
    awk -F '\t' '{ printf "coverage: %6.1f %%  %6d of %6d lines  %s\n", 100 * $1 / $2, $1, $2, $3 }'
