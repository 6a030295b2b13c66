#!/usr/bin/env bash
# Man pages and completion say what the command tables say: every command and every option of its --help is in both.
source "$(dirname "$0")/shell_check.sh"

mapfile -t commands < <("$dla" help --commands)
[ ${#commands[@]} -gt 0 ] || complain "help --commands lists none"
"$dla" help --completion bash >"$folder/dla.bash"
"$dla" help --completion zsh >"$folder/_dla"
bash -n "$folder/dla.bash" || complain "bash cannot read its completion"
if command -v zsh >/dev/null; then
    zsh -n "$folder/_dla" || complain "zsh cannot read its completion"
fi
# shellcheck source=/dev/null
source "$folder/dla.bash"

# Whether bash would offer the first argument after the words that follow it.
bash_offers() {
    local wanted=$1 word
    shift
    COMP_WORDS=("$@")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _dla || true
    for word in "${COMPREPLY[@]}"; do
        [ "$word" != "$wanted" ] || return 0
    done
    return 1
}

"$dla" help --man >"$folder/dla.1"
for name in "${commands[@]}"; do
    "$dla" help --man "$name" >"$folder/dla-$name.1"
    grep -qF ".B ${name//-/\\-}" "$folder/dla.1" || complain "dla.1 does not list $name"
    bash_offers "$name" dla "" || complain "bash does not offer $name"
    grep -qF "'$name:" "$folder/_dla" || complain "zsh does not offer $name"
    while read -r option; do
        grep -qF -- "${option//-/\\-}" "$folder/dla-$name.1" || complain "dla-$name.1 lacks $option"
        bash_offers "$option" dla "$name" -- || complain "bash does not offer $option after $name"
        grep -qF -- "$option" "$folder/_dla" || complain "zsh does not offer $option"
    done < <("$dla" "$name" --help | grep -oE '^  (-h, )?--[a-z0-9-]+' | grep -oE -- '--.*')
done
bash_offers dla34 dla info dla3 || complain "bash does not complete a model's name"

if command -v mandoc >/dev/null; then
    for page in "$folder"/*.1; do
        mandoc -Tlint -Wwarning "$page" | grep -v 'missing date' >"$folder/lint" || true
        [ ! -s "$folder/lint" ] || complain "$(cat "$folder/lint")"
    done
fi
"$dla" help --completion fish >/dev/null 2>&1 && complain "fish is not known, and yet no error"
finish
