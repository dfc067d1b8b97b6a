/* Antialiased bilinear resizing of 4-byte pixels, with the arithmetic of torch's uint8 kernels.
 *
 * Weights are computed in double, normalised, and rounded to int16, with the largest precision at which the largest
 * weight fits. Each pass adds the weighted pixels to a rounding bias in int32, and shifts the sums back to uint8
 * (aten/src/ATen/native/cpu/UpSampleKernel.cpp). Integers give the same pixels on every machine, however the compiler
 * vectorises the loops. */
#ifndef MPS_SHARDS_RESIZE_H
#define MPS_SHARDS_RESIZE_H

#include <stddef.h>
#include <stdint.h>

/* Memory layout of an image in the batch. */
enum layout {
    LAYOUT_FLOAT_PLANES = 0, /* float32 [3, height, width] */
    LAYOUT_FLOAT_PIXELS = 1, /* float32 [height, width, 3] */
    LAYOUT_BYTE_PLANES = 2,  /* uint8 [3, height, width] */
    LAYOUT_BYTE_PIXELS = 3,  /* uint8 [height, width, 3] */
};

/* Weights for resizing along one side of an image. Output i is the weighted sum of the inputs first[i] to
 * first[i] + length[i] - 1. */
struct axis {
    int32_t count;           /* number of outputs */
    int32_t taps;            /* row length of `weights`: even, and at least the largest length */
    int32_t precision;       /* the weights of an output add up to about 2^precision */
    int is_identity;         /* the side is not resized: each output equals one input */
    int32_t *first, *length; /* [count]; `first` is the start of the memory of all arrays */
    int32_t *weights;        /* [count * taps]; weights of row i are 0 from length[i] on */
    int32_t *spread;         /* [count * taps * 4]: `weights`, each repeated for the 4 bytes of a pixel */
    int32_t least, most;     /* the horizontal pass reads inputs from `least` up to, not including, `most` */
    size_t capacity, spread_capacity;
};

/* Computes the weights of resizing `inputs` to `outputs` pixels, for the outputs from `from` up to, not including,
 * `from + count`. Returns 0, or -1 if memory is short or a number is out of range. */
int axis_prepare(struct axis *axis, int32_t inputs, int32_t outputs, int32_t from, int32_t count);
/* Prepares the weights for the horizontal pass: fills `spread`, `least` and `most`; reverses the outputs if `mirror`
 * is set; adds `shift` to the index of every input. Returns 0, or -1 if memory is short. */
int axis_spread(struct axis *axis, int mirror, int32_t shift);
void axis_release(struct axis *axis);

/* The image of `height` x `width` pixels that the vertical pass writes. */
struct target {
    void *image;
    enum layout layout;
    int32_t height, width;
    const float *table; /* [3 * 256]: the result for each value of each channel, or NULL for value / 255 */
};

/* Resizes one row of pixels (4 bytes each) to axis->count pixels. `wide` and `sums` are scratch memory: 4 int32 for
 * each of axis->most pixels, and 4 int32 for each output. */
typedef void horizontal_pass(uint32_t *out, const uint32_t *row, const struct axis *axis, int32_t *wide, int32_t *sums);

/* Computes row `y` of the target from `rows`, the rows that output `index` of the axis reads. Rows are read 8 pixels at
 * a time, so their memory must extend to a multiple of 8 pixels. */
typedef void vertical_pass(const struct target *target, int32_t y, const uint32_t *const *rows,
                           const struct axis *axis, int32_t index);

struct passes {
    horizontal_pass *horizontal;
    vertical_pass *vertical;
    const char *name;
};

/* The fastest passes that this processor runs. */
struct passes passes_choose(void);
/* The passes that every processor of this architecture runs. */
struct passes passes_portable(void);

#endif
