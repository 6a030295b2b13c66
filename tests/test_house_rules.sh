#!/usr/bin/env bash
# The rules of CONTRIBUTING.md that a compiler does not check: layers include one way, the library neither prints nor ends the
# process nor allocates behind the program's back, the shared library exports exactly what the public header declares, README.md
# mentions every command, links in documents lead somewhere.
set -euo pipefail
build=$(cd "$(dirname "$1")" && pwd)
cd "$2"
failures=0

complain() {
    echo "FAILED: $1" >&2
    failures=$((failures + 1))
}

# ---- layers: folder, and those whose headers it may include ----
layers="
base:   base
image:  base image
net:    base net weights
weights: base net weights
cpu:    base cpu
cuda:   base net weights cpu cuda
plan:   base net weights cpu cuda plan
tasks:  base image net weights cpu cuda plan tasks
train:  base image net weights cpu cuda plan tasks train
export: base image net weights cpu plan tasks export
measure: base image net weights cpu cuda plan tasks train measure
"
while read -r layer allowed; do
    [ -n "$layer" ] || continue
    layer=${layer%:}
    while IFS=: read -r file line include; do
        [ -n "$file" ] || continue
        from=${include#*\"}
        from=${from%%/*}
        [[ " $allowed " == *" $from "* ]] || complain "$file:$line: $layer may not include $from/"
    done < <(grep -rnE '^#include "[a-z_]+/' "src/$layer" 2>/dev/null || true)
done <<<"$layers"
for folder in src/*/; do
    grep -q "^$(basename "$folder"):" <<<"$layers" || complain "$folder is not among the layers in $0"
done
if grep -nE '^#include "(base|image|net|weights|cpu|cuda|plan|tasks|train|export|measure)/' cli/*.[ch]; then
    complain "the command may use <dla/dla.h> only"
fi

# ---- the library's manners ----
if grep -rnE '(^|[^a-z_>.])(malloc|calloc|realloc|strdup|strndup|aligned_alloc|posix_memalign|asprintf|open_memstream)\(' src --include='*.c' --include='*.cu' |
    grep -v -e '^src/base/memory.c:' -e '^src/base/text_stream.c:' -e 'must be malloc'; then
    complain "memory comes from base/memory.h"
fi
if grep -rnE '(^|[^a-z_>.])(printf|puts|putchar|perror|exit|_exit|abort)\(|[(, ](stdout|stderr)[,);]' src --include='*.[ch]' --include='*.cu' | grep -vE '^[^:]+:[0-9]+: *(/?\*|//)'; then
    complain "the library does not print and does not end the process"
fi

# ---- what is exported ----
declared=$(sed -e 's,/\*.*\*/,,' include/dla/dla.h | grep -E '^DLA_API ' | grep -oE 'dla_[a-z0-9_]+\(' | tr -d '(' | sort -u)
exported=$(nm -D --defined-only "$build/libdla.so" | awk '$2 ~ /[TBDR]/ { sub(/@.*/, "", $3); print $3 }' | grep -vE '^(__|asan|ubsan|DLA_)' | sort -u)
difference=$(diff <(echo "$declared") <(echo "$exported") || true)
if [ -n "$difference" ]; then
    echo "$difference"
    complain "declared in dla.h (<) and exported by libdla.so (>) differ"
fi
unversioned=$(nm -D --defined-only "$build/libdla.so" | awk '$2 == "T" && $3 ~ /^dla_/ && $3 !~ /@@DLA_/')
[ -z "$unversioned" ] || complain "without a version: $unversioned"

# ---- what the documents say exists ----
while read -r name; do
    grep -q "\`dla $name" README.md || complain "README.md does not mention dla $name"
done < <("$build/dla" help --commands)
while IFS= read -r document; do
    while read -r target; do
        [ -e "$(dirname "$document")/$target" ] || complain "$document links to $target, which is not there"
    done < <(grep -oE '\]\([^)#:]+\)' "$document" | sed -e 's/^](//' -e 's/)$//')
done < <(find . -name '*.md' -not -path './build*' -not -path './third_party/*')

exit $((failures > 0))
