#!/usr/bin/env bash
# `dla inspect` and `dla convert` on the built-in network's file: what they say, what they write, how they refuse.
source "$(dirname "$0")/shell_check.sh"
model=$source/models/dla46_c_imagenette.safetensors

"$dla" inspect "$model" >"$folder/text"
grep -qE "safetensors, 242 tensors, [0-9]+ values" "$folder/text" || complain "inspect: first line"
grep -qx 'fits dla46_c' "$folder/text" || complain "inspect: dla46_c does not fit"
[ "$(grep -c '^not dla' "$folder/text")" -eq 11 ] || complain "inspect: not eleven others"
grep -qE "^not dla34: .*'level2.tree1.conv1.weight' is \(" "$folder/text" || complain "inspect: no reason against dla34"
grep -qE '^base_layer\.0\.weight +float16 +\(16, 3, 7, 7\)' "$folder/text" || complain "inspect: no row for the stem"

"$dla" convert "$model" "$folder/single.safetensors" 2>"$folder/report"
grep -q 'written as dla46_c' "$folder/report" || complain "convert: report"
"$dla" inspect "$folder/single.safetensors" >"$folder/text"
grep -qE '^base_layer\.0\.weight +float32' "$folder/text" || complain "convert: not float32"
"$dla" convert "$folder/single.safetensors" "$folder/half.safetensors" --half 2>"$folder/report"
cmp -s "$model" "$folder/half.safetensors" || complain "convert: there and back is not the same file"

if command -v jq >/dev/null; then
    "$dla" inspect "$model" --json >"$folder/json"
    [ "$(jq -c .fits "$folder/json")" = '["dla46_c"]' ] || complain "inspect --json: fits"
    [ "$(jq '.tensors | length' "$folder/json")" -eq 242 ] || complain "inspect --json: tensors"
    [ "$(jq -r .metadata.architecture "$folder/json")" = dla46_c ] || complain "inspect --json: metadata"
fi

echo 'Dear Sir or Madam' >"$folder/letter.safetensors"
head -c 20000 "$model" >"$folder/part.safetensors"
expect_failure 1 'starts with "Dear Sir or Mada"' inspect "$folder/letter.safetensors"
expect_failure 1 'truncated' inspect "$folder/part.safetensors"
expect_failure 1 'part.safetensors' convert "$folder/part.safetensors" "$folder/never.safetensors"
expect_failure 1 'No such file' inspect "$folder/absent.safetensors"
expect_failure 1 'is a folder' inspect "$folder"
expect_failure 1 'is a folder' convert "$model" "$folder"
expect_failure 2 'exclude each other' convert "$model" "$folder/never.safetensors" --half --bfloat16
[ ! -e "$folder/never.safetensors" ] || complain "a failed convert left a file"
finish
