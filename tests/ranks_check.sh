# shellcheck shell=bash disable=SC2154 # shell_check.sh sets dla and source
# ranks_check.sh - what the tests of `mpirun dla train` share. Sourced after shell_check.sh, in $folder: makes photos/ and the recipes to train
# on them, gives make_street, ranks, losses and difference.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1

for class in cat church truck; do mkdir -p "photos/$class"; done
for i in 1 2 3 4 5 6 7 8; do
    cp "$source/examples/photos/cat.jpg" "photos/cat/$i.jpg"
    cp "$source/examples/photos/berlin_cathedral.jpg" "photos/church/$i.jpg"
    cp "$source/examples/photos/garbage_truck.jpg" "photos/truck/$i.jpg"
done
# From trained weights: from random ones, rounding alone grows to percents within a step or two.
photos_recipe=(photos --model dla46_c --weights "$source/models/dla46_c_imagenette.safetensors" --reset-head --size 64 --batch 8 --lr 0.001
    --val-split 0.3 --mixup 0.2 --dropout 0.1 --clip 1 --ema 0.9 --threads 1 --min-area 0.5 --seed 5)
# Classes of pixels, of which ranks have different numbers; make_street makes the photographs.
export street_recipe
street_recipe=(street --task segment --config narrow.json --weights "$source/models/dla46_c_narrow_up_camvid.safetensors" --class-names names
    --ignore 0 --size 96 --batch 4 --lr 0.001 --threads 1 --seed 5 --epochs 2)
recipe=("${photos_recipe[@]}")

make_street() {
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
}

# ranks N OPTIONS... : N of them train by $recipe
ranks() {
    timeout 300 mpirun --oversubscribe --bind-to none -n "$1" "$dla" train "${recipe[@]}" "${@:2}"
}

# losses RUN KIND NAME
losses() {
    sed -n 's/.*"kind": "'"$2"'".*"'"$3"'": \([0-9.e-]*\),.*/\1/p' "$1/log.jsonl"
}

# The largest relative difference of two columns of numbers.
difference() {
    paste "$1" "$2" | awk '{ d = ($1 - $2) / ($1 + 1e-9); if (d < 0) d = -d; if (d > most) most = d } END { printf "%.9f", NR ? most : 1 }'
}
