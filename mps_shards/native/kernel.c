/* Implements kernel.h.
 *
 * Outside of the region, as little is decoded as the format allows. From a tiled file, only the tiles that the region
 * touches are cut out and decoded. libjpeg-turbo then skips the columns (jpeg_crop_scanline) and the rows
 * (jpeg_skip_scanlines) outside of the region, which saves their inverse DCT and colour conversion. The pixels stay
 * exact with a margin of 2 pixels, because colour is interpolated from one neighbouring sample ("fancy upsampling").
 *
 * An error or a warning of libjpeg ends the attempt: the slower Python path of the caller decides on damaged files. To
 * find damage outside of the region, too, the markers of the whole scan are checked, and the entropy-coded data above
 * and below the region is read. In tiles that are left out, only the markers are checked. */
#include "kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "entropy.h"
#include "guard.h"
#include "jpeg.h"

enum { MARGIN = 2, LINES = 4 };

struct buffer {
    void *memory;
    size_t capacity;
};

struct kernel {
    struct guard guard;
    struct jpeg_decompress_struct decoder;
    struct passes passes;
    int is_portable;
    struct axis across, down;
    int is_attached;      /* our entropy decoder is used instead of that of libjpeg */
    struct buffer lines;  /* LINES rows of decoded pixels */
    struct buffer scratch; /* scratch memory of the horizontal pass */
    struct buffer ring;   /* the latest rows of the horizontal pass, as many as one output row reads */
    struct buffer rows;   /* pointers to the rows that one output row reads, in order */
    struct buffer starts; /* offsets of restart segments */
    struct buffer cut;    /* a smaller JPEG */
};

static int created(struct kernel *kernel) {
    if (setjmp(kernel->guard.failed) != 0)
        return -1;
    jpeg_create_decompress(&kernel->decoder);
    return 0;
}

struct kernel *kernel_new(void) {
    struct kernel *kernel = calloc(1, sizeof *kernel);
    if (kernel == NULL)
        return NULL;
    kernel->passes = passes_choose();
    kernel->decoder.err = guard_errors(&kernel->guard);
    kernel->decoder.client_data = &kernel->guard;
    kernel->guard.entropy = entropy_new();
    if (kernel->guard.entropy == NULL || created(kernel) != 0) {
        kernel_free(kernel);
        return NULL;
    }
    return kernel;
}

void kernel_free(struct kernel *kernel) {
    if (kernel == NULL)
        return;
    jpeg_destroy_decompress(&kernel->decoder);
    entropy_free(kernel->guard.entropy);
    axis_release(&kernel->across);
    axis_release(&kernel->down);
    free(kernel->lines.memory);
    free(kernel->scratch.memory);
    free(kernel->ring.memory);
    free(kernel->rows.memory);
    free(kernel->starts.memory);
    free(kernel->cut.memory);
    free(kernel);
}

void kernel_use_portable(struct kernel *kernel) {
    kernel->passes = passes_portable();
    kernel->is_portable = 1;
}

/* Returns memory for `count` items of `size` bytes, or NULL if memory is short. New memory is zeroed; reused memory
 * keeps its content. */
static void *reserved(struct buffer *buffer, size_t count, size_t size) {
    if (count > SIZE_MAX / 2 / size)
        return NULL;
    const size_t bytes = count * size;
    if (bytes > buffer->capacity) {
        free(buffer->memory);
        buffer->memory = calloc(1, bytes);
        buffer->capacity = buffer->memory == NULL ? 0 : bytes;
    }
    return buffer->memory;
}

/* Rounds halves to even, as Python does. */
static int32_t rounded(double value) { return (int32_t)nearbyint(value); }

static int32_t least(int32_t one, int32_t other) { return one < other ? one : other; }

/* Sets `region` to the view's region in pixels of the decoded image, as View.shrunk does in Python. Returns 0, or -1 if
 * the region is empty or not within the image. */
static int decoded_region(const struct view *view, const struct jpeg *jpeg, struct rectangle *region) {
    const int32_t factor = view->factor;
    if (factor != 1 && factor != 2 && factor != 4 && factor != 8)
        return -1;
    if (view->region_top < 0 || view->region_left < 0 || view->region_height < 1 || view->region_width < 1)
        return -1;
    if (view->region_height > jpeg->height - view->region_top || view->region_width > jpeg->width - view->region_left)
        return -1;
    const int32_t height = (jpeg->height + factor - 1) / factor, width = (jpeg->width + factor - 1) / factor;
    region->top = rounded((double)view->region_top / factor);
    region->left = rounded((double)view->region_left / factor);
    region->bottom = least(height, rounded((double)(view->region_top + view->region_height) / factor));
    region->right = least(width, rounded((double)(view->region_left + view->region_width) / factor));
    region->bottom += region->bottom == region->top; /* at least one pixel */
    region->right += region->right == region->left;
    if (region->bottom > height || region->right > width)
        return -1;
    return region->top < region->bottom && region->left < region->right ? 0 : -1;
}

/* Sets the range of inputs that an axis reads: from `from` up to, not including, `to`. */
static void reach(const struct axis *axis, int32_t *from, int32_t *to) {
    *from = axis->first[0];
    *to = *from + 1;
    for (int32_t i = 0; i < axis->count; i++) {
        const int32_t end = axis->first[i] + axis->length[i];
        *to = end > *to ? end : *to;
    }
}

/* Make libjpeg read the JPEG, or a cut of the tiles that cover `wanted`, and set `held` to the area that is read. Both
 * rectangles are in pixels of the whole image. Returns 0, or -1 if the JPEG is damaged or memory is short. */
static int opened(struct kernel *kernel, const struct jpeg *jpeg, const uint8_t *data, size_t size,
                  struct rectangle wanted, struct rectangle *held) {
    *held = (struct rectangle){0, 0, jpeg->width, jpeg->height};
    int32_t columns, rows;
    if (!jpeg->progressive && jpeg->interleaved && jpeg->tiled && jpeg_grid(jpeg, &columns, &rows)) {
        size_t *starts = reserved(&kernel->starts, jpeg_segments(jpeg) + 1, sizeof *starts);
        uint8_t *cut = reserved(&kernel->cut, size, 1);
        if (starts == NULL || cut == NULL || jpeg_walk(jpeg, data, size, starts) == 0)
            return -1;
        size = jpeg_cut(jpeg, data, starts, wanted, cut, held);
        data = cut;
    }
    jpeg_mem_src(&kernel->decoder, data, (unsigned long)size);
    return 0;
}

/* Whether libjpeg found the size of `held` and `components` in the header, and the usual colours: gray or YCbCr. */
static int is_plain(struct jpeg_decompress_struct *decoder, const struct rectangle *held, int32_t components) {
    const J_COLOR_SPACE colours = components == 1 ? JCS_GRAYSCALE : JCS_YCbCr;
    return (int32_t)decoder->image_width == held->right - held->left &&
           (int32_t)decoder->image_height == held->bottom - held->top && decoder->num_components == components &&
           decoder->jpeg_color_space == colours && decoder->data_precision == 8 && !decoder->arith_code;
}

/* Read the data below the wanted rows with as little decoding as possible, so that damage in it is reported. Returns 0,
 * or -1 if rows are missing. */
static int finished(struct kernel *kernel, JSAMPROW line) {
    struct jpeg_decompress_struct *decoder = &kernel->decoder;
    if (jpeg_has_multiple_scans(decoder)) /* jpeg_start_decompress has read all scans */
        return 0;
    if (kernel->is_attached) {
        entropy_finish(kernel->guard.entropy, decoder);
        return 0;
    }
    const JDIMENSION left = decoder->output_height - decoder->output_scanline;
    if (left > 1) /* keep a row, because libjpeg-turbo would not read the data if all were skipped */
        jpeg_skip_scanlines(decoder, left - 1);
    while (decoder->output_scanline < decoder->output_height)
        if (jpeg_read_scanlines(decoder, &line, 1) == 0)
            return -1;
    jpeg_finish_decompress(decoder);
    return 0;
}

/* Decode the rows of `wanted`, and run both passes on them. `wanted` and `region` are in decoded pixels, relative to
 * the image that libjpeg reads. Returns 0, or -1 if rows are missing or memory is short. */
static int passed(struct kernel *kernel, int32_t mcu_width, struct rectangle wanted, struct rectangle region,
                  const struct view *view, const struct target *target) {
    struct jpeg_decompress_struct *decoder = &kernel->decoder;
    struct axis *across = &kernel->across, *down = &kernel->down;
    const int32_t width = (int32_t)decoder->output_width, height = (int32_t)decoder->output_height;
    if (wanted.left < 0 || wanted.top < 0 || wanted.right > width || wanted.bottom > height)
        return -1;
    JDIMENSION left = (JDIMENSION)(wanted.left > MARGIN ? wanted.left - MARGIN : 0);
    JDIMENSION wide = (JDIMENSION)least(wanted.right + MARGIN, width) - left;
    if (wide < decoder->output_width)
        jpeg_crop_scanline(decoder, &left, &wide);
    if (kernel->is_attached)
        entropy_show(kernel->guard.entropy, left / (JDIMENSION)mcu_width, (left + wide - 1) / (JDIMENSION)mcu_width);
    if (axis_spread(across, view->flip, region.left - (int32_t)left) != 0) /* relative to the decoded lines */
        return -1;

    int32_t longest = 1;
    for (int32_t i = 0; i < down->count; i++)
        longest = down->length[i] > longest ? down->length[i] : longest;
    const int is_plain = across->is_identity && down->is_identity && !view->flip;
    const size_t line = (size_t)decoder->output_width + (size_t)across->taps + 7; /* passes read 8 pixels at a time */
    const size_t out = ((size_t)across->count + 7) & ~7u;
    int32_t *scratch = reserved(&kernel->scratch, line + out, 4 * sizeof *scratch);
    uint32_t *lines = reserved(&kernel->lines, line, LINES * sizeof *lines);
    uint32_t *ring = reserved(&kernel->ring, out * sizeof *ring, (size_t)longest);
    const uint32_t **rows = reserved(&kernel->rows, (size_t)longest, sizeof *rows);
    if (scratch == NULL || lines == NULL || ring == NULL || rows == NULL)
        return -1;

    const int32_t top = wanted.top > MARGIN ? wanted.top - MARGIN : 0;
    if (top > 0 && (int32_t)jpeg_skip_scanlines(decoder, (JDIMENSION)top) != top)
        return -1;
    JSAMPROW into[LINES];
    for (size_t i = 0; i < LINES; i++)
        into[i] = (JSAMPROW)(lines + i * line);
    int32_t done = 0;
    for (int32_t at = top; at < wanted.bottom;) {
        const JDIMENSION got = jpeg_read_scanlines(decoder, into, (JDIMENSION)least(LINES, wanted.bottom - at));
        if (got == 0)
            return -1;
        for (JDIMENSION i = 0; i < got; i++, at++) {
            if (at < wanted.top)
                continue;
            const int32_t row = at - region.top;
            if (is_plain) {
                rows[0] = lines + i * line + across->first[0];
                kernel->passes.vertical(target, done, rows, down, done);
                done++;
                continue;
            }
            kernel->passes.horizontal(ring + (size_t)(row % longest) * out, lines + i * line, across, scratch,
                                      scratch + 4 * line);
            for (; done < down->count && down->first[done] + down->length[done] - 1 <= row; done++) {
                for (int32_t tap = 0; tap < down->length[done]; tap++)
                    rows[tap] = ring + (size_t)((down->first[done] + tap) % longest) * out;
                kernel->passes.vertical(target, done, rows, down, done);
            }
        }
    }
    return done == down->count ? finished(kernel, into[0]) : -1;
}

static int rendered(struct kernel *kernel, const uint8_t *data, size_t size, const struct view *view,
                    const struct target *target, int64_t max_pixels) {
    struct jpeg jpeg;
    struct rectangle region, held;
    struct axis *across = &kernel->across, *down = &kernel->down;
    if (jpeg_parse(&jpeg, data, size) != 0 || (int64_t)jpeg.width * jpeg.height > max_pixels)
        return -1;
    if (decoded_region(view, &jpeg, &region) != 0 || view->crop_height != target->height ||
        view->crop_width != target->width)
        return -1;
    if (axis_prepare(across, region.right - region.left, view->resized_width, view->crop_left, view->crop_width) != 0 ||
        axis_prepare(down, region.bottom - region.top, view->resized_height, view->crop_top, view->crop_height) != 0)
        return -1;
    struct rectangle wanted;
    reach(across, &wanted.left, &wanted.right);
    reach(down, &wanted.top, &wanted.bottom);
    wanted = (struct rectangle){wanted.left + region.left, wanted.top + region.top, wanted.right + region.left,
                                wanted.bottom + region.top};
    const int32_t factor = view->factor, margin = MARGIN * factor;
    const struct rectangle touched = {
        wanted.left * factor > margin ? wanted.left * factor - margin : 0,
        wanted.top * factor > margin ? wanted.top * factor - margin : 0,
        least(wanted.right * factor + margin, jpeg.width),
        least(wanted.bottom * factor + margin, jpeg.height),
    };
    if (opened(kernel, &jpeg, data, size, touched, &held) != 0)
        return -1;
    struct jpeg_decompress_struct *decoder = &kernel->decoder;
    if (jpeg_read_header(decoder, TRUE) != JPEG_HEADER_OK || !is_plain(decoder, &held, jpeg.components))
        return -1;
    decoder->out_color_space = JCS_EXT_RGBX;
    decoder->scale_num = 1;
    decoder->scale_denom = (unsigned)factor;
    jpeg_start_decompress(decoder);
    if (!guard_is_complete(decoder))
        return -1;
    kernel->is_attached = !kernel->is_portable && entropy_attach(kernel->guard.entropy, decoder) == 0;
    if (!kernel->is_attached && !jpeg.progressive && jpeg.interleaved && jpeg_walk(&jpeg, data, size, NULL) == 0)
        return -1;
    /* make both rectangles relative to the cut; its corner is at whole MCUs, so the divisions leave no remainder */
    const int32_t x = held.left / factor, y = held.top / factor;
    wanted = (struct rectangle){wanted.left - x, wanted.top - y, wanted.right - x, wanted.bottom - y};
    region = (struct rectangle){region.left - x, region.top - y, region.right - x, region.bottom - y};
    return passed(kernel, jpeg.mcu_width / factor, wanted, region, view, target);
}

static int attempted(struct kernel *kernel, const uint8_t *data, size_t size, const struct view *view,
                     const struct target *target, int64_t max_pixels) {
    if (setjmp(kernel->guard.failed) != 0)
        return -1;
    return rendered(kernel, data, size, view, target, max_pixels);
}

enum outcome kernel_render(struct kernel *kernel, const uint8_t *data, size_t size, const struct view *view,
                           const struct target *target, int64_t max_pixels) {
    const int failed = attempted(kernel, data, size, view, target, max_pixels);
    jpeg_abort_decompress(&kernel->decoder);
    return failed ? DECLINED : kernel->is_attached ? BY_KERNEL : BY_LIBJPEG;
}
