/* architecture.h - what may stand in a dla_architecture: one table for range checks, the config file and its messages. */
#ifndef DLA_NET_ARCHITECTURE_H
#define DLA_NET_ARCHITECTURE_H

#include <dla/dla.h>

enum { BLOCK_COUNT = 3 };

struct field_range {
    const char *key;              /* "cardinality" */
    size_t offset;                /* of the int, or of the first of DLA_LEVEL_COUNT, in dla_architecture */
    int count;                    /* 1, or DLA_LEVEL_COUNT */
    int minimum, maximum;
    const int *choices;           /* instead of a range: legal values, ends with -1; or NULL */
    int fallback;                 /* where a config does not give it; REQUIRED for those it must give */
    unsigned blocks;              /* bit b set: means something for block b */
};

enum { REQUIRED = -1, ALL_BLOCKS = 7 };
enum { FIELD_COUNT = 9 };
extern const struct field_range architecture_fields[FIELD_COUNT];

/* DLA_OK, or DLA_ERROR_ARGUMENT that names the field, the number and what is legal; index: of the level. */
dla_status field_check(const struct field_range *field, int index, int64_t number);

/* 1 to 63 letters, digits, '_', '-' and '.', so that it can stand in file names, XML and messages as it is. */
dla_status architecture_check_name(const char *name, size_t length);

/* The field's ints inside an architecture. */
int *field_values(const struct field_range *field, dla_architecture *architecture);

/* Whether the field means something for the architecture's block. */
bool field_applies(const struct field_range *field, dla_block block);

#endif
