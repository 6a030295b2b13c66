#!/usr/bin/env bash
# test_cuda_ranks.sh DLA SOURCE_ROOT - `mpirun dla train --device cuda`: two ranks, on one GPU or on two, do what one process and what two
# ranks on the CPU do, stay equal, and stop together. Needs a GPU, cuDNN, mpirun, and a dla with CUDA and MPI; skipped without.
source "$(dirname "$0")/shell_check.sh"
cd "$folder" || exit 1

skip() {
    [ "$failures" = 0 ] || finish
    echo "skipped: $1"
    exit 77
}
[[ "$(ldd "$dla")" == *libmpi* ]] || skip "built without MPI"
command -v mpirun >/dev/null || skip "no mpirun"
source "$source/tests/ranks_check.sh"
cuda=(--device cuda)
# same A B MOST: both runs have as many steps, and their losses differ by less than MOST.
same() {
    losses "$1" step loss >"$1.steps"
    losses "$2" step loss >"$2.steps"
    local steps difference
    steps=$(wc -l <"$1.steps")
    difference=$(difference "$1.steps" "$2.steps")
    echo "$1 and $2: $steps steps, losses differ by $difference at most"
    [ "$steps" -gt 0 ] && [ "$(wc -l <"$2.steps")" = "$steps" ] && awk -v a="$difference" -v b="$3" 'BEGIN { exit !(a < b) }' ||
        complain "$2 does not do what $1 does: $(paste "$1.steps" "$2.steps")"
}

# ---- no GPU: said once ----
status=0
ranks 2 "${cuda[@]}" --epochs 1 --output none 2>err || status=$?
if grep -qE 'NVIDIA driver|no GPU can be used|built without CUDA' err; then
    [ "$status" != 0 ] && [ "$(grep -cE 'NVIDIA driver|no GPU can be used|built without CUDA' err)" = 1 ] ||
        complain "two ranks without a GPU: $(cat err)"
    skip "$(grep -m1 '^dla: ' err)"
fi
grep -q 'needs cuDNN' err && skip "$(grep -m1 'needs cuDNN' err)"
[ "$status" = 0 ] || complain "two ranks: $(cat err)"
grep '2 ranks, gradients added up by ' err || complain "it is not told what adds the gradients up: $(cat err)"

# ---- the same result ----
"$dla" train "${recipe[@]}" "${cuda[@]}" --epochs 2 --output one 2>err || complain "one process: $(cat err)"
ranks 2 "${cuda[@]}" --epochs 2 --sync-bn --output two 2>err || complain "two ranks: $(cat err)"
same one two 0.002
losses one epoch val_loss >one.val
losses two epoch val_loss >two.val
awk -v a="$(difference one.val two.val)" 'BEGIN { exit !(a < 0.01) }' || complain "sharded validation differs: $(paste one.val two.val)"
[ "$(grep -c 'photographs of' err)" = 1 ] || complain "every rank speaks: $(cat err)"
"$dla" train "${recipe[@]}" "${cuda[@]}" --epochs 2 --batch 4 --accumulate 2 --output one_accumulated 2>err || complain "one process, two passes: $(cat err)"
ranks 2 "${cuda[@]}" --epochs 2 --batch 4 --accumulate 2 --sync-bn --output two_accumulated 2>err || complain "two ranks, two passes: $(cat err)"
same one_accumulated two_accumulated 0.002
ranks 2 --epochs 2 --output cpu_apart 2>err || complain "two ranks on the CPU: $(cat err)"
ranks 2 "${cuda[@]}" --epochs 2 --output apart --checkpoint-steps 1 --keep 100 2>err || complain "two ranks with their own batch norms: $(cat err)"
same cpu_apart apart 0.002
awk -v a="$(difference one.steps apart.steps)" 'BEGIN { exit !(a > 0.002) }' || complain "--sync-bn changes nothing: $(paste one.steps apart.steps)"
"$dla" train "${recipe[@]}" "${cuda[@]}" --precision float16 --epochs 2 --output one_half 2>err || complain "one process, float16: $(cat err)"
ranks 2 "${cuda[@]}" --precision float16 --epochs 2 --sync-bn --output two_half 2>err || complain "two ranks, float16: $(cat err)"
same one_half two_half 0.02

# ---- the ranks' weights stay equal: from rank 0's, both go on as if nothing had happened ----
mkdir -p resumed/checkpoints
cp apart/checkpoints/step-00000003.safetensors resumed/checkpoints
ranks 2 "${cuda[@]}" --epochs 2 --output resumed --resume 2>err || complain "two ranks go on: $(cat err)"
losses apart step loss | tail -n +4 >rest.steps
losses resumed step loss >resumed.steps
[ -s rest.steps ] && awk -v a="$(difference rest.steps resumed.steps)" 'BEGIN { exit !(a < 1e-5) }' ||
    complain "the ranks' weights were not equal: $(paste rest.steps resumed.steps)"
losses apart epoch val_loss | tail -n 1 >rest.val
losses resumed epoch val_loss | tail -n 1 >resumed.val
[ -s rest.val ] && awk -v a="$(difference rest.val resumed.val)" 'BEGIN { exit !(a < 1e-5) }' ||
    complain "the ranks' running statistics were not equal: $(paste rest.val resumed.val)"

# ---- classes of pixels, of which the ranks have different numbers ----
make_street
recipe=("${street_recipe[@]}")
"$dla" train "${recipe[@]}" "${cuda[@]}" --output pixels_one 2>err || complain "pixels, one process: $(cat err)"
ranks 2 "${cuda[@]}" --sync-bn --output pixels_two 2>err || complain "pixels, two ranks: $(cat err)"
same pixels_one pixels_two 0.002

# ---- what fails on one rank stops all ----
label=$(find street/labels -name 'truck3*')
cp "$(find street/labels -name 'church3*')" "$label"
status=0
ranks 2 "${cuda[@]}" --output stopped 2>err || status=$?
[ "$status" != 0 ] && [ "$status" != 124 ] && grep -q truck3 err || complain "labels that do not fit: exit $status: $(cat err)"
recipe=("${photos_recipe[@]}")
status=0
ranks 2 "${cuda[@]}" --epochs 1 --batch 7 --output odd 2>err || status=$?
[ "$status" != 0 ] && [ "$(grep -c 'cannot be shared by 2 ranks' err)" = 1 ] || complain "an odd batch: $(cat err)"
finish
