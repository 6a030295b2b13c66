#!/usr/bin/env bash
# test_bench.sh DLA SOURCE_ROOT - dla bench: what scripts rely on, sums that must agree, clear refusals. How fast it is, no test can say.
source "$(dirname "$0")/shell_check.sh"

export XDG_CACHE_HOME=$folder/cache   # where times of kernels are remembered

# One small network in four settings; the smallest input keeps this short.
"$dla" bench dla46_c --batch 1,3 --threads 1,2 --size 32x64 --seconds 0.1 --json >"$folder/bench.json" 2>"$folder/noise"
[ "$(grep -c '"model": "dla46_c"' "$folder/bench.json")" -eq 4 ] || complain "four settings do not give four results"
for key in '"batch": 3' '"threads": 2' '"height": 32' '"width": 64' isa median_ms min_ms spread images_per_second gflops percent_of_peak \
    peak_gflops noisy activation_bytes activation_bound; do
    grep -q "$key" "$folder/bench.json" || complain "dla bench --json lacks $key"
done
if ! DLA_ISA=generic "$dla" bench dla46_c --size 32 --seconds 0.1 --json 2>"$folder/noise" | grep -q '"isa": "generic"'; then
    complain "DLA_ISA does not reach dla bench"
fi

if command -v python3 >/dev/null; then
    DLA_ISA=generic "$dla" bench dla34 dla34up --size 64 --seconds 0.1 --layers --json >"$folder/layers.json" 2>"$folder/noise"
    python3 - "$folder/layers.json" "$folder/bench.json" <<'END' || complain "figures of dla bench contradict each other"
import json, math, sys
for path in sys.argv[1:]:
    for result in json.load(open(path)):
        assert 0 < result["min_ms"] <= result["median_ms"] and result["spread"] >= 0, result
        assert math.isclose(result["images_per_second"], 1e3 * result["batch"] / result["median_ms"], rel_tol=1e-6)
        assert math.isclose(result["percent_of_peak"], 100 * result["gflops"] / result["peak_gflops"], rel_tol=1e-6)
        assert result["activation_bound"] <= result["activation_bytes"]
        for layer in result.get("layers", []):
            assert layer["ms"] > 0 and layer["roof_ms"] >= 0 and layer["bound"] in ("FMA", "L2", "L3", "memory"), layer
            if not layer["kernel"].startswith("winograd"):
                assert layer["gflops"] == layer["computed_gflops"], layer
        if "layers" in result:
            done = sum(layer["gflops"] * layer["ms"] for layer in result["layers"])
            assert math.isclose(done, result["gflops"] * result["median_ms"], rel_tol=1e-6), (done, result["gflops"] * result["median_ms"])
            assert result["weight_bytes"] >= sum(layer["weight_bytes"] for layer in result["layers"])
END
fi

# dla34 does 3.06 G multiply-adds at 224x224 (docs/census.md): gflops counts two for each.
"$dla" bench dla34 --seconds 0.1 --json 2>"$folder/noise" | tr ',' '\n' | awk -F': ' '
    /"median_ms"/ { ms = $2 } /"gflops"/ { gflops = $2 } END { done = ms * gflops / 1e3; exit !(done > 6.1200 && done < 6.1202) }' ||
    complain "the FLOPs of dla34 are not twice its multiply-adds"

"$dla" bench dla46_c --size 64 --seconds 0.1 --layers --roofline "$folder/roofline.svg" >"$folder/table" 2>"$folder/noise"
for expected in 'base_layer.0' 'level3.tree1' 'global_pool' 'activations' 'multiply-adds'; do
    grep -q "$expected" "$folder/table" || complain "dla bench --layers lacks $expected"
done
tail -1 "$folder/roofline.svg" | grep -q '</svg>' || complain "the roofline is no complete picture"
if command -v xmllint >/dev/null; then
    xmllint --noout "$folder/roofline.svg" || complain "the roofline is not XML"
fi
"$dla" bench --exact dla34 --size 64 --seconds 0.1 --layers 2>"$folder/noise" | grep -q winograd && complain "--exact runs Winograd's kernels"

"$dla" bench dla46_c --train --batch 2 --size 64 --threads 1,2 --seconds 0.1 --json >"$folder/train.json" 2>"$folder/noise"
[ "$(grep -c '"model": "dla46_c"' "$folder/train.json")" -eq 2 ] || complain "dla bench --train does not give two results"
# Three times the multiply-adds of a pass (docs/census.md), on two images of 64x64.
macs=$("$dla" info dla46_c --size 64 --json | tr ',' '\n' | sed -n 's/.*"macs": //p')
tr ',' '\n' <"$folder/train.json" | awk -F': ' -v macs="$macs" '
    /"median_ms"/ { ms = $2 } /"gflops"/ { gflops = $2; done = ms * gflops * 1e6; wanted = 12 * macs; wrong += done / wanted < 0.9999 || done / wanted > 1.0001; n++ }
    END { exit !(n == 2 && wrong == 0) }' || complain "the FLOPs of a training step are not six for each multiply-add"

expect_failure 2 "--layers is for inference" bench dla46_c --train --layers
expect_failure 1 "only the training of classifiers" bench dla34up --train
expect_failure 2 "no network given" bench
expect_failure 2 "one of them is enough" bench --all dla34
expect_failure 2 "--batch '1,,2'" bench dla34 --batch 1,,2
expect_failure 2 "--threads '0'" bench dla34 --threads 0
expect_failure 2 "one measurement, not 2" bench dla34 --batch 1,2 --roofline "$folder/x.svg"
expect_failure 2 "--weights is for one network" bench dla34 dla60 --weights x.safetensors
expect_failure 1 "did you mean dla34?" bench dla35
expect_failure 1 "absent.safetensors" bench dla34 --weights "$folder/absent.safetensors"
finish
