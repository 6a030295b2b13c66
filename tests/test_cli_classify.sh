#!/usr/bin/env bash
# `dla classify` and `dla eval` with the built-in network, as a user types them, with sound photographs and with everything else.
source "$(dirname "$0")/shell_check.sh"
photos=$source/examples/photos
truck=$photos/garbage_truck.jpg
church=$photos/berlin_cathedral.jpg

# json FILTER : a value of the last output
json() {
    python3 -c 'import json, sys; print(eval(sys.argv[2], {"d": json.load(open(sys.argv[1]))}))' "$folder/out" "$1"
}

# ---- photographs ----
expect_status 0 classify "$truck"
grep -qxF "$truck" "$folder/out" || complain "classify: no line with the file's name"
sed -n 2p "$folder/out" | grep -qE '^ +[0-9.]+ %  garbage truck  \(n03417042\)$' || complain "classify: not a garbage truck: $(sed -n 2p "$folder/out")"
[ "$(wc -l <"$folder/out")" -eq 6 ] || complain "classify: not five classes by default"
[ ! -s "$folder/err" ] || complain "classify: prints to stderr: $(cat "$folder/err")"
mv "$folder/out" "$folder/truck"

# From any folder, through standard input, under any name, with any number of threads and photographs in a pass.
(cd / && "$dla" classify "$truck") | cmp -s - "$folder/truck" || complain "classify: another result from another folder"
"$dla" classify - <"$truck" | sed 1d | cmp -s - <(sed 1d "$folder/truck") || complain "classify: another result from standard input"
cp "$truck" "$folder/photo.png"
"$dla" classify "$folder/photo.png" | sed 1d | cmp -s - <(sed 1d "$folder/truck") || complain "classify: a JPEG called .png is not told by content"
for options in '--threads 1' '--threads 3' '--batch 4'; do
    "$dla" classify "$truck" $options | cmp -s - "$folder/truck" || complain "classify: another result with $options"
done
expect_status 0 classify "$truck" --topk 1000
[ "$(wc -l <"$folder/out")" -eq 11 ] || complain "classify: --topk 1000 does not give all ten classes"

# ---- folders ----
mkdir -p "$folder/album/inner" "$folder/album/.git" "$folder/empty"
cp "$truck" "$folder/album/b.JPG"
cp "$church" "$folder/album/inner/a.jpeg"
cp "$photos/reims_cathedral.webp" "$folder/album/c.webp"
cp "$church" "$folder/album/.git/hidden.jpg"
echo notes >"$folder/album/notes.txt"
expect_status 0 classify --topk 1 "$folder/album" "$truck"
[ "$(grep -v '%' "$folder/out" | sed "s,$folder/,," | tr '\n' ' ')" = "album/b.JPG album/c.webp album/inner/a.jpeg $truck " ] ||
    complain "classify: folder in another order: $(grep -v '%' "$folder/out")"
[ "$(grep -o 'church\|garbage truck' "$folder/out" | tr '\n' ' ')" = 'garbage truck church church garbage truck ' ] || complain "classify: wrong classes in a folder"

# ---- what cannot be read ----
echo 'Dear Sir or Madam' >"$folder/letter.jpg"
head -c 20000 "$truck" >"$folder/half.jpg"
: >"$folder/nothing.jpg"
expect_failure 1 "$folder/letter.jpg: " classify "$folder/letter.jpg"
expect_failure 1 'not a JPEG, PNG or WebP file (starts with "Dear ")' classify "$folder/letter.jpg"
expect_failure 1 'half.jpg' classify "$folder/half.jpg"
expect_failure 1 'nothing.jpg' classify "$folder/nothing.jpg"
expect_failure 1 'No such file' classify "$folder/absent.jpg"
expect_failure 1 'no photographs' classify "$folder/empty"
expect_failure 1 'standard input' classify -

# One line each, the others are classified all the same, in their order, in whatever batches.
for batch in 1 2 3 8; do
    expect_status 1 classify --batch $batch --topk 1 "$truck" "$folder/letter.jpg" "$church" "$folder/absent.jpg" "$folder/empty" "$truck" "$folder/half.jpg"
    [ "$(wc -l <"$folder/err")" -eq 4 ] || complain "classify: $(wc -l <"$folder/err") lines for four bad arguments: $(cat "$folder/err")"
    [ "$(grep -o 'church\|garbage truck' "$folder/out" | tr '\n' ' ')" = 'garbage truck church garbage truck ' ] || complain "classify: bad photographs disturb good ones (batch $batch)"
done

# ---- models and weights ----
expect_failure 1 'did you mean dla34?' classify --model dla35 "$truck"
expect_failure 1 'No such file' classify --weights "$folder/absent.safetensors" "$truck"
expect_failure 1 'letter.jpg' classify --weights "$folder/letter.jpg" "$truck"
expect_failure 1 'dla34' classify --model dla34 --weights "$source/models/dla46_c_imagenette.safetensors" "$truck"
expect_failure 1 'dla34' classify --model dla34 "$truck"
expect_failure 1 'No such file' classify --config "$folder/absent.json" "$truck"
for arguments in '--model dla46_c' "--weights $source/models/dla46_c_imagenette.safetensors" \
    "--model dla46_c --weights $source/models/dla46_c_imagenette.safetensors"; do
    "$dla" classify "$truck" $arguments 2>&1 | cmp -s - "$folder/truck" || complain "classify: another result with $arguments"
done

if command -v python3 >/dev/null; then
    # ---- JSON ----
    expect_status 1 classify --json --topk 3 "$truck" "$folder/letter.jpg" - "$church" <"$church"
    [ "$(json '[p["file"].split("/")[-1] for p in d]')" = "['garbage_truck.jpg', '-', 'berlin_cathedral.jpg']" ] || complain "classify --json: files"
    [ "$(json '[sorted(p) for p in d] == [["classes", "file", "ms"]] * 3')" = True ] || complain "classify --json: keys of a photograph"
    [ "$(json '[sorted(c) for p in d for c in p["classes"]] == [["index", "label", "probability", "wnid"]] * 9')" = True ] || complain "classify --json: keys of a class"
    [ "$(json '[(c["index"], c["label"], c["wnid"]) for c in (p["classes"][0] for p in d)]')" = \
        "[(6, 'garbage truck', 'n03417042'), (4, 'church', 'n03028079'), (4, 'church', 'n03028079')]" ] || complain "classify --json: classes"
    [ "$(json 'all(p["ms"] > 0 and 1 >= p["classes"][0]["probability"] >= p["classes"][1]["probability"] >= p["classes"][2]["probability"] > 0 for p in d)')" = True ] ||
        complain "classify --json: probabilities or times"
    expect_status 0 classify --json --topk 10 "$truck"
    [ "$(json 'abs(sum(c["probability"] for c in d[0]["classes"]) - 1) < 1e-6')" = True ] || complain "classify --json: probabilities do not add up to 1"
    expect_status 1 classify --json "$folder/letter.jpg"
    [ "$(json 'd')" = '[]' ] || complain "classify --json: no empty array where nothing could be read"
    cp "$truck" "$folder/"$'na\xffme.jpg'
    expect_status 0 classify --json "$folder/"$'na\xffme.jpg'
    [ "$(json 'd[0]["file"].endswith("na\ufffdme.jpg")')" = True ] || complain "classify --json: a name that is not UTF-8"

    # ---- a NaN among the weights ----
    python3 - "$source/models/dla46_c_imagenette.safetensors" "$folder" <<'END'
import json, struct, sys
data = bytearray(open(sys.argv[1], 'rb').read())
length = struct.unpack('<Q', data[:8])[0]
header = json.loads(data[8:8 + length])
for name, pattern in (('level3.tree2.root.conv.weight', b'\x00\x7e'), ('level2.tree1.bn2.running_var', struct.pack('<f', float('inf')))):
    damaged = bytearray(data)
    begin = 8 + length + header[name]['data_offsets'][0]
    damaged[begin:begin + len(pattern)] = pattern
    open(f"{sys.argv[2]}/{'nan' if len(pattern) == 2 else 'infinite'}.safetensors", 'wb').write(damaged)
END
    expect_failure 1 'level3.tree2.root.conv.weight' classify --weights "$folder/nan.safetensors" "$truck"
    expect_failure 1 'level2.tree1.bn2.running_var' classify --weights "$folder/infinite.safetensors" "$truck"
fi

# ---- eval ----
# Two churches and a truck that the network knows, a cat among the golf balls, by wnid, by label and by neither.
mkdir -p "$folder/tree/n03028079" "$folder/tree/Garbage_Truck" "$folder/tree/GOLF BALL" "$folder/tree/zebra"
cp "$church" "$photos/reims_cathedral.webp" "$folder/tree/n03028079"
cp "$truck" "$folder/tree/Garbage_Truck"
cp "$photos/cat.jpg" "$folder/tree/GOLF BALL"
cp "$photos/cat.jpg" "$folder/tree/zebra"
cp "$folder/letter.jpg" "$folder/tree/n03028079"
expect_status 0 eval "$folder/tree"
grep -qE '^top-1 +100\.00 %  \(4 of 4\)$' "$folder/out" || complain "eval: $(head -n 1 "$folder/out")"
[ "$(wc -l <"$folder/err")" -eq 2 ] || complain "eval: $(wc -l <"$folder/err") lines for a letter and a zebra"
grep -q 'zebra.*no class' "$folder/err" && grep -q 'letter.jpg.*skipped' "$folder/err" || complain "eval: stderr: $(cat "$folder/err")"
mv "$folder/tree/Garbage_Truck" "$folder/tree/tench"   # now one of four is wrong
if command -v python3 >/dev/null; then
    for options in '' '--batch 3' '--threads 1'; do
        expect_status 0 eval "$folder/tree" --json $options
        [ "$(json 'd["top1"], d["count"], len(d["skipped"]), len(d["per_class"])')" = '(0.75, 4, 2, 10)' ] || complain "eval --json $options: $(json 'd["top1"], d["count"]')"
        [ "$(json 'd["confusion"][0][6], d["confusion"][4][4], d["confusion"][8][8], sum(map(sum, d["confusion"]))')" = '(1, 2, 1, 4)' ] || complain "eval --json $options: confusion"
        [ "$(json 'd["per_class"][0]["top1"], d["per_class"][4]["top1"], d["per_class"][1]["top1"], d["per_class"][4]["count"]')" = '(0.0, 1.0, None, 2)' ] ||
            complain "eval --json $options: per_class"
        [ "$(json 'sorted(s["file"].split("/")[-1] for s in d["skipped"])')" = "['letter.jpg', 'zebra']" ] || complain "eval --json $options: skipped"
    done
fi
mkdir -p "$folder/strange/zebra" "$folder/bare/n03028079"
expect_failure 1 'none of its 1 folders' eval "$folder/strange"
expect_failure 1 'no photographs' eval "$folder/bare"
expect_failure 1 'a folder for each class' eval "$folder/empty"
expect_failure 1 'No such file' eval "$folder/absent"
expect_failure 1 'garbage_truck.jpg' eval "$truck"
finish
