/* Draws the view of an image from its size, as mps_shards.vision.transforms.geometry does, bit for bit. */
#ifndef MPS_SHARDS_GEOMETRY_H
#define MPS_SHARDS_GEOMETRY_H

#include <stdint.h>

#include "kernel.h"

/* Equivalent to `Geometry` in Python, with the memory layout of the binding's array of 11 float64. */
struct geometry {
    double scale_low, scale_span;   /* share of the area of a random crop: lowest, highest - lowest */
    double ratio_low, ratio_high;   /* aspect ratio of a random crop; 0 and 0 show the whole image */
    double log_low, log_span;       /* logarithm of the lowest ratio, and the distance to that of the highest */
    double resized_height, resized_width; /* a width of 0 resizes the shorter side to the height; 0 and 0 keep the size */
    double crop_height, crop_width; /* central crop; 0 and 0 crop nothing */
    double flip;                    /* probability of a flip */
};

/* Key and counter of the random numbers, see mps_shards.vision.randomness. */
struct draw {
    uint64_t seed, epoch, position;
};

/* The view of an image of this size; its factor is 1. */
struct view geometry_view(const struct geometry *geometry, int32_t height, int32_t width, const struct draw *draw);

/* The largest factor (1, 2, 4, 8) by which the image may be decoded smaller so that resizing still shrinks it. */
int32_t geometry_factor(const struct view *view);

#endif
