/* Implements resize.h. */
#include "resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef int32_t int32x4 __attribute__((vector_size(16)));
typedef int32_t int32x8 __attribute__((vector_size(32)));
typedef float float32x8 __attribute__((vector_size(32)));
typedef uint8_t uint8x4 __attribute__((vector_size(4)));
typedef uint8_t uint8x8 __attribute__((vector_size(8)));

#define TARGET
#define NAME(name) portable_##name
#include "passes.inc"
#undef TARGET
#undef NAME

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define TARGET __attribute__((target("avx2")))
#define NAME(name) avx2_##name
#include "passes.inc"
#undef TARGET
#undef NAME
#define HAS_AVX2_PASSES 1
#endif

struct passes passes_portable(void) {
    return (struct passes){portable_horizontal, portable_vertical, "portable"};
}

struct passes passes_choose(void) {
#ifdef HAS_AVX2_PASSES
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        return (struct passes){avx2_horizontal, avx2_vertical, "avx2"};
#endif
    return passes_portable();
}

enum { MOST_OUTPUTS = 1 << 20 }; /* longest side of an output in pixels; a longer one is a mistake of the caller */

/* Fill the weights of a side that keeps its length: output i equals input `from + i`. */
static void identity(struct axis *axis, int32_t from) {
    axis->precision = 14;
    axis->is_identity = 1;
    for (int32_t i = 0; i < axis->count; i++) {
        axis->first[i] = from + i;
        axis->length[i] = 1;
        axis->weights[(size_t)i * (size_t)axis->taps] = 1 << 14;
    }
}

/* Returns memory of at least `bytes`, or NULL if memory is short. New memory does not keep the old content. */
static void *grown(void *memory, size_t *capacity, size_t bytes) {
    if (bytes <= *capacity)
        return memory;
    free(memory);
    memory = malloc(bytes);
    *capacity = memory == NULL ? 0 : bytes;
    return memory;
}

static int reserve(struct axis *axis, int32_t count, int64_t taps) {
    if (taps > INT32_MAX / 2 || (int64_t)count * (taps + 2) > INT32_MAX / (4 * (int64_t)sizeof(int32_t)))
        return -1;
    const size_t items = (size_t)count * (size_t)(taps + 2);
    axis->first = grown(axis->first, &axis->capacity, items * sizeof(int32_t));
    if (axis->first == NULL)
        return -1;
    axis->count = count;
    axis->taps = (int32_t)taps;
    axis->length = axis->first + count;
    axis->weights = axis->length + count;
    memset(axis->weights, 0, (size_t)count * (size_t)taps * sizeof(int32_t));
    return 0;
}

/* Finds the inputs of one output, and their weights before normalisation. Returns the sum of these weights. */
static double raw_weights(double *raw, int64_t room, int64_t output, int32_t inputs, double scale, int64_t *first,
                          int64_t *length) {
    const double support = scale >= 1.0 ? scale : 1.0, inverse = scale >= 1.0 ? 1.0 / scale : 1.0;
    const double center = scale * ((double)output + 0.5);
    int64_t start = (int64_t)(center - support + 0.5), stop = (int64_t)(center + support + 0.5);
    start = start < 0 ? 0 : start;
    stop = stop > inputs ? inputs : stop;
    int64_t size = stop - start;
    size = size < 0 ? 0 : size > room ? room : size;
    double total = 0.0;
    for (int64_t j = 0; j < size; j++) {
        double distance = fabs(((double)(j + start) - center + 0.5) * inverse);
        raw[j] = distance < 1.0 ? 1.0 - distance : 0.0;
        total += raw[j];
    }
    *first = start;
    *length = size;
    return total;
}

int axis_prepare(struct axis *axis, int32_t inputs, int32_t outputs, int32_t from, int32_t count) {
    if (inputs < 1 || outputs < 1 || outputs > MOST_OUTPUTS || from < 0 || count < 1 || count > outputs - from)
        return -1;
    const double scale = (double)inputs / (double)outputs;
    const int64_t room = inputs == outputs ? 2 : (int64_t)ceil(scale >= 1.0 ? scale : 1.0) * 2 + 1;
    if (reserve(axis, count, room + (room & 1)) != 0)
        return -1;
    axis->is_identity = 0;
    if (inputs == outputs) {
        identity(axis, from);
        return 0;
    }
    double *raw = malloc((size_t)room * sizeof(double));
    if (raw == NULL)
        return -1;
    int64_t first, length;
    double heaviest = 0.0; /* largest weight of all outputs of the side, also outside of the crop, as in torch */
    for (int64_t i = 0; i < outputs; i++) {
        double total = raw_weights(raw, room, i, inputs, scale, &first, &length);
        double most = 0.0;
        for (int64_t j = 0; j < length; j++)
            most = raw[j] > most ? raw[j] : most;
        if (total != 0.0 && most / total > heaviest)
            heaviest = most / total;
    }
    int32_t precision = 0;
    while (precision < 22 && (int)(0.5 + heaviest * (double)(1 << (precision + 1))) < 1 << 15)
        precision++;
    axis->precision = precision;
    int32_t longest = 0;
    for (int32_t i = 0; i < count; i++) {
        double total = raw_weights(raw, room, (int64_t)from + i, inputs, scale, &first, &length);
        int32_t *weights = axis->weights + (size_t)i * (size_t)axis->taps;
        for (int64_t j = 0; j < length; j++)
            weights[j] = (int32_t)(0.5 + (total != 0.0 ? raw[j] / total : raw[j]) * (double)(1 << precision));
        while (length > 1 && weights[length - 1] == 0)
            length--; /* input pixels with weight 0 need not be decoded */
        axis->first[i] = (int32_t)first;
        axis->length[i] = (int32_t)length;
        longest = (int32_t)length > longest ? (int32_t)length : longest;
    }
    free(raw);
    const int32_t taps = longest + (longest & 1);
    if (taps < axis->taps) { /* shorten the rows, for fewer multiplications by zero */
        for (int32_t i = 1; i < count; i++)
            memmove(axis->weights + (size_t)i * (size_t)taps, axis->weights + (size_t)i * (size_t)axis->taps,
                    (size_t)taps * sizeof(int32_t));
        axis->taps = taps;
    }
    return 0;
}

static void swap(int32_t *one, int32_t *other) {
    const int32_t kept = *one;
    *one = *other;
    *other = kept;
}

int axis_spread(struct axis *axis, int mirror, int32_t shift) {
    const int32_t count = axis->count, taps = axis->taps;
    const size_t row = (size_t)taps;
    axis->spread = grown(axis->spread, &axis->spread_capacity, 4 * (size_t)count * row * sizeof(int32_t));
    if (axis->spread == NULL)
        return -1;
    for (int32_t i = 0, j = count - 1; mirror && i < j; i++, j--) {
        swap(&axis->first[i], &axis->first[j]);
        swap(&axis->length[i], &axis->length[j]);
        for (size_t tap = 0; tap < row; tap++)
            swap(&axis->weights[(size_t)i * row + tap], &axis->weights[(size_t)j * row + tap]);
    }
    axis->least = INT32_MAX;
    axis->most = 0;
    for (int32_t i = 0; i < count; i++) {
        axis->first[i] += shift;
        const int32_t end = axis->first[i] + taps;
        axis->least = axis->first[i] < axis->least ? axis->first[i] : axis->least;
        axis->most = end > axis->most ? end : axis->most;
    }
    for (size_t i = 0; i < (size_t)count * row; i++)
        for (size_t channel = 0; channel < 4; channel++)
            axis->spread[4 * i + channel] = axis->weights[i];
    return 0;
}

void axis_release(struct axis *axis) {
    free(axis->first);
    free(axis->spread);
    memset(axis, 0, sizeof *axis);
}
