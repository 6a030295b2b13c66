#!/usr/bin/env bash
# test_info.sh DLA SOURCE_ROOT - dla info and dla models: the keys that scripts rely on, and clear refusals.
source "$(dirname "$0")/shell_check.sh"

json=$("$dla" info dla34 --size 225x319 --classes 10 --json)
for expected in '"name": "dla34"' '"params": 15234' '"unused_params": 41728' '"macs": ' '"flops": ' '"activations": ' '"stride": 32' \
    '"channels": 512' '"height": 8' '"width": 10'; do
    grep -qF -- "$expected" <<<"$json" || complain "dla info --json lacks $expected"
done

human=$("$dla" info dla34)
for expected in 15742104 3070105576 'level3.tree1' '└─ root'; do
    grep -qF -- "$expected" <<<"$human" || complain "dla info lacks $expected"
done

[ "$("$dla" models | wc -l)" -eq 13 ] || complain "dla models does not list twelve networks below a heading"
[ "$("$dla" models --json | grep -c '"name"')" -eq 12 ] || complain "dla models --json does not list twelve networks"

# What --print-config prints, --config reads, and nothing changes on the way.
for model in dla34 dla102x2 dla60_res2net; do
    "$dla" info "$model" --print-config >"$folder/net.json"
    "$dla" info --config "$folder/net.json" --print-config | cmp - "$folder/net.json" || complain "config of $model changes"
    cmp <("$dla" info --config "$folder/net.json" --json) <("$dla" info "$model" --json) || complain "counts of $model change"
done

sed 's/"cardinality": 64/"cardinality": 0/' <("$dla" info dla102x2 --print-config) >"$folder/zero.json"
expect_failure 1 "zero.json: cardinality is 0, legal is 1 to 1024" info --config "$folder/zero.json"
expect_failure 1 "no model 'dla35'; did you mean dla34?" info dla35
expect_failure 1 "absent.json" info --config "$folder/absent.json"
expect_failure 2 "no network given" info
expect_failure 2 "both a model" info dla34 --config "$folder/net.json"
expect_failure 2 "--size" info dla34 --size 31
expect_failure 2 "--classes" info dla34 --classes -1
finish
