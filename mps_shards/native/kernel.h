/* A JPEG's bytes -> one finished row of a batch: region decoded, resized, cropped, flipped, converted. */
#ifndef MPS_SHARDS_KERNEL_H
#define MPS_SHARDS_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "resize.h"

/* What is shown of an image: `region` of it, resized to `resized`, of which `crop` is kept, perhaps mirrored.
 * The same as mps_shards.vision.view.View, and laid out as the binding's array of 12 int32. */
struct view {
    int32_t region_top, region_left, region_height, region_width;
    int32_t resized_height, resized_width;
    int32_t crop_top, crop_left, crop_height, crop_width;
    int32_t flip;
    int32_t factor; /* 1, 2, 4, 8: the image is decoded that much smaller; `region` is in pixels of the whole */
};

/* What a thread needs to render: a decoder and buffers that are used again. Not for two threads at once. */
struct kernel;

/* NULL where memory is short. */
struct kernel *kernel_new(void);
void kernel_free(struct kernel *kernel);

enum outcome {
    DECLINED = 0,   /* not a flawless JPEG of one or three components, or larger than `max_pixels`, or a view that does
                     * not lie within the image; the target may be partly written */
    BY_LIBJPEG = 1, /* rendered, from what libjpeg-turbo's Huffman decoder gave */
    BY_KERNEL = 2,  /* rendered, from what the kernel's own gave */
};

/* Render one image into target->image. */
enum outcome kernel_render(struct kernel *kernel, const uint8_t *data, size_t size, const struct view *view,
                  const struct target *target, int64_t max_pixels);

/* Use the passes that every processor runs and the Huffman decoder of libjpeg-turbo: what the rest is tested against. */
void kernel_use_portable(struct kernel *kernel);

#endif
