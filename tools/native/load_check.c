/* Loads recorded samples from a tar and compares the results, on machines without Python, such as an emulated one.
 *
 * Usage: load_check CASES TAR. tools/scripts/cross_check.py writes both files. Each case is a struct recorded in native
 * byte order, then the key, and then the image (uint8, planes) if the sample was not declined. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

struct recorded {
    struct span span; /* without the descriptor */
    struct geometry geometry;
    uint64_t seed, epoch;
    int64_t most_label, max_pixels, is_scaled, height, width;
    int64_t declined, label, key_size; /* expected */
};

static int differs(struct loader *loader, const struct recorded *recorded, FILE *file) {
    const size_t bytes = 3 * (size_t)recorded->height * (size_t)recorded->width;
    uint8_t *found = calloc(1, bytes), *expected = calloc(1, bytes);
    char key[KEY_BYTES] = "";
    struct sample sample = {.label = NO_LABEL};
    const struct loading loading = {recorded->geometry,   recorded->seed,       recorded->epoch,
                                    recorded->most_label, recorded->max_pixels, recorded->is_scaled != 0};
    const struct target target = {found, LAYOUT_BYTE_PLANES, (int32_t)recorded->height, (int32_t)recorded->width, NULL};
    if (found == NULL || expected == NULL || recorded->key_size > KEY_BYTES ||
        fread(key, 1, (size_t)recorded->key_size, file) != (size_t)recorded->key_size ||
        (!recorded->declined && fread(expected, 1, bytes, file) != bytes)) {
        fprintf(stderr, "the file of cases is truncated\n");
        exit(2);
    }
    const enum outcome outcome = load_sample(loader, &loading, &recorded->span, &target, &sample);
    int result = (outcome == DECLINED) != (recorded->declined != 0);
    if (!result && !recorded->declined)
        result = sample.label != recorded->label || sample.key_size != (size_t)recorded->key_size ||
                 memcmp(sample.key, key, sample.key_size) != 0 || memcmp(found, expected, bytes) != 0;
    free(found);
    free(expected);
    return result;
}

int main(int count, char **arguments) {
    FILE *file = count == 3 ? fopen(arguments[1], "rb") : NULL;
    const int tar = count == 3 ? open(arguments[2], O_RDONLY) : -1;
    struct loader loader = {.kernel = kernel_new()};
    if (file == NULL || tar < 0 || loader.kernel == NULL)
        return 2;
    int cases = 0, failures = 0, declined = 0;
    struct recorded recorded;
    while (fread(&recorded, sizeof recorded, 1, file) == 1) {
        recorded.span.descriptor = tar;
        failures += differs(&loader, &recorded, file);
        declined += recorded.declined != 0;
        cases++;
    }
    kernel_free(loader.kernel);
    free(loader.bytes);
    fclose(file);
    close(tar);
    printf("%d samples loaded, %d differ, %d declined\n", cases, failures, declined);
    return cases == 0 || failures != 0;
}
