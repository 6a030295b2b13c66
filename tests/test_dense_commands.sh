#!/usr/bin/env bash
# dla segment, dla edges, dla eval --task: pictures are written, scored, and bad input gets one clear line.
set -u
dla=$1
root=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0
network=(--config "$root/tests/data/dense/small_up.json" --weights "$root/tests/data/dense/small_up.safetensors")
photo=$root/examples/photos/cat.jpg

complain() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# expect_failure STATUS TEXT ARGUMENTS...: dla fails with this status and one line on stderr that contains the text.
expect_failure() {
    local status=$1 text=$2
    shift 2
    "$dla" "$@" >"$folder/stdout" 2>"$folder/stderr"
    [ $? -eq "$status" ] || complain "dla $*: status is not $status"
    grep -q -- "$text" "$folder/stderr" || complain "dla $*: no '$text' in: $(cat "$folder/stderr")"
    [ "$(wc -l <"$folder/stderr")" -eq 1 ] || complain "dla $*: not one line: $(cat "$folder/stderr")"
}

# A class for every pixel; scored against itself it is perfect, also when tiles of another size gave it a few other pixels.
"$dla" segment "$photo" "${network[@]}" --output "$folder/out" --json >"$folder/json" || complain "segment failed"
for kind in classes overlay; do
    [ "$(head -c 4 "$folder/out/$kind/cat.png" | tail -c 3)" = PNG ] || complain "segment: no picture of $kind"
done
grep -q '"areas"' "$folder/json" || complain "segment --json: no areas"
"$dla" eval --task segment --predictions "$folder/out/classes" --labels "$folder/out/classes" --classes 3 >"$folder/text" || complain "eval segment failed"
grep -q '^pixel accuracy  100.00 %' "$folder/text" || complain "a map against itself: $(cat "$folder/text")"
"$dla" segment "$photo" "${network[@]}" --output "$folder/tiled" --tile 320 --flip --scales 0.75,1 >/dev/null || complain "segment in tiles failed"
"$dla" eval --task segment --predictions "$folder/tiled/classes" --labels "$folder/out/classes" --classes 3 --json >"$folder/json" || complain "eval of tiles failed"
grep -q '"mean_iou"' "$folder/json" || complain "eval --task segment --json: no mean_iou"

# A network's own predictions are scored without pictures in between: the same scores.
mkdir -p "$folder/labelled/images" "$folder/labelled/groundTruth"
cp "$photo" "$folder/labelled/images/cat.jpg"
cp -r "$folder/out/classes" "$folder/labelled/labels"
"$dla" eval --task segment "$folder/labelled" "${network[@]}" >"$folder/text" || complain "eval of a network's segmentation failed"
grep -q '^pixel accuracy  100.00 %' "$folder/text" || complain "a network against its own map: $(cat "$folder/text")"
cp "$root/tests/data/edges/two_annotators.mat" "$folder/labelled/groundTruth/cat.mat"

# A photograph that is too small for the network is named.
mkdir -p "$folder/small/images" "$folder/small/labels"
cp "$root/tests/data/images/rgb_8.png" "$folder/small/images/small.png"   # 29x21
cp "$root/tests/data/images/palette_1.png" "$folder/small/labels/small.png"
expect_failure 1 'small.png: a photograph of .* needs at least 32x32' eval --task segment "$folder/small" "${network[@]}"
expect_failure 1 'small.png: a photograph of .* needs at least 32x32' segment "$folder/small/images" "${network[@]}" --output "$folder/out"

# Without --weights there are built-in networks, of at most 3 MB each.
[ -z "$(find "$root/models" -name '*.safetensors' -size +3000000c)" ] || complain "a built-in network is larger than 3 MB"
"$dla" segment "$photo" --output "$folder/built_in" >"$folder/text" || complain "the built-in segmentation failed"
grep -q ' sky\| building\| road\| tree' "$folder/text" || complain "the built-in segmentation names no class: $(cat "$folder/text")"
"$dla" edges "$photo" --output "$folder/built_in" >/dev/null || complain "the built-in edges failed"
expect_failure 1 'its annotations .* are 5x7' eval --task edges "$folder/labelled"
expect_failure 1 'has 3 classes, one for boundaries has 2' eval --task edges "$folder/labelled" "${network[@]}"

# A probability for every pixel, and the same thinned.
"$dla" edges "$photo" "${network[@]}" --output "$folder/out" >/dev/null || complain "edges failed"
for kind in probability edges; do
    [ "$(head -c 4 "$folder/out/$kind/cat.png" | tail -c 3)" = PNG ] || complain "edges: no picture of $kind"
done

expect_failure 1 'has no partner' eval --task edges --predictions "$folder/out/edges" --ground-truth "$root/tests/data/edges"
mkdir "$folder/truth"
cp "$root/tests/data/edges/two_annotators.mat" "$folder/truth/cat.mat"
expect_failure 1 'its annotations .* are 5x7' eval --task edges --predictions "$folder/out/edges" --ground-truth "$folder/truth"
echo 'Dear Sir' >"$folder/truth/cat.mat"
expect_failure 1 'not a MATLAB 5 file' eval --task edges --predictions "$folder/out/edges" --ground-truth "$folder/truth"
expect_failure 1 'there are 1 classes' eval --task segment --predictions "$folder/out/classes" --labels "$folder/out/classes" --classes 1
mkdir "$folder/empty"
expect_failure 1 'holds no .png file' eval --task segment --predictions "$folder/empty" --labels "$folder/empty" --classes 3
expect_failure 2 'either DIR' eval --task edges
expect_failure 2 'either DIR' eval --task segment "$folder" --predictions "$folder/empty"
expect_failure 2 'needs --ground-truth' eval --task edges --predictions "$folder/empty"
expect_failure 2 'needs DIR' eval
expect_failure 2 '0.5,oops' segment "$photo" "${network[@]}" --scales 0.5,oops --output "$folder/never"
expect_failure 1 'such as dla34up' segment "$photo" --weights "$root/models/dla46_c_imagenette.safetensors" --output "$folder/never"
echo 'no photograph' >"$folder/broken.jpg"
expect_failure 1 'broken.jpg' segment "$folder/broken.jpg" "${network[@]}" --output "$folder/never"
[ ! -e "$folder/never" ] || complain "a failed command left a folder"

exit $((failures > 0))
