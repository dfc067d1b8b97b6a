/* Loads samples from tars into rows of a batch: reads, parses, draws the view, and renders it. */
#ifndef MPS_SHARDS_LOAD_H
#define MPS_SHARDS_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "geometry.h"
#include "kernel.h"
#include "sample.h"

/* The byte range of a sample in an open file, and its position in the epoch's sequence, with the memory layout of the
 * binding's array of 4 int64. */
struct span {
    int64_t descriptor, offset, size;
    uint64_t position;
};

/* Properties that all samples of a batch share. */
struct loading {
    struct geometry geometry;
    uint64_t seed, epoch;
    int64_t most_label; /* highest class number; NO_LABEL for samples without a class */
    int64_t max_pixels;
    int is_scaled; /* decode no larger than the view shows the image */
};

/* A kernel with memory for the bytes of one sample. */
struct loader {
    struct kernel *kernel;
    uint8_t *bytes;
    size_t capacity;
    double read_s; /* seconds spent in reading since the caller set it to 0 */
};

/* Load one sample. Returns DECLINED if the sample cannot be read or parsed, if its label is not as `loading` says, or
 * if kernel_render declines its image. */
enum outcome load_sample(struct loader *loader, const struct loading *loading, const struct span *span,
                         const struct target *target, struct sample *sample);

#endif
