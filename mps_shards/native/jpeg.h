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
    int32_t restart_interval;          /* MCUs between restart markers; 0 if there are none */
    int progressive;                   /* the frame is progressive (SOF2) */
    int interleaved;                   /* the first scan holds all components */
    int tiled;                         /* the header holds the note of tiles_rewrite */
    size_t frame;                      /* offset of the SOF marker */
    size_t scan;                       /* offset of the first byte of entropy-coded data */
};

/* Reads the header up to the first scan. Returns 0, or -1 unless the header is valid and the JPEG is Huffman-coded,
 * baseline, extended or progressive, with 8 bits per sample. */
int jpeg_parse(struct jpeg *jpeg, const uint8_t *data, size_t size);

/* Walks the entropy-coded data of a file with one scan. Returns the offset of the EOI marker, or 0 if the data holds
 * any other markers than the expected restart markers in order.
 *
 * starts: array for jpeg_segments() + 1 offsets, or NULL. It receives the offset after the header and the offset after
 *     each marker of the scan, including EOI. A marker has 2 bytes. */
size_t jpeg_walk(const struct jpeg *jpeg, const uint8_t *data, size_t size, size_t *starts);

/* Returns the number of restart segments that the scan must have. */
size_t jpeg_segments(const struct jpeg *jpeg);

/* Sets `columns` and `rows` to the size in MCUs of the tiles that the restart segments form. Returns 1, or 0 if the
 * segments form no grid. */
int jpeg_grid(const struct jpeg *jpeg, int32_t *columns, int32_t *rows);

/* A rectangle in pixels: from (left, top) up to, not including, (right, bottom). */
struct rectangle {
    int32_t left, top, right, bottom;
};

/* Copies the tiles that `wanted` touches into a new JPEG.
 *
 * starts: offsets of the restart segments, from jpeg_walk.
 * out: memory for the new JPEG, which is at most as long as the file.
 * cut: receives the area of the tiles, in pixels of the whole image.
 * Returns the number of bytes written, or 0 if the restart segments form no grid. */
size_t jpeg_cut(const struct jpeg *jpeg, const uint8_t *data, const size_t *starts, struct rectangle wanted,
                uint8_t *out, struct rectangle *cut);

#endif
