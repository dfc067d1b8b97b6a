/* The structure of a JPEG file, read from its bytes without decoding: header, scan, restart markers.
 *
 * Restart markers make any decoder a region decoder: the bit stream is byte-aligned at each of them and the DC
 * predictors start anew. Where the intervals form a grid, a smaller JPEG is cut out of the bytes. */
#ifndef MPS_SHARDS_JPEG_H
#define MPS_SHARDS_JPEG_H

#include <stddef.h>
#include <stdint.h>

/* How the APP10 segment of a tiled file begins, terminating zero included. */
#define TILES_NAME "mps-shards tiles"

struct jpeg {
    int32_t width, height;
    int32_t components;
    int32_t mcu_width, mcu_height;     /* pixels of an MCU of a scan that holds all components */
    int32_t mcus_per_row, mcu_rows;    /* of the whole image */
    int32_t restart_interval;          /* MCUs; 0 where there are no restart markers */
    int progressive;                   /* SOF2 */
    int interleaved;                   /* the first scan holds all components */
    int tiled;                         /* rewritten by tiles_rewrite: holds our note */
    size_t frame;                      /* offset of the SOF marker */
    size_t scan;                       /* offset of the first byte of entropy-coded data */
};

/* Reads everything up to the first scan. Returns 0, or -1 where this is not a JPEG of 8 bits, baseline, extended or
 * progressive, Huffman-coded, whose header is flawless. */
int jpeg_parse(struct jpeg *jpeg, const uint8_t *data, size_t size);

/* Walks the entropy-coded data of a file with one scan. Returns the offset of the EOI marker, or 0 where the data holds
 * anything but restart markers, in their order and number.
 *
 * starts: gets the offset of each restart segment, and one more for the end, where the markers lie 2 bytes before each
 *     offset; NULL to check alone. Has room for `jpeg_segments` + 1. */
size_t jpeg_walk(const struct jpeg *jpeg, const uint8_t *data, size_t size, size_t *starts);

/* How many restart segments the scan must have. */
size_t jpeg_segments(const struct jpeg *jpeg);

/* The grid that the restart segments form: tiles of `columns` x `rows` MCUs. Returns 0 where they form none. */
int jpeg_grid(const struct jpeg *jpeg, int32_t *columns, int32_t *rows);

/* A rectangle in pixels: from (left, top) up to, not including, (right, bottom). */
struct rectangle {
    int32_t left, top, right, bottom;
};

/* Cuts the tiles that `wanted` touches into a JPEG of their own.
 *
 * out: has room for as many bytes as the file has.
 * cut: gets what the tiles cover.
 * Returns the bytes written; 0 where the file has no grid. */
size_t jpeg_cut(const struct jpeg *jpeg, const uint8_t *data, const size_t *starts, struct rectangle wanted,
                uint8_t *out, struct rectangle *cut);

#endif
