# command_check.sh - what the tests of commands share; sourced. Gives $folder, a temporary folder that goes away at the end.
# shellcheck shell=bash
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect_failure STATUS TEXT COMMAND...: the command exits with STATUS, says TEXT in one line on stderr and nothing on stdout.
expect_failure() {
    local wanted=$1 text=$2 status=0
    shift 2
    "$@" >"$folder/out" 2>"$folder/err" || status=$?
    [ "$status" -eq "$wanted" ] || fail "$* exits with $status, not $wanted"
    [ ! -s "$folder/out" ] || fail "$* prints to stdout"
    [ "$(wc -l <"$folder/err")" -eq 1 ] || fail "$* does not fail with one line: $(cat "$folder/err")"
    grep -qF -- "$text" "$folder/err" || fail "$*: '$text' is not in: $(cat "$folder/err")"
}
