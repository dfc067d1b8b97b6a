/* See geometry.h. The expressions are those of the Python code, in the same order, so that results are equal. */
#include "geometry.h"

#include <math.h>

enum { AUGMENT = 5, ATTEMPTS = 10 }; /* Stream.AUGMENT of mps_shards.shards.keyed */

__extension__ typedef unsigned __int128 product;

/* Philox 4x64 with 10 rounds, as in numpy.random.Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). A block gives four numbers; NumPy increments the counter before each block. */
struct philox {
    uint64_t key[2], counter[4], block[4];
    int used;
};

static void next_block(struct philox *philox) {
    philox->counter[0]++; /* far from overflowing: it starts at 0, and a view takes at most 41 numbers */
    uint64_t key[2] = {philox->key[0], philox->key[1]}, *x = philox->block;
    for (int i = 0; i < 4; i++)
        x[i] = philox->counter[i];
    for (int round = 0; round < 10; round++) {
        const product one = (product)0xD2E7470EE14C6C93u * x[0], other = (product)0xCA5A826395121157u * x[2];
        x[0] = (uint64_t)(other >> 64) ^ x[1] ^ key[0];
        x[2] = (uint64_t)(one >> 64) ^ x[3] ^ key[1];
        x[1] = (uint64_t)other;
        x[3] = (uint64_t)one;
        key[0] += 0x9E3779B97F4A7C15u;
        key[1] += 0xBB67AE8584CAA73Bu;
    }
    philox->used = 0;
}

/* A random number from 0 up to, not including, 1, as numpy.random.Generator.random makes it. */
static double next_random(struct philox *philox) {
    if (philox->used == 4)
        next_block(philox);
    return (double)(philox->block[philox->used++] >> 11) * (1.0 / 9007199254740992.0);
}

static double least(double one, double other) { return one < other ? one : other; }

static void random_crop(const struct geometry *geometry, struct view *view, int32_t height, int32_t width,
                        struct philox *philox) {
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        const double area = (double)height * width * (geometry->scale_low + geometry->scale_span * next_random(philox));
        const double aspect = exp(geometry->log_low + geometry->log_span * next_random(philox));
        const double wide = nearbyint(sqrt(area * aspect)), tall = nearbyint(sqrt(area / aspect));
        if (0 < wide && wide <= width && 0 < tall && tall <= height) {
            view->region_top = (int32_t)(next_random(philox) * (height - tall + 1));
            view->region_left = (int32_t)(next_random(philox) * (width - wide + 1));
            view->region_height = (int32_t)tall;
            view->region_width = (int32_t)wide;
            return;
        }
    }
    double aspect = (double)width / height;
    aspect = aspect > geometry->ratio_low ? aspect : geometry->ratio_low;
    aspect = aspect < geometry->ratio_high ? aspect : geometry->ratio_high;
    view->region_width = (int32_t)least(width, nearbyint(height * aspect));
    view->region_height = (int32_t)least(height, nearbyint(width / aspect));
    view->region_top = (height - view->region_height) / 2;
    view->region_left = (width - view->region_width) / 2;
}

struct view geometry_view(const struct geometry *geometry, int32_t height, int32_t width, const struct draw *draw) {
    struct philox philox = {
        .key = {draw->seed, draw->epoch}, .counter = {0, draw->position, 0, AUGMENT}, .used = 4};
    struct view view = {.region_height = height, .region_width = width, .factor = 1};
    if (geometry->ratio_high > 0)
        random_crop(geometry, &view, height, width, &philox);
    view.resized_height = view.region_height;
    view.resized_width = view.region_width;
    if (geometry->resized_width > 0) {
        view.resized_height = (int32_t)geometry->resized_height;
        view.resized_width = (int32_t)geometry->resized_width;
    } else if (geometry->resized_height > 0) {
        const double shorter = height < width ? height : width;
        view.resized_height = (int32_t)least(INT32_MAX, geometry->resized_height * height / shorter);
        view.resized_width = (int32_t)least(INT32_MAX, geometry->resized_height * width / shorter);
    }
    view.crop_height = view.resized_height;
    view.crop_width = view.resized_width;
    if (geometry->crop_height > 0) {
        view.crop_height = (int32_t)geometry->crop_height;
        view.crop_width = (int32_t)geometry->crop_width;
        view.crop_top = (int32_t)nearbyint((view.resized_height - view.crop_height) / 2.0);
        view.crop_left = (int32_t)nearbyint((view.resized_width - view.crop_width) / 2.0);
    }
    view.flip = geometry->flip > 0 && next_random(&philox) < geometry->flip;
    return view;
}

int32_t geometry_factor(const struct view *view) {
    for (int32_t factor = 8; factor > 1; factor /= 2)
        if (view->region_height >= (int64_t)factor * view->resized_height &&
            view->region_width >= (int64_t)factor * view->resized_width)
            return factor;
    return 1;
}
