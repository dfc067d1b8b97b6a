/* Runs the kernel on recorded cases and compares the results, on machines without Python, such as an emulated one.
 *
 * Usage: kernel_check CASES. tools/scripts/cross_check.py writes the file. Each case has, as int32 in native byte order,
 * the size of the JPEG, the 12 numbers of the view and the size of the tiled JPEG; then the JPEG, the rendered image
 * (uint8, planes) and the tiled JPEG. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "tiles.h"

static void *taken(FILE *file, size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (memory == NULL || fread(memory, 1, bytes, file) != bytes) {
        fprintf(stderr, "the file of cases is truncated\n");
        exit(2);
    }
    return memory;
}

static int differs(struct kernel *kernel, const uint8_t *image, size_t size, const struct view *view,
                   const uint8_t *expected, int *own) {
    const size_t bytes = 3 * (size_t)view->crop_height * (size_t)view->crop_width;
    uint8_t *found = calloc(1, bytes);
    const struct target target = {found, LAYOUT_BYTE_PLANES, view->crop_height, view->crop_width, NULL};
    const enum outcome outcome =
        found == NULL ? DECLINED : kernel_render(kernel, image, size, view, &target, 1 << 30);
    *own += outcome == BY_KERNEL;
    const int result = outcome == DECLINED || memcmp(found, expected, bytes) != 0;
    free(found);
    return result;
}

int main(int count, char **arguments) {
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    struct kernel *kernel = kernel_new(), *portable = kernel_new();
    if (file == NULL || kernel == NULL || portable == NULL)
        return 2;
    kernel_use_portable(portable);
    int cases = 0, failures = 0, own = 0;
    int32_t size;
    while (fread(&size, sizeof size, 1, file) == 1) {
        struct view *view = taken(file, sizeof *view);
        int32_t *tiled_size = taken(file, sizeof *tiled_size);
        uint8_t *image = taken(file, (size_t)size);
        uint8_t *expected = taken(file, 3 * (size_t)view->crop_height * (size_t)view->crop_width);
        uint8_t *tiled = taken(file, (size_t)*tiled_size), *rewritten = NULL;
        size_t rewritten_size = 0;
        const int failed = differs(kernel, image, (size_t)size, view, expected, &own) ||
                           differs(portable, image, (size_t)size, view, expected, &own) ||
                           differs(kernel, tiled, (size_t)*tiled_size, view, expected, &own) ||
                           tiles_rewrite(image, (size_t)size, (const uint8_t *)"x", 1, &rewritten, &rewritten_size) != 0 ||
                           rewritten_size != (size_t)*tiled_size || memcmp(rewritten, tiled, rewritten_size) != 0;
        failures += failed;
        cases++;
        free(view);
        free(tiled_size);
        free(image);
        free(expected);
        free(tiled);
        free(rewritten);
    }
    kernel_free(kernel);
    kernel_free(portable);
    fclose(file);
    printf("%d cases, %d differ, passes %s; Huffman decoding by the kernel %d times of %d\n", cases, failures,
           passes_choose().name, own, 3 * cases);
    return cases == 0 || failures != 0;
}
