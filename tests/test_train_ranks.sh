#!/usr/bin/env bash
# test_train_ranks.sh DLA SOURCE_ROOT - `mpirun dla train`: two ranks do what one process does, a rank's death loses nothing.
# Skipped where mpirun is missing or dla was built without MPI (which must then say so).
source "$(dirname "$0")/shell_check.sh"
cd "$folder" || exit 1

for class in cat church truck; do mkdir -p "photos/$class"; done
for i in 1 2 3 4 5 6 7 8; do
    cp "$source/examples/photos/cat.jpg" "photos/cat/$i.jpg"
    cp "$source/examples/photos/berlin_cathedral.jpg" "photos/church/$i.jpg"
    cp "$source/examples/photos/garbage_truck.jpg" "photos/truck/$i.jpg"
done
# From trained weights: from random ones, rounding alone grows to percents within a step or two.
recipe=(photos --model dla46_c --weights "$source/models/dla46_c_imagenette.safetensors" --reset-head --size 64 --batch 8 --lr 0.001
    --val-split 0.3 --mixup 0.2 --dropout 0.1 --clip 1 --ema 0.9 --threads 1 --min-area 0.5 --seed 5)
photos_recipe=("${recipe[@]}")

if [[ "$(ldd "$dla")" != *libmpi* ]]; then
    status=0
    OMPI_COMM_WORLD_SIZE=2 "$dla" train "${recipe[@]}" --output refused 2>err || status=$?
    [ "$status" = 1 ] && grep -q 'DLA_MPI=ON' err || complain "mpirun of a build without MPI is not refused: $(cat err)"
    [ "$failures" = 0 ] && echo "built without MPI" && exit 77
    finish
fi
command -v mpirun >/dev/null || { echo "no mpirun"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
ranks() {
    mpirun --oversubscribe --bind-to none -n "$1" "$dla" train "${recipe[@]}" "${@:2}"
}
losses() {
    sed -n 's/.*"kind": "'"$2"'".*"loss": \([0-9.e-]*\), "top1".*/\1/p' "$1/log.jsonl"
}
# The largest relative difference of two columns of numbers.
difference() {
    paste "$1" "$2" | awk '{ d = ($1 - $2) / ($1 + 1e-9); if (d < 0) d = -d; if (d > most) most = d } END { printf "%.9f", NR ? most : 1 }'
}
below() {
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'
}

# ---- the same result ----
"$dla" train "${recipe[@]}" --epochs 2 --output one 2>err || complain "one process: $(cat err)"
ranks 2 --epochs 2 --sync-bn --output two 2>err || complain "two ranks: $(cat err)"
ranks 2 --epochs 2 --output apart 2>err || complain "two ranks with their own batch norms: $(cat err)"
for run in one two apart; do losses $run step >$run.steps; done
[ "$(wc -l <two.steps)" = 4 ] || complain "two ranks logged $(wc -l <two.steps) steps, not 4"
below "$(difference one.steps two.steps)" 0.002 || complain "two ranks do not do what one process does: $(paste one.steps two.steps)"
below 0.002 "$(difference one.steps apart.steps)" || complain "--sync-bn changes nothing: $(paste one.steps apart.steps)"
sed -n 's/.*"val_loss": \([0-9.e-]*\),.*/\1/p' one/log.jsonl >one.val
sed -n 's/.*"val_loss": \([0-9.e-]*\),.*/\1/p' two/log.jsonl >two.val
below "$(difference one.val two.val)" 0.01 || complain "sharded validation differs: $(paste one.val two.val)"
[ "$(grep -c 'photographs of' err)" = 1 ] || complain "every rank speaks: $(cat err)"

# ---- the same for classes of pixels: the ranks have different numbers of labelled ones ----
mkdir -p street/images
for i in 1 2 3 4; do
    cp "$source/examples/photos/berlin_cathedral.jpg" "street/images/church$i.jpg"
    cp "$source/examples/photos/garbage_truck.jpg" "street/images/truck$i.jpg"
done
"$dla" segment street/images --output street >/dev/null || complain "no labels"
mv street/classes street/labels
printf '%s\n' sky building pole road pavement tree sign fence car pedestrian bicyclist >names
cat >narrow.json <<'CONFIG'
{"name": "dla46_c_narrow_up", "block": "bottleneck", "levels": [1, 1, 1, 2, 2, 1], "channels": [16, 32, 64, 64, 128, 128],
 "residual_root": false, "num_classes": 11, "down_ratio": 4}
CONFIG
recipe=(street --task segment --config narrow.json --weights "$source/models/dla46_c_narrow_up_camvid.safetensors" --class-names names
    --ignore 0 --size 96 --batch 4 --lr 0.001 --threads 1 --seed 5 --epochs 2)
"$dla" train "${recipe[@]}" --output pixels_one 2>err || complain "pixels, one process: $(cat err)"
ranks 2 --sync-bn --output pixels_two 2>err || complain "pixels, two ranks: $(cat err)"
ranks 2 --output pixels_apart 2>err || complain "pixels, two ranks with their own batch norms: $(cat err)"
for run in pixels_one pixels_two pixels_apart; do losses $run step >$run.steps; done
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
