/* fuzz_matlab.c - boundary annotations in MATLAB files. */
#include "tasks/matlab_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct boundary_annotations annotations;

    if (boundary_annotations_parse(data, size, "input", &annotations) == DLA_OK)
        boundary_annotations_free(&annotations);
    return 0;
}
