#!/usr/bin/env bash
# test_train_ranks.sh DLA SOURCE_ROOT - `mpirun dla train`: two ranks do what one process does, a rank's death loses nothing.
# Skipped where mpirun is missing or dla was built without MPI (which must then say so).
source "$(dirname "$0")/shell_check.sh"
cd "$folder" || exit 1

source "$source/tests/ranks_check.sh"

if [[ "$(ldd "$dla")" != *libmpi* ]]; then
    status=0
    OMPI_COMM_WORLD_SIZE=2 "$dla" train "${recipe[@]}" --output refused 2>err || status=$?
    [ "$status" = 1 ] && grep -q 'DLA_MPI=ON' err || complain "mpirun of a build without MPI is not refused: $(cat err)"
    [ "$failures" = 0 ] && echo "built without MPI" && exit 77
    finish
fi
command -v mpirun >/dev/null || { echo "no mpirun"; exit 77; }
below() {
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'
}

# ---- the same result ----
"$dla" train "${recipe[@]}" --epochs 2 --output one 2>err || complain "one process: $(cat err)"
ranks 2 --epochs 2 --sync-bn --output two 2>err || complain "two ranks: $(cat err)"
ranks 2 --epochs 2 --output apart 2>err || complain "two ranks with their own batch norms: $(cat err)"
for run in one two apart; do losses $run step loss >$run.steps; done
[ "$(wc -l <two.steps)" = 4 ] || complain "two ranks logged $(wc -l <two.steps) steps, not 4"
below "$(difference one.steps two.steps)" 0.002 || complain "two ranks do not do what one process does: $(paste one.steps two.steps)"
below 0.002 "$(difference one.steps apart.steps)" || complain "--sync-bn changes nothing: $(paste one.steps apart.steps)"
for run in one two; do losses $run epoch val_loss >$run.val; done
below "$(difference one.val two.val)" 0.01 || complain "sharded validation differs: $(paste one.val two.val)"
[ "$(grep -c 'photographs of' err)" = 1 ] || complain "every rank speaks: $(cat err)"

# ---- the same for classes of pixels: the ranks have different numbers of labelled ones ----
make_street
recipe=("${street_recipe[@]}")
"$dla" train "${recipe[@]}" --output pixels_one 2>err || complain "pixels, one process: $(cat err)"
ranks 2 --sync-bn --output pixels_two 2>err || complain "pixels, two ranks: $(cat err)"
ranks 2 --output pixels_apart 2>err || complain "pixels, two ranks with their own batch norms: $(cat err)"
for run in pixels_one pixels_two pixels_apart; do losses $run step loss >$run.steps; done
[ "$(wc -l <pixels_two.steps)" = 4 ] || complain "pixels: two ranks logged $(wc -l <pixels_two.steps) steps, not 4"
below "$(difference pixels_one.steps pixels_two.steps)" 0.002 || complain "pixels: two ranks do not do what one process does: $(paste pixels_one.steps pixels_two.steps)"
below 0.002 "$(difference pixels_one.steps pixels_apart.steps)" || complain "pixels: --sync-bn changes nothing: $(paste pixels_one.steps pixels_apart.steps)"
recipe=("${photos_recipe[@]}")

# ---- bad input: said once ----
status=0
ranks 2 --epochs 1 --batch 7 --output odd 2>err || status=$?
[ "$status" != 0 ] && [ "$(grep -c 'cannot be shared by 2 ranks' err)" = 1 ] || complain "an odd batch: $(cat err)"
status=0
ranks 2 --epochs 1 --output two 2>err || status=$?
[ "$status" != 0 ] && [ "$(grep -c 'holds a run already' err)" = 1 ] || complain "an old run is buried: $(cat err)"

# ---- a rank dies; the checkpoint is whole, and one process goes on ----
ranks 2 --epochs 200 --checkpoint-steps 1 --sync-bn --output killed 2>err &
job=$!
for _ in $(seq 600); do
    [ -e killed/checkpoints/step-00000003.safetensors ] && break
    sleep 0.1
done
victim=$(pgrep -f -- "--output killed" | while read -r pid; do
    tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx 'OMPI_COMM_WORLD_RANK=1' && echo "$pid" && break
done || true)
[ -n "$victim" ] || complain "rank 1 cannot be found"
kill -KILL "$victim"
status=0
wait $job || status=$?
[ "$status" != 0 ] || complain "a rank's death goes unnoticed"
grep -qi 'signal 9\|killed' err || complain "a rank's death is not told: $(cat err)"
last=$(find killed/checkpoints -name 'step-*' | sort | tail -1)
"$dla" inspect "$last" >out 2>err || complain "$last is damaged: $(cat err)"
"$dla" train "${recipe[@]}" --epochs 200 --output killed --resume >out 2>err &
job=$!
for _ in $(seq 600); do
    grep -q 'resumed after step' err && break
    sleep 0.1
done
kill -TERM $job
wait $job || true # 1: stopped
grep -q 'resumed after step' err || complain "one process does not go on with the run of two: $(cat err)"
finish
