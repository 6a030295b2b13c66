/* imagenet_labels.h - the classes of ImageNet-1k, for networks that bring no labels of their own. */
#ifndef DLA_TASKS_IMAGENET_LABELS_H
#define DLA_TASKS_IMAGENET_LABELS_H

enum { IMAGENET_CLASS_COUNT = 1000 };

struct imagenet_class {
    const char *wnid;  /* "n01440764" */
    const char *label; /* "tench, Tinca tinca" */
};

extern const struct imagenet_class imagenet_classes[IMAGENET_CLASS_COUNT];

#endif
