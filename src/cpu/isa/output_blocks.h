/* output_blocks.h - how a convolution's vectors of output channels are divided into blocks, a tile's width. */
#ifndef DLA_CPU_ISA_OUTPUT_BLOCKS_H
#define DLA_CPU_ISA_OUTPUT_BLOCKS_H

/* Vectors before block `index` of `block_vectors` each. Where blocks of three would leave one, the last two have two each. */
static inline int first_vector(int vector_count, int block_vectors, int index)
{
    int first = index * block_vectors;
    if (block_vectors == 3 && index > 0 && first == vector_count - 1)
        return first - 1;
    return first < vector_count ? first : vector_count;
}

#endif
