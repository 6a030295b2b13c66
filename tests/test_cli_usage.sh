#!/usr/bin/env bash
# What the command line accepts, and how it refuses: wrong usage is one line that says what is wrong, and exit status 2.
source "$(dirname "$0")/shell_check.sh"
photo=$source/examples/photos/cat.jpg

# ---- without a command, and help ----
expect_status 0
for word in 'Usage: dla' 'classify' 'dla classify photo.jpg' 'Exit status' 'NO_COLOR'; do
    grep -qF -- "$word" "$folder/out" || complain "the overview lacks '$word'"
done
[ ! -s "$folder/err" ] || complain "the overview prints to stderr"
mv "$folder/out" "$folder/overview"
for arguments in --help -h help; do
    expect_status 0 $arguments
    cmp -s "$folder/out" "$folder/overview" || complain "dla $arguments is not the overview"
done
expect_status 0 --version
grep -qxE 'dla [0-9]+\.[0-9]+\.[0-9]+' "$folder/out" || complain "--version prints '$(cat "$folder/out")'"

for command in $("$dla" help --commands); do
    grep -qE "^  $command +[a-z]" "$folder/overview" || complain "the overview lacks $command"
    expect_status 0 "$command" --help
    for word in "Usage: dla $command" 'Options:' '-h, --help' 'Example' "  dla $command" 'Exit status:'; do
        grep -qF -- "$word" "$folder/out" || complain "dla $command --help lacks '$word'"
    done
    awk 'length > 120 { exit 1 }' "$folder/out" || complain "dla $command --help has a line of more than 120 characters"
    mv "$folder/out" "$folder/command_help"
    expect_status 0 "$command" -h
    cmp -s "$folder/out" "$folder/command_help" || complain "dla $command -h is not --help"
    expect_status 0 help "$command"
    cmp -s "$folder/out" "$folder/command_help" || complain "dla help $command is not dla $command --help"
    expect_failure 2 '--no-such-option' "$command" --no-such-option
done
# Help wins over whatever else is wrong, but not after --.
expect_status 0 classify --topk nonsense --help
expect_failure 1 '--help' classify -- --help

# ---- commands and options ----
expect_failure 2 "did you mean classify?" clasify
expect_failure 2 "did you mean info?" Info
expect_failure 2 '`dla --help` lists all' transmogrify
expect_failure 2 "did you mean classify?" help clasify
expect_failure 2 '--verbose' --verbose classify
expect_failure 2 'did you mean --topk?' classify --tpok 3 "$photo"
expect_failure 2 'did you mean --crop-pct?' classify --crop_pct=0.9 "$photo"
expect_failure 2 '-k' classify -k 3 "$photo"
expect_failure 2 'needs PHOTO' classify
expect_failure 2 'needs DIR' eval
expect_failure 2 "'two' is one argument too many" eval one two

# ---- values ----
expect_failure 2 '--topk 0: must be from 1 to' classify --topk 0 "$photo"
expect_failure 2 '--topk -3: must be from 1 to' classify --topk=-3 "$photo"
expect_failure 2 '--topk five: a whole number is needed' classify --topk five "$photo"
expect_failure 2 '--topk 3.5: a whole number is needed' classify --topk 3.5 "$photo"
expect_failure 2 '--topk 99999999999999999999: must be' classify --topk 99999999999999999999 "$photo"
expect_failure 2 '--topk : a whole number' classify --topk= "$photo"
expect_failure 2 '--topk needs a value' classify "$photo" --topk
expect_failure 2 '--threads 0: must be from 1' classify --threads 0 "$photo"
expect_failure 2 '--batch 0: must be from 1' classify --batch 0 "$photo"
expect_failure 2 '--size 0: must be from 32' classify --size 0 "$photo"
expect_failure 2 '--crop-pct 0: must be from' classify --crop-pct 0 "$photo"
expect_failure 2 '--crop-pct nan: a number is needed' classify --crop-pct nan "$photo"
expect_failure 2 '--crop-pct wide: a number is needed' classify --crop-pct wide "$photo"
expect_failure 2 'did you mean bilinear?' classify --interpolation bilinaer "$photo"
expect_failure 2 'possible are bilinear|bicubic' classify --interpolation lanczos "$photo"
expect_failure 2 '--json takes no value' classify --json=yes "$photo"
expect_failure 2 '--weights: its value is empty' classify --weights= "$photo"
expect_failure 2 '--size 12x: N or HEIGHTxWIDTH' info dla34 --size 12x
expect_failure 2 '--size 64x31: must be from 32' info dla34 --size 64x31
expect_failure 2 'one of them names the network' classify --model dla34 --config net.json "$photo"

# `--option VALUE` and `--option=VALUE` are the same, options may follow arguments, the last one counts.
expect_status 0 classify --topk 2 --json "$photo"
[ "$(grep -c '"index"' "$folder/out")" -eq 2 ] || complain "--topk 2 does not give two classes"
for arguments in '--topk=2 --json' '--json --topk 7 --topk 2'; do
    expect_status 0 classify "$photo" $arguments
    [ "$(grep -c '"index"' "$folder/out")" -eq 2 ] || complain "$arguments after the photograph does not give two classes"
done

# A name that would drive the terminal is shown harmless; one that starts with - follows --.
expect_failure 1 'x?[31m.jpg' classify "$(printf 'x\033[31m.jpg')"
cp "$photo" "$folder/-cat.jpg"
(cd "$folder" && "$dla" classify -- -cat.jpg >/dev/null) || complain "dla classify -- -cat.jpg"

# ---- output that cannot be written ----
if [ -c /dev/full ]; then
    for arguments in models "models --json" "classify --json $photo"; do
        status=0
        "$dla" $arguments >/dev/full 2>"$folder/err" || status=$?
        [ "$status" -eq 1 ] || complain "dla $arguments >/dev/full: exit $status, not 1"
        [ "$(wc -l <"$folder/err")" -eq 1 ] || complain "dla $arguments >/dev/full: $(cat "$folder/err")"
        grep -q 'standard output' "$folder/err" || complain "dla $arguments >/dev/full: $(cat "$folder/err")"
    done
fi
finish
