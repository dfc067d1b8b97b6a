/* Renders the bytes of a JPEG to a row of a batch: decodes a region, resizes, crops, flips and converts it. */
#ifndef MPS_SHARDS_KERNEL_H
#define MPS_SHARDS_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "resize.h"

/* A view of an image: its `region` is resized to `resized`, cropped to `crop`, and may be mirrored. The fields are
 * those of mps_shards.vision.views.View, in the order of the 12 int32 numbers that Python passes. */
struct view {
    int32_t region_top, region_left, region_height, region_width;
    int32_t resized_height, resized_width;
    int32_t crop_top, crop_left, crop_height, crop_width;
    int32_t flip;
    int32_t factor; /* the image is decoded smaller by this factor: 1, 2, 4 or 8; `region` is in full-size pixels */
};

/* A decoder and reusable buffers for rendering. Two threads must not use the same kernel at the same time. */
struct kernel;

/* Allocates a kernel. Returns NULL if memory is short. */
struct kernel *kernel_new(void);
void kernel_free(struct kernel *kernel);

enum outcome {
    DECLINED = 0,   /* not a flawless JPEG of one or three components, or larger than `max_pixels`, or a view that is
                     * not within the image; the target may be partly written */
    BY_LIBJPEG = 1, /* rendered with the Huffman decoder of libjpeg-turbo */
    BY_KERNEL = 2,  /* rendered with the Huffman decoder of the kernel */
};

/* Render one image into target->image. */
enum outcome kernel_render(struct kernel *kernel, const uint8_t *data, size_t size, const struct view *view,
                  const struct target *target, int64_t max_pixels);

/* Make the kernel use the passes that every processor runs, and the Huffman decoder of libjpeg-turbo. Tests take its
 * pixels as the reference. */
void kernel_use_portable(struct kernel *kernel);

#endif
