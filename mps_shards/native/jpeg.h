/* The structure of a JPEG file, read from its bytes without decoding: header, scan, restart markers.
 *
 * Restart markers allow decoding a region: at each marker the bit stream is byte-aligned and the DC predictors are
 * reset. If the restart intervals form a grid, a smaller JPEG can be cut out of the bytes. */
#ifndef MPS_SHARDS_JPEG_H
#define MPS_SHARDS_JPEG_H

#include <stddef.h>
#include <stdint.h>

/* The first bytes of the APP10 segment of a tiled file, with the terminating zero. */
#define TILES_NAME "mps-shards tiles"

struct jpeg {
    int32_t width, height;
    int32_t components;
    int32_t mcu_width, mcu_height;     /* pixels of an MCU in a scan with all components */
    int32_t mcus_per_row, mcu_rows;    /* MCUs of the whole image */
    int32_t restart_interval;          /* in MCUs; 0 without restart markers */
    int progressive;                   /* SOF2 */
    int interleaved;                   /* the first scan holds all components */
    int tiled;                         /* rewritten by tiles_rewrite: holds our note */
    size_t frame;                      /* offset of the SOF marker */
    size_t scan;                       /* offset of the first byte of entropy-coded data */
};

/* Reads the header up to the first scan. Returns 0, or -1 unless the header is flawless and the JPEG has 8 bits, is
 * Huffman-coded, and is baseline, extended or progressive. */
int jpeg_parse(struct jpeg *jpeg, const uint8_t *data, size_t size);

/* Walks the entropy-coded data of a file with one scan. Returns the offset of the EOI marker, or 0 if the data holds
 * other markers than the expected restart markers in order.
 *
 * starts: receives the offset of each restart segment and of the end; a marker is 2 bytes before each offset. Has
 *     space for `jpeg_segments` + 1 offsets. NULL checks only. */
size_t jpeg_walk(const struct jpeg *jpeg, const uint8_t *data, size_t size, size_t *starts);

/* Number of restart segments that the scan must have. */
size_t jpeg_segments(const struct jpeg *jpeg);

/* The grid that the restart segments form: tiles of `columns` x `rows` MCUs. Returns 0 if they form no grid. */
int jpeg_grid(const struct jpeg *jpeg, int32_t *columns, int32_t *rows);

/* A rectangle in pixels: from (left, top) up to, not including, (right, bottom). */
struct rectangle {
    int32_t left, top, right, bottom;
};

/* Copies the tiles that `wanted` touches into a new JPEG.
 *
* out: has space for as many bytes as the file has.
* cut: receives the area of the tiles.
 * Returns the bytes written; 0 if the file has no grid. */
size_t jpeg_cut(const struct jpeg *jpeg, const uint8_t *data, const size_t *starts, struct rectangle wanted,
                uint8_t *out, struct rectangle *cut);

#endif
