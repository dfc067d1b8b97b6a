/* See load.h. */
#include "load.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "jpeg.h"

enum { MAX_SAMPLE = 1 << 26 }; /* larger samples are left to Python, so that each thread keeps little memory */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int read_span(struct loader *loader, const struct span *span) {
    if (span->size < 1 || span->size > MAX_SAMPLE || span->offset < 0)
        return -1;
    const size_t size = (size_t)span->size;
    if (size > loader->capacity) {
        free(loader->bytes);
        loader->capacity = size + size / 4;
        loader->bytes = malloc(loader->capacity);
        if (loader->bytes == NULL) {
            loader->capacity = 0;
            return -1;
        }
    }
    const double began = now();
    size_t done = 0;
    while (done < size) {
        const ssize_t got = pread((int)span->descriptor, loader->bytes + done, size - done, span->offset + (off_t)done);
        if (got <= 0) /* Python reads the sample again, and names the error */
            break;
        done += (size_t)got;
    }
    loader->read_s += now() - began;
    return done == size ? 0 : -1;
}

enum outcome load_sample(struct loader *loader, const struct loading *loading, const struct span *span,
                         const struct target *target, struct sample *sample) {
    struct jpeg jpeg;
    if (read_span(loader, span) != 0 || sample_parse(sample, loader->bytes, (size_t)span->size) != 0)
        return DECLINED;
    if ((sample->label == NO_LABEL) != (loading->most_label == NO_LABEL) || sample->label > loading->most_label)
        return DECLINED;
    if (jpeg_parse(&jpeg, sample->image, sample->image_size) != 0)
        return DECLINED;
    const struct draw draw = {loading->seed, loading->epoch, span->position};
    struct view view = geometry_view(&loading->geometry, jpeg.height, jpeg.width, &draw);
    if (loading->is_scaled)
        view.factor = geometry_factor(&view);
    return kernel_render(loader->kernel, sample->image, sample->image_size, &view, target, loading->max_pixels);
}
