/* weights_making.h - weights made for a network, to be bent by tests before they are written. */
#ifndef DLA_TESTS_WEIGHTS_MAKING_H
#define DLA_TESTS_WEIGHTS_MAKING_H

#include "net/network.h"
#include "weights/safetensors.h"
#include "weights_check.h"

/* The tensors of a network, and room for a few more. */
struct made_weights {
    struct arena arena;
    dla_network *network;
    struct tensor_view *tensors;
    int count;
};

enum { ROOM_FOR_MORE = 512 };

/* Element i of a tensor; small, positive (a variance must be), exact in float16. */
static inline float made_value(int64_t i)
{
    return (float)(i % 512 + 1) / 1024.0f;
}

static inline float *made_values(struct made_weights *made, int64_t elements)
{
    float *values = arena_allocate_array(&made->arena, (size_t)elements + 1, sizeof(*values));
    for (int64_t i = 0; i < elements; i++)
        values[i] = made_value(i);
    return values;
}

static inline struct tensor_view *add_tensor(struct made_weights *made, const char *name, int rank, const int64_t *shape)
{
    struct tensor_view *tensor = &made->tensors[made->count++];
    int64_t elements;

    *tensor = (struct tensor_view){.name = arena_copy_string(&made->arena, name), .dtype = DTYPE_F32, .rank = rank};
    for (int i = 0; i < rank; i++)
        tensor->shape[i] = shape[i];
    tensor_set_row_major(tensor);
    assert_true(shape_elements(tensor->shape, rank, &elements));
    tensor->data = made_values(made, elements);
    return tensor;
}

static inline struct tensor_view *made_tensor(struct made_weights *made, const char *name)
{
    for (int i = 0; i < made->count; i++)
        if (strcmp(made->tensors[i].name, name) == 0)
            return &made->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline struct made_weights make_weights(const char *architecture_name, int classes)
{
    struct made_weights made = {0};
    dla_architecture architecture;

    assert_ok(dla_architecture_find(architecture_name, &architecture));
    architecture.num_classes = classes;
    assert_ok(dla_network_create(&architecture, &made.network));
    const struct graph *graph = &made.network->graph;
    made.tensors = arena_allocate_array(&made.arena, (size_t)graph->parameter_count + ROOM_FOR_MORE, sizeof(*made.tensors));
    for (int p = 0; p < graph->parameter_count; p++)
        add_tensor(&made, graph->parameters[p].name, graph->parameters[p].rank, graph->parameters[p].shape);
    return made;
}

static inline void free_made_weights(struct made_weights *made)
{
    dla_network_destroy(made->network);
    arena_free(&made->arena);
}

#endif
