#!/usr/bin/env python3
"""Writes src/tasks/imagenet_labels.c from timm's package data: python3 tools/make_imagenet_labels.py

The order of the 1000 ImageNet-1k classes and their WordNet lemmas are facts that every network trained on ImageNet shares.
"""
import pathlib

from timm.data import ImageNetInfo

root = pathlib.Path(__file__).resolve().parent.parent
info = ImageNetInfo("imagenet1k")
count = info.num_classes()
assert count == 1000

lines = [
    "/* imagenet_labels.c - the classes of ImageNet-1k in the order of a network's outputs; written by tools/make_imagenet_labels.py.",
    " *",
    " * A WordNet id and the lemmas of that synset, as WordNet lists them.",
    " */",
    '#include "tasks/imagenet_labels.h"',
    "",
    "/* clang-format off */",
    "const struct imagenet_class imagenet_classes[IMAGENET_CLASS_COUNT] = {",
]
for index in range(count):
    wnid = info.index_to_label_name(index)
    label = info.index_to_description(index)
    assert label.isascii() and '"' not in label and "\\" not in label
    lines.append(f'    {{"{wnid}", "{label}"}},')
lines += ["};", "/* clang-format on */", ""]
(root / "src" / "tasks" / "imagenet_labels.c").write_text("\n".join(lines))
