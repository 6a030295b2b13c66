/* network.h - from an architecture to its graph. */
#ifndef DLA_NET_NETWORK_H
#define DLA_NET_NETWORK_H

#include "net/graph.h"

struct dla_network {
    dla_architecture architecture;
    struct graph graph;
};

/* Range checks of every field; DLA_ERROR_ARGUMENT names the field, what it is and what it may be. */
dla_status architecture_check(const dla_architecture *architecture);

#endif
