/* network.h - from an architecture to its graph. */
#ifndef DLA_NET_NETWORK_H
#define DLA_NET_NETWORK_H

#include "net/graph.h"

struct dla_network {
    dla_architecture architecture;   /* of a composed one, the name alone */
    struct graph graph;
    bool composed;                   /* by dla_builder: no levels, any number of inputs */
};

/* Range checks of every field; DLA_ERROR_ARGUMENT names the field, what it is and what it may be. */
dla_status architecture_check(const dla_architecture *architecture);

/* For what needs levels and a photograph: DLA_ERROR_UNSUPPORTED where the network is composed; `what` begins the message. */
dla_status network_check_levels(const dla_network *network, const char *what);

#endif
