#!/usr/bin/env bash
# test_export.sh DLA SOURCE_ROOT - dla export and dla draw as a user types them: files appear whole or not at all.
source "$(dirname "$0")/shell_check.sh"
cd "$folder" || exit 1

# ---- drawings ----
expect_status 0 draw dla34 dla34.svg
head -c 60 dla34.svg | grep -q '^<?xml' || complain "dla draw does not write an XML file"
expect_status 0 info dla60 --print-config
sed 's/"dla60"/"my_net"/' out >net.json
expect_status 0 draw --config net.json --classes 7 my_net.svg
grep -q '>my_net<' my_net.svg || complain "the drawing lacks the network's name"
grep -q '>7 classes<' my_net.svg || complain "the drawing lacks the number of classes"
expect_failure 1 "did you mean dla34?" draw dla43 never.svg
expect_failure 2 "no network given" draw never.svg
expect_failure 1 "no/such/folder/x.svg" draw dla34 no/such/folder/x.svg

# ---- ONNX; a build without protobuf-c says so ----
status=0
"$dla" export built_in.onnx 2>err || status=$?
if [ "$status" -ne 0 ]; then
    grep -q 'protobuf-c' err || complain "dla export fails: $(cat err)"
else
    [ "$(wc -c <built_in.onnx)" -gt 4000000 ] || complain "the built-in model's ONNX file is too small"
    grep -qa 'level3.tree1.root.conv' built_in.onnx || complain "the ONNX file lacks the nodes' names"
    grep -qa 'garbage truck' built_in.onnx || complain "the ONNX file lacks the labels"
    expect_status 0 export --format onnx --with-preprocessing resize --opset 20 photo.onnx
    expect_status 0 export dla46_c --weights "$source/models/dla46_c_imagenette.safetensors" --dynamic-size named.onnx
    expect_failure 1 "opset is 17, legal is 18 to 22" export --with-preprocessing resize --opset 17 never.onnx
    expect_failure 2 "--opset" export --opset 9 never.onnx
    expect_failure 2 "--size and --dynamic-size" export --size 256 --dynamic-size never.onnx
    expect_failure 1 "dla34" export dla34 --weights "$source/models/dla46_c_imagenette.safetensors" never.onnx
    expect_failure 1 "no/such/folder/x.onnx" export no/such/folder/x.onnx
fi
[ -z "$(find . -name 'never*' -o -name '*.tmp')" ] || complain "something was left behind: $(ls)"
finish
