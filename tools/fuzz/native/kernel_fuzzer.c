/* libFuzzer target for the native kernel: the first bytes of an input choose a view, the others are a JPEG.
 *
 * Apart from crashes and sanitizer reports, the target checks that the portable and the chosen passes give the same
 * pixels, that the kernel's pixels equal libjpeg-turbo's, and that a file rewritten as tiles has the original's pixels. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jpeg.h"
#include "kernel.h"
#include "sample.h"
#include "tiles.h"

enum { SIDE = 24, HEADER = 16, MOST_PIXELS = 1 << 18 };

static uint8_t shown[3 * SIDE * SIDE], again[3 * SIDE * SIDE], original[3 * SIDE * SIDE];

/* Returns a view of an image of this size, made from a few bytes. Most views are inside the image. */
static struct view drawn(const uint8_t *bytes, int32_t height, int32_t width) {
    struct view view;
    memset(&view, 0, sizeof view);
    view.region_height = 1 + (bytes[0] * height) / 256;
    view.region_width = 1 + (bytes[1] * width) / 256;
    view.region_top = ((height - view.region_height) * bytes[2]) / 250;
    view.region_left = ((width - view.region_width) * bytes[3]) / 250;
    view.resized_height = SIDE + bytes[4] % 16;
    view.resized_width = SIDE + bytes[5] % 16;
    view.crop_top = bytes[6] % 18;
    view.crop_left = bytes[7] % 18;
    view.crop_height = view.crop_width = SIDE;
    view.flip = bytes[8] & 1;
    view.factor = 1 << (bytes[8] >> 1 & 3);
    return view;
}

static int render(const uint8_t *data, size_t size, const struct view *view, uint8_t *image, int portable) {
    const struct target target = {image, LAYOUT_BYTE_PLANES, SIDE, SIDE, NULL};
    struct kernel *kernel = kernel_new();
    if (kernel == NULL)
        abort();
    if (portable)
        kernel_use_portable(kernel);
    const enum outcome result = kernel_render(kernel, data, size, view, &target, MOST_PIXELS);
    /* the same decoder must give the same result again, also after an error */
    if (kernel_render(kernel, data, size, view, &target, MOST_PIXELS) != result)
        abort();
    kernel_free(kernel);
    return result;
}

static void check(int same, const char *what) {
    if (!same) {
        fprintf(stderr, "violated: %s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    if (length < HEADER)
        return 0;
    const uint8_t *data = bytes + HEADER;
    const size_t size = length - HEADER;
    struct sample sample;
    if (sample_parse(&sample, data, size) == 0)
        check(sample.image >= data && sample.image_size <= (size_t)(data + size - sample.image) &&
                  sample.key_size > 0 && sample.key_size <= KEY_BYTES,
              "a sample lies within its bytes");
    struct jpeg jpeg;
    int32_t height = 100, width = 100;
    if (jpeg_parse(&jpeg, data, size) == 0) {
        height = jpeg.height;
        width = jpeg.width;
    }
    const struct view view = drawn(bytes, height, width);
    const int done = render(data, size, &view, shown, 0);
    const int reference = render(data, size, &view, again, 1);
    check(reference != DECLINED || done == DECLINED, "the kernel declines data that libjpeg-turbo warns of");
    check(done == DECLINED || memcmp(shown, again, sizeof shown) == 0, "the kernel's pixels equal libjpeg-turbo's");

    uint8_t *tiled = NULL;
    size_t tiled_size = 0;
    if ((int64_t)height * width > MOST_PIXELS || tiles_rewrite(data, size, bytes, 5, &tiled, &tiled_size) != 0)
        return 0;
    const int tiles_done = render(tiled, tiled_size, &view, original, 0);
    check(tiles_done != DECLINED || done == DECLINED, "an image that was rendered is also rendered from tiles");
    check(done == DECLINED || memcmp(shown, original, sizeof shown) == 0, "tiles give the pixels of the original");
    free(tiled);
    return 0;
}
