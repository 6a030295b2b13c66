/* npy.h - NumPy's array files. The public functions are in dla.h; this is the part that fuzzing and tests reach. */
#ifndef DLA_WEIGHTS_NPY_H
#define DLA_WEIGHTS_NPY_H

#include "base/tensor.h"

/* Parses a whole .npy file in memory; `tensor->data` points into bytes. Little-endian f2 f4 f8 i1 i2 i4 i8 u1 b1, in C or
 * Fortran order; the data must fill the file exactly. Messages carry no path. */
dla_status npy_parse(const uint8_t *bytes, size_t size, struct tensor_view *tensor);

#endif
