/* Rewrites JPEGs as grids of tiles. The coefficients, and so the pixels, stay the same, but a restart marker follows
 * every few MCUs, so that any region can be cut out and decoded alone (see jpeg.h). */
#ifndef MPS_SHARDS_TILES_H
#define MPS_SHARDS_TILES_H

#include <stddef.h>
#include <stdint.h>

/* Rewrites a JPEG without loss, as a baseline, interleaved JPEG with restart markers and new Huffman tables. All
 * application and comment segments of the header are kept as they are, in their order.
 *
 * note: content of the APP10 segment that is added; at most TILES_NOTE bytes.
 * out: receives new memory, which the caller releases with `free`.
 * Returns 0, or -1 if the file cannot be rewritten: it is damaged, it is not a gray or YCbCr JPEG with 8 bits per
 * sample, it holds data after the image or between its scans, or memory is short. */
int tiles_rewrite(const uint8_t *data, size_t size, const uint8_t *note, size_t note_size, uint8_t **out,
                  size_t *out_size);

enum { TILES_NOTE = 1024 };

#endif
