/* device.h - whether a network can run where, and as, it is asked to. */
#ifndef DLA_PLAN_DEVICE_H
#define DLA_PLAN_DEVICE_H

#include <dla/dla.h>

/* DLA_ERROR_UNSUPPORTED where this machine or this library lacks the device, or the device the precision. */
dla_status device_check(dla_device device, dla_precision precision);

/* Bytes of an element of a map. */
static inline size_t precision_bytes(dla_precision precision)
{
    return precision == DLA_PRECISION_FLOAT16 || precision == DLA_PRECISION_BFLOAT16 ? 2 : sizeof(float);
}

#endif
