/* blocks.h - the three convolutional blocks that DLA networks are made of, as block_builders. */
#ifndef DLA_NET_BLOCKS_H
#define DLA_NET_BLOCKS_H

#include "net/aggregate.h"

struct block_options {
    int cardinality;       /* groups of the 3x3 convolutions */
    int base_width;        /* channels of a group at 64 output channels */
    int scale;             /* slices of bottle2neck */
};

enum { BOTTLE2NECK_MAX_SCALE = 16 };

block_builder basic_block, bottleneck_block, bottle2neck_block;   /* options: struct block_options */

block_builder *block_builder_of(dla_block block);

/* Channels of the 3x3 convolutions of a bottleneck, or of one slice of a bottle2neck. */
int64_t block_middle_channels(const struct block_options *options, int out_channels);

#endif
