/* cuda_map_call.c - a call of cpu/map.h in the GPU's terms. */
#include "cuda/cuda_map.h"

struct cuda_map_call cuda_map_call_of(const struct map_call *call, enum cuda_format format)
{
    return (struct cuda_map_call){
        .format = format,
        .batch = call->batch,
        .channels = call->channels,
        .in_height = call->in_height,
        .in_width = call->in_width,
        .out_height = call->out_height,
        .out_width = call->out_width,
        .kernel = call->kernel,
        .stride = call->stride,
        .padding = call->padding,
        .dilation = call->dilation,
        .in_channels = call->in_channels,
        .groups = call->groups,
        .relu = call->relu,
    };
}
