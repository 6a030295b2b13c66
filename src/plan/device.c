/* device.c - see device.h. */
#include "plan/device.h"
#include "base/status.h"
#if DLA_HAVE_CUDA
#include "cuda/cuda_device.h"
#endif

#include <string.h>

enum { NAME_SIZE = 64 }; /* of dla_device_name */

#if DLA_HAVE_CUDA
static dla_status name_gpu(char *name)
{
    struct cuda_device device;
    dla_status status = cuda_device_open(&device);

    if (status == DLA_OK)
        memcpy(name, device.name, NAME_SIZE);
    return status;
}
#else
static dla_status name_gpu(char *name)
{
    (void)name;
    return status_set(DLA_ERROR_UNSUPPORTED, "this dla was built without CUDA; with the CUDA toolkit, "
                                             "`make build BUILD=build-cuda CMAKE_FLAGS=-DDLA_CUDA=ON` builds one that runs on GPUs");
}
#endif

dla_status dla_device_name(dla_device device, char name[64])
{
    static const char cpu[NAME_SIZE] = "cpu";

    if (device == DLA_DEVICE_CUDA)
        return name_gpu(name);
    if (device != DLA_DEVICE_CPU)
        return status_set(DLA_ERROR_ARGUMENT, "device %d; it is DLA_DEVICE_CPU or DLA_DEVICE_CUDA", (int)device);
    memcpy(name, cpu, NAME_SIZE);
    return DLA_OK;
}

dla_status device_check(dla_device device, dla_precision precision)
{
    char name[NAME_SIZE];

    if (precision < DLA_PRECISION_FLOAT32 || precision > DLA_PRECISION_BFLOAT16)
        return status_set(DLA_ERROR_ARGUMENT, "precision %d; it is one of dla_precision, 0 to %d", (int)precision,
                          (int)DLA_PRECISION_BFLOAT16);
    if (device == DLA_DEVICE_CPU && precision != DLA_PRECISION_FLOAT32)
        return status_set(DLA_ERROR_UNSUPPORTED, "the CPU computes in float32 alone; other precisions need DLA_DEVICE_CUDA");
    return dla_device_name(device, name);
}
