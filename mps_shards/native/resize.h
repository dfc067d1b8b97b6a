/* Antialiased bilinear resizing of 4-byte pixels, with the arithmetic of torch's uint8 kernels.
 *
 * Each side is resized by integer weights: computed in double, normalised, rounded to int16 at the largest precision
 * at which the largest weight fits, accumulated in int32 from a rounding bias, and shifted back to uint8 between the
 * horizontal and the vertical pass (aten/src/ATen/native/cpu/UpSampleKernel.cpp). Integers give the same pixels on
 * every machine, however the compiler vectorises them. */
#ifndef MPS_SHARDS_RESIZE_H
#define MPS_SHARDS_RESIZE_H

#include <stddef.h>
#include <stdint.h>

/* Memory layout of a row of the result. */
enum layout {
    LAYOUT_FLOAT_PLANES = 0, /* float32 [3, height, width] */
    LAYOUT_FLOAT_PIXELS = 1, /* float32 [height, width, 3] */
    LAYOUT_BYTE_PLANES = 2,  /* uint8 [3, height, width] */
    LAYOUT_BYTE_PIXELS = 3,  /* uint8 [height, width, 3] */
};

/* Weights of one side, for the outputs [from, from + count) out of `outputs`.
 * Output i reads the inputs first[i] … first[i] + length[i] - 1. */
struct axis {
    int32_t count, taps; /* `taps`: row length of `weights`, even and at least the largest length */
    int32_t precision;
    int is_identity;         /* every output is its input */
    int32_t *first, *length; /* [count]; `first` is the start of the memory of all arrays */
    int32_t *weights;        /* [count * taps], zero after each length */
    int32_t *spread;         /* [count * taps * 4]: each weight repeated for each channel */
    int32_t least, most;     /* the horizontal pass reads inputs from `least` up to, not including, `most` */
    size_t capacity, spread_capacity;
};

/* Computes the weights. Returns 0, or -1 if memory is short or numbers are out of range. */
int axis_prepare(struct axis *axis, int32_t inputs, int32_t outputs, int32_t from, int32_t count);
/* Prepares the weights for the horizontal pass: fills `spread`, `least` and `most`; reverses the outputs if `mirror`
 * is set; adds `shift` to the index of every input. Returns 0, or -1 if memory is short. */
int axis_spread(struct axis *axis, int mirror, int32_t shift);
void axis_release(struct axis *axis);

/* Output of the vertical pass: row `y` of an image of `height` x `width`. */
struct target {
    void *image;
    enum layout layout;
    int32_t height, width;
    const float *table; /* [3 * 256]: the result for each value of each channel, or NULL for value / 255 */
};

/* Resizes one row of pixels (4 bytes each) to axis->count pixels. `wide` and `sums` are scratch: 4 int32 for each pixel
 * of the row up to axis->most, and for each output. */
typedef void horizontal_pass(uint32_t *out, const uint32_t *row, const struct axis *axis, int32_t *wide, int32_t *sums);

/* Computes one row of the result from the rows that output `index` reads. `rows` are readable in groups of 8 pixels. */
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
