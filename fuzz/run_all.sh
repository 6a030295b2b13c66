#!/usr/bin/env bash
# run_all.sh BUILD [SECONDS] - runs every fuzzer of a -DDLA_FUZZ=ON build for SECONDS (10), starting from fuzz/corpus/NAME.
#
# New inputs collect in BUILD/corpus/NAME, so that the seeds in the tree stay as they are; an input that breaks something
# is left as BUILD/NAME-crash-... (or -leak-, -timeout-, -oom-). Ends non-zero if any fuzzer found one.
set -uo pipefail
build=${1:?usage: run_all.sh BUILD [SECONDS]}
seconds=${2:-10}
seeds=$(cd "$(dirname "$0")" && pwd)/corpus
failed=0
count=0
for fuzzer in "$build"/fuzz_*; do
    if [ ! -x "$fuzzer" ] || [ ! -f "$fuzzer" ]; then continue; fi
    name=$(basename "$fuzzer")
    name=${name#fuzz_}
    mkdir -p "$build/corpus/$name"
    folders=("$build/corpus/$name")
    [ -d "$seeds/$name" ] && folders+=("$seeds/$name")
    options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -malloc_limit_mb=2500 -print_final_stats=1 -artifact_prefix="$build/$name-")
    [ -f "$seeds/$name.dict" ] && options+=(-dict="$seeds/$name.dict")
    count=$((count + 1))
    log=$build/fuzz_$name.log
    if "$fuzzer" "${options[@]}" "${folders[@]}" >"$log" 2>&1; then
        runs=$(awk '/stat::number_of_executed_units/ { print $2 }' "$log")
        edges=$(awk '{ for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) } END { print cov + 0 }' "$log")
        printf 'fuzz: %-14s %9s inputs in %s s, %s edges, nothing found\n' "$name" "$runs" "$seconds" "$edges"
    else
        failed=$((failed + 1))
        printf 'fuzz: %-14s FAILED; its log:\n' "$name"
        tail -n 60 "$log"
    fi
done
echo "fuzz: $count fuzzers, $failed failed"
[ "$count" -gt 0 ] && [ "$failed" -eq 0 ]
