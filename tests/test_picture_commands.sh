#!/usr/bin/env bash
# test_picture_commands.sh DLA SOURCE_ROOT - dla preprocess and dla explain: what they write and say, and clear refusals.
source "$(dirname "$0")/shell_check.sh"
images=$source/tests/data/images

# ---- preprocess ----
json=$("$dla" preprocess "$images/tall.jpg" --output "$folder/x.npy" --size 48 --crop-pct 0.9 --interpolation bicubic --json)
for expected in '"height": 190' '"width": 41' '"shape": '; do
    grep -qF -- "$expected" <<<"$json" || complain "dla preprocess --json lacks $expected"
done
[ "$(head -c 6 "$folder/x.npy" | tail -c 5)" = NUMPY ] || complain "no NumPy file"
grep -qaF "'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 48, 48)" "$folder/x.npy" || complain "not float32 (1, 3, 48, 48) in C order"
header=$((10 + $(od -An -tu2 -j8 -N2 "$folder/x.npy")))
[ "$(stat -c %s "$folder/x.npy")" -eq $((header + 3 * 48 * 48 * 4)) ] || complain "not the size of its contents"
[[ $("$dla" preprocess "$images/grey.jpg" --output "$folder/y.npy") == *"(1, 3, 224, 224) from 97 x 61 pixels" ]] || complain "preprocess: text"

"$dla" preprocess "$images/exif_6.jpg" --output "$folder/upright.npy" >/dev/null
"$dla" preprocess "$images/exif_6.jpg" --output "$folder/stored.npy" --no-exif >/dev/null
! cmp -s "$folder/upright.npy" "$folder/stored.npy" || complain "--no-exif changes nothing"
"$dla" preprocess "$images/exif_1.jpg" --output "$folder/same.npy" >/dev/null
cmp -s "$folder/same.npy" "$folder/stored.npy" || complain "--no-exif is not the stored picture"

echo "Dear Sir" >"$folder/holiday.jpg"
head -c 1500 "$images/base_420.jpg" >"$folder/half.jpg"
expect_failure 1 "holiday.jpg: not a JPEG, PNG or WebP file (starts with \"Dear \")" preprocess "$folder/holiday.jpg" --output "$folder/no.npy"
expect_failure 1 "half.jpg: cut short: 1500 bytes hold " preprocess "$folder/half.jpg" --output "$folder/no.npy"
expect_failure 1 "60000 x 60000 pixels are more than" preprocess "$images/bomb_60000x60000.png" --output "$folder/no.npy"
expect_failure 1 "absent.jpg: cannot open" preprocess "$folder/absent.jpg" --output "$folder/no.npy"
expect_failure 1 "is a folder" preprocess "$folder" --output "$folder/no.npy"
expect_failure 2 "--output" preprocess "$images/grey.jpg"
expect_failure 2 "--size 0" preprocess "$images/grey.jpg" --output "$folder/no.npy" --size 0
expect_failure 2 "did you mean bicubic" preprocess "$images/grey.jpg" --output "$folder/no.npy" --interpolation bicubik
[ ! -e "$folder/no.npy" ] || complain "a refused picture left a file"

# ---- explain, with the built-in network ----
photo=$source/examples/photos/garbage_truck.jpg
json=$("$dla" explain "$photo" --class "golf ball" --output "$folder/golf.png" --json)
for expected in '"label": "golf ball"' '"evidence": ' '"bias": ' '"crop": '; do
    grep -qF -- "$expected" <<<"$json" || complain "dla explain --json lacks $expected"
done
[ "$(head -c 4 "$folder/golf.png" | tail -c 3)" = PNG ] || complain "explain draws no PNG"
cmp -s <("$dla" explain "$photo" --class 8 --output "$folder/golf.png" --json) <(echo "$json") || complain "class 8 is not the golf ball"
cmp -s <("$dla" explain "$photo" --class n03445777 --output "$folder/golf.png" --json) <(echo "$json") || complain "nor its WordNet id"
(cd "$folder" && "$dla" explain "$photo" >text)
grep -q "garbage truck; drawn in garbage_truck-explained.png" "$folder/text" || complain "explain: text"
[ -s "$folder/garbage_truck-explained.png" ] || complain "explain: no picture under the default name"
expect_failure 2 "--class golf bal: no such class; did you mean golf ball?" explain "$photo" --class "golf bal" --output "$folder/no.png"
expect_failure 2 "--class 10: no such class" explain "$photo" --class 10 --output "$folder/no.png"
expect_failure 1 "holiday.jpg: not a JPEG" explain "$folder/holiday.jpg" --output "$folder/no.png"
[ ! -e "$folder/no.png" ] || complain "a refused picture was drawn"
finish
