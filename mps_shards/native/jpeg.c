/* Implements jpeg.h. Marker numbers are those of ITU T.81, table B.1. */
#include "jpeg.h"

#include <string.h>

enum { SOF0 = 0xC0, SOF1 = 0xC1, SOF2 = 0xC2, DHT = 0xC4, RST0 = 0xD0, RST7 = 0xD7, SOI = 0xD8, EOI = 0xD9 };
enum { SOS = 0xDA, DQT = 0xDB, DRI = 0xDD, APP0 = 0xE0, APP10 = 0xEA, APP14 = 0xEE, APP15 = 0xEF, COM = 0xFE };

static uint32_t big16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

static int32_t ceil_div(int32_t value, int32_t by) { return (value + by - 1) / by; }

/* Read a frame header, whose length field is at `segment`. Returns 0, or -1 if the frame is not supported. */
static int parse_frame(struct jpeg *jpeg, const uint8_t *segment, size_t length) {
    if (length < 8 || segment[2] != 8)
        return -1;
    jpeg->height = (int32_t)big16(segment + 3);
    jpeg->width = (int32_t)big16(segment + 5);
    jpeg->components = segment[7];
    if (jpeg->height == 0 || jpeg->width == 0 || length != 8 + 3 * (size_t)jpeg->components)
        return -1;
    if (jpeg->components != 1 && jpeg->components != 3)
        return -1;
    int32_t widest = 1, tallest = 1;
    for (int32_t i = 0; i < jpeg->components; i++) {
        int32_t wide = segment[9 + 3 * i] >> 4, tall = segment[9 + 3 * i] & 15;
        if ((wide != 1 && wide != 2 && wide != 4) || (tall != 1 && tall != 2 && tall != 4))
            return -1;
        if (i > 0 && (wide != 1 || tall != 1)) /* chroma must have 1 sample where luma has 1 or more */
            return -1;
        widest = wide > widest ? wide : widest;
        tallest = tall > tallest ? tall : tallest;
    }
    jpeg->mcu_width = jpeg->components == 1 ? 8 : 8 * widest; /* T.81, A.2.2: one component is never interleaved */
    jpeg->mcu_height = jpeg->components == 1 ? 8 : 8 * tallest;
    jpeg->mcus_per_row = ceil_div(jpeg->width, jpeg->mcu_width);
    jpeg->mcu_rows = ceil_div(jpeg->height, jpeg->mcu_height);
    return 0;
}

int jpeg_parse(struct jpeg *jpeg, const uint8_t *data, size_t size) {
    memset(jpeg, 0, sizeof *jpeg);
    if (size < 4 || data[0] != 0xFF || data[1] != SOI)
        return -1;
    size_t at = 2;
    for (;;) {
        if (size - at < 4 || data[at] != 0xFF)
            return -1;
        const uint8_t marker = data[at + 1], *segment = data + at + 2;
        const size_t length = big16(segment);
        if (length < 2 || length > size - at - 2)
            return -1;
        switch (marker) {
        case SOF0:
        case SOF1:
        case SOF2:
            if (jpeg->frame != 0 || parse_frame(jpeg, segment, length) != 0)
                return -1;
            jpeg->frame = at;
            jpeg->progressive = marker == SOF2;
            break;
        case DRI:
            if (length != 4)
                return -1;
            jpeg->restart_interval = (int32_t)big16(segment + 2);
            break;
        case SOS:
            if (jpeg->frame == 0 || length < 3 || length != 6 + 2 * (size_t)segment[2])
                return -1;
            jpeg->interleaved = segment[2] == jpeg->components;
            jpeg->scan = at + 2 + length;
            return 0;
        case DQT:
        case DHT:
        case COM:
            break;
        default:
            if (marker < APP0 || marker > APP15)
                return -1;
            if (marker == APP10 && length >= 2 + sizeof TILES_NAME &&
                memcmp(segment + 2, TILES_NAME, sizeof TILES_NAME) == 0)
                jpeg->tiled = 1;
        }
        at += 2 + length;
    }
}

size_t jpeg_segments(const struct jpeg *jpeg) {
    size_t mcus = (size_t)jpeg->mcus_per_row * (size_t)jpeg->mcu_rows;
    size_t interval = (size_t)jpeg->restart_interval;
    return interval == 0 ? 1 : (mcus + interval - 1) / interval;
}

size_t jpeg_walk(const struct jpeg *jpeg, const uint8_t *data, size_t size, size_t *starts) {
    const size_t segments = jpeg_segments(jpeg);
    size_t found = 0, at = jpeg->scan;
    if (starts != NULL)
        starts[0] = at;
    while (at < size) {
        const uint8_t *next = memchr(data + at, 0xFF, size - at);
        if (next == NULL)
            return 0;
        at = (size_t)(next - data) + 2;
        if (at > size)
            return 0;
        const uint8_t marker = next[1];
        if (marker == 0)
            continue; /* a stuffed byte FF of the data */
        if (marker == EOI) {
            if (found + 1 != segments)
                return 0;
            if (starts != NULL)
                starts[segments] = at;
            return at - 2;
        }
        if (marker != RST0 + (found & 7) || ++found >= segments)
            return 0;
        if (starts != NULL)
            starts[found] = at;
    }
    return 0;
}

int jpeg_grid(const struct jpeg *jpeg, int32_t *columns, int32_t *rows) {
    const int32_t interval = jpeg->restart_interval, row = jpeg->mcus_per_row;
    if (interval == 0 || (row % interval != 0 && interval % row != 0))
        return 0;
    *columns = interval < row ? interval : row;
    *rows = interval < row ? 1 : interval / row;
    return 1;
}

/* Write a header with the size of the cut, without segments that decoders do not need. Returns the bytes written. */
static size_t cut_header(const struct jpeg *jpeg, const uint8_t *data, int32_t width, int32_t height, uint8_t *out) {
    size_t at = 2, written = 2;
    memcpy(out, data, 2);
    while (at < jpeg->scan) {
        const uint8_t marker = data[at + 1];
        const size_t length = 2 + (size_t)big16(data + at + 2);
        /* the segments of JFIF and Adobe define the colour space of the components */
        if (marker == APP0 || marker == APP14 || marker < APP0) {
            memcpy(out + written, data + at, length);
            if (at == jpeg->frame) {
                out[written + 5] = (uint8_t)(height >> 8);
                out[written + 6] = (uint8_t)height;
                out[written + 7] = (uint8_t)(width >> 8);
                out[written + 8] = (uint8_t)width;
            }
            written += length;
        }
        at += length;
    }
    return written;
}

size_t jpeg_cut(const struct jpeg *jpeg, const uint8_t *data, const size_t *starts, struct rectangle wanted,
                uint8_t *out, struct rectangle *cut) {
    int32_t columns, rows;
    if (!jpeg_grid(jpeg, &columns, &rows))
        return 0;
    const int32_t wide = columns * jpeg->mcu_width, tall = rows * jpeg->mcu_height;
    const int32_t across = jpeg->mcus_per_row / columns;
    const int32_t left = wanted.left / wide, right = ceil_div(wanted.right, wide);
    const int32_t top = wanted.top / tall, bottom = ceil_div(wanted.bottom, tall);
    cut->left = left * wide;
    cut->top = top * tall;
    cut->right = right * wide < jpeg->width ? right * wide : jpeg->width;
    cut->bottom = bottom * tall < jpeg->height ? bottom * tall : jpeg->height;
    size_t written = cut_header(jpeg, data, cut->right - cut->left, cut->bottom - cut->top, out);
    size_t number = 0; /* number of the next segment in the cut */
    for (int32_t row = top; row < bottom; row++) {
        const size_t *run = starts + (size_t)row * (size_t)across + (size_t)left;
        const size_t tiles = (size_t)(right - left);
        const size_t bytes = run[tiles] - run[0]; /* including the marker after the last tile */
        memcpy(out + written, data + run[0], bytes);
        for (size_t i = 0; i < tiles; i++, number++)
            out[written + (run[i + 1] - run[0]) - 1] = (uint8_t)(RST0 + (number & 7));
        written += bytes;
    }
    out[written - 1] = EOI;
    return written;
}
