#!/usr/bin/env bash
# Where a network runs: what --device and --precision refuse, on the command line and where this build or machine has no GPU; where
# there is one, it says of photographs what the CPU says.
source "$(dirname "$0")/shell_check.sh"
photos=$source/examples/photos
photo=$photos/garbage_truck.jpg
build=$(dirname "$dla")

# ---- the command line ----
expect_failure 2 'did you mean cuda?' classify --device cude "$photo"
expect_failure 2 'possible are float32|tf32|float16|bfloat16' classify --precision int8 "$photo"
for command in classify explain segment edges eval; do
    expect_failure 2 '--precision float16 is for GPUs' "$command" --precision float16 "$photos"
done
expect_failure 2 '--precision tf32 is for GPUs' run --precision tf32 --input x.npy --output y.npy
expect_failure 2 '--precision float32,bfloat16 is for GPUs' bench dla46_c --precision float32,bfloat16
expect_failure 2 "--precision 'float32,half'" bench dla46_c --device cuda --precision float32,half
expect_failure 2 "give one number at most" bench dla46_c --device cuda --threads 1,2

# ---- the CPU, in every build ----
expect_status 0 classify --device cpu --precision float32 --topk 1 "$photo"
grep -q 'garbage truck' "$folder/out" || complain "--device cpu says: $(cat "$folder/out")"
"$dla" bench dla46_c --size 64 --seconds 0.05 --json 2>"$folder/noise" | grep -q '"device": "cpu", "precision": "float32"' ||
    complain "dla bench --json does not tell device and precision"

# ---- no GPU: one line that says why, and what would help ----
if ! grep -q '^DLA_CUDA:BOOL=ON' "$build/CMakeCache.txt"; then
    expect_failure 1 'CMAKE_FLAGS=-DDLA_CUDA=ON' classify --device cuda "$photo"
    expect_failure 1 'built without CUDA' bench dla46_c --device cuda --precision float16,float32
    expect_failure 1 'built without CUDA' segment --device cuda --output "$folder/pictures" "$photo"
    expect_failure 1 'built without CUDA' explain --device cuda --output "$folder/explained.png" "$photo"
    expect_failure 1 'built without CUDA' eval --device cuda "$photos"
    finish
fi
for library in libcuda libcudart libcudnn libcublas libnccl libstdc++; do
    ldd "$dla" "$build/libdla.so" | grep -q "$library" && complain "dla needs $library to start"
done
if ! "$dla" classify --device cuda "$photo" >/dev/null 2>&1; then
    if [ -e /dev/nvidiactl ]; then
        "$dla" classify --device cuda "$photo" || complain "there is a GPU, and dla does not run on it"
        finish
    fi
    expect_failure 1 'NVIDIA driver' classify --device cuda "$photo"
    expect_failure 1 'NVIDIA driver' bench dla46_c --device cuda
    finish
fi

# ---- a GPU ----
"$dla" classify --topk 1 "$photos" >"$folder/on_cpu" 2>/dev/null
for precision in float32 tf32 float16 bfloat16; do
    "$dla" classify --topk 1 --device cuda --precision "$precision" --batch 4 "$photos" >"$folder/on_gpu" 2>/dev/null
    # The percentages may differ a little, the classes may not.
    diff <(sed 's/^ *[0-9.]* %//' "$folder/on_cpu") <(sed 's/^ *[0-9.]* %//' "$folder/on_gpu") || complain "another class on a GPU with $precision"
done
"$dla" bench dla46_c --device cuda --precision float32,float16 --batch 1,4 --size 64 --seconds 0.1 --layers --json >"$folder/bench.json"
[ "$(grep -c '"isa": "cuda"' "$folder/bench.json")" -eq 4 ] || complain "two batches as two precisions do not give four results"
grep -q '"precision": "float16"' "$folder/bench.json" || complain "dla bench does not tell the precision"
expect_status 0 explain --device cuda --output "$folder/explained.png" "$photo"
expect_status 0 segment --device cuda --precision float16 --output "$folder/pictures" "$photo"
finish
