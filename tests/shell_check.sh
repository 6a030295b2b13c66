# shellcheck shell=bash
# shell_check.sh - what the shell tests of the command share. Sourced with the test's own arguments: the command, the source folder.
# Gives $dla, $source, an empty $folder that goes away, complain, expect_failure and expect_status; a test ends with `finish`.
set -euo pipefail
dla=$(realpath "$1")
export source                 # of the tree; the tests use it
source=$(realpath "$2")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

complain() {
    echo "FAILED: $1" >&2
    failures=$((failures + 1))
}

# expect_failure STATUS TEXT ARGUMENTS... : one line on stderr with this text, nothing on stdout
expect_failure() {
    local wanted=$1 text=$2 status=0
    shift 2
    "$dla" "$@" >"$folder/out" 2>"$folder/err" </dev/null || status=$?
    [ "$status" -eq "$wanted" ] || complain "dla $*: exit $status, not $wanted"
    [ "$(wc -l <"$folder/err")" -eq 1 ] || complain "dla $*: $(wc -l <"$folder/err") lines on stderr: $(cat "$folder/err")"
    grep -q '^dla: ' "$folder/err" || complain "dla $*: '$(cat "$folder/err")' does not start with 'dla: '"
    grep -qF -- "$text" "$folder/err" || complain "dla $*: '$(cat "$folder/err")' lacks '$text'"
    [ ! -s "$folder/out" ] || complain "dla $*: wrote to stdout: $(head -c 200 "$folder/out")"
}

# expect_status STATUS ARGUMENTS... : runs the command, stdout in $folder/out and stderr in $folder/err
expect_status() {
    local wanted=$1 status=0
    shift
    "$dla" "$@" >"$folder/out" 2>"$folder/err" || status=$?
    [ "$status" -eq "$wanted" ] || complain "dla $*: exit $status, not $wanted: $(cat "$folder/err")"
}

finish() {
    exit $((failures > 0))
}
