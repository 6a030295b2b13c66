#!/usr/bin/env bash
# test_train_command.sh DLA SOURCE_ROOT - dla train as a user types it: signals, what is skipped, what cannot go on.
source "$(dirname "$0")/shell_check.sh"
cd "$folder" || exit 1

for class in cat church; do mkdir -p "photos/$class"; done
for i in 1 2 3 4 5 6; do
    cp "$source/examples/photos/cat.jpg" "photos/cat/$i.jpg"
    cp "$source/examples/photos/berlin_cathedral.jpg" "photos/church/$i.jpg"
done
recipe=(photos --model dla46_c --size 32 --batch 4 --threads 1 --lr 0.01)

# ---- SIGINT and SIGTERM finish the step, save, and say how to go on ----
run=()
logged=0 # lines of the log before this run
for signal in INT TERM; do
    "$dla" train "${recipe[@]}" --epochs 100000 --output stopped "${run[@]}" >out 2>err &
    job=$!
    for _ in $(seq 600); do
        lines=$(grep -c '"step"' stopped/log.jsonl 2>/dev/null || true)
        [ "${lines:-0}" -gt "$logged" ] && break # it trains: the handlers are there
        sleep 0.1
    done
    kill -$signal $job
    status=0
    wait $job || status=$?
    [ "$status" = 1 ] || complain "SIG$signal: exit $status, not 1"
    step=$(sed -n 's/^dla: stopped after step \([0-9]*\) of .*--resume goes on$/\1/p' err)
    [ -n "$step" ] || complain "SIG$signal: $(tail -1 err)"
    [ -e "$(printf 'stopped/checkpoints/step-%08d.safetensors' "$step")" ] || complain "SIG$signal: no checkpoint of step $step"
    [ "${#run[@]}" = 0 ] || grep -q "resumed after step $before" err || complain "does not go on after step $before: $(cat err)"
    before=$step
    logged=$(grep -c '"step"' stopped/log.jsonl)
    run=(--resume)
done

# ---- unreadable photographs are named and counted ----
echo "Dear" >photos/cat/7.jpg
head -c 9000 "$source/examples/photos/cat.jpg" >photos/church/7.jpg
expect_status 0 train "${recipe[@]}" --epochs 2 --output skips --json
grep -q 'photos/cat/7.jpg: not a JPEG.*skipped' err || complain "an unreadable photograph is not named: $(cat err)"
grep -q '^2 photographs could not be read and were skipped$' err || complain "they are not counted: $(cat err)"
tail -1 out | jq -e '.skipped == 2 and .epoch == 2' >/dev/null || complain "the count is not in the JSON: $(cat out)"

# ---- a damaged checkpoint is named; without it the one before is gone on from ----
last=$(find skips/checkpoints -name 'step-*' | sort | tail -1)
truncate -s 1000 "$last"
expect_failure 1 "remove it to go on from the checkpoint before" train "${recipe[@]}" --epochs 2 --output skips --resume
rm "$last"
expect_status 0 train "${recipe[@]}" --epochs 2 --output skips --resume
grep -q 'resumed after step' err || complain "does not go on from the checkpoint before: $(cat err)"

# ---- folders that cannot be written ----
expect_failure 1 "is not a folder" train "${recipe[@]}" --output "$source/README.md"
expect_failure 1 "/proc/no/such" train "${recipe[@]}" --output /proc/no/such
if [ "$(id -u)" != 0 ]; then
    mkdir locked && chmod 555 locked
    expect_failure 1 "locked/run" train "${recipe[@]}" --output locked/run
fi
finish
