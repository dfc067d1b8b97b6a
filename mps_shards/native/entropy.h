/* Huffman decoding of baseline JPEGs instead of libjpeg-turbo's, which takes most of the time of decoding.
 *
 * A table entry holds a complete coefficient if possible: the number of zeros before it, its value, and the number of
 * bits of its code and value. Stuffing is removed first, so that the bit buffer is refilled without a branch. Blocks
 * that are not shown are skipped, several coefficients at a time.
 *
 * Any damage ends in an error of the decoder, as a warning of libjpeg does: see guard.h. */
#ifndef MPS_SHARDS_ENTROPY_H
#define MPS_SHARDS_ENTROPY_H

#include "guard.h"

struct entropy;

/* Returns NULL if memory is short. */
struct entropy *entropy_new(void);
void entropy_free(struct entropy *entropy);

/* Decode the scan of a decoder that jpeg_start_decompress has made ready, and whose guard names `entropy`.
 *
 * Returns 0, or -1 if libjpeg-turbo must decode the scan itself: the scan is not baseline, or the memory layout of the
 * decoder is unknown. Leaves by the jump of the guard if markers are invalid or memory is short. */
int entropy_attach(struct entropy *entropy, j_decompress_ptr decoder);

/* Decode only the MCUs of the columns `first` to `last`, and skip the others. */
void entropy_show(struct entropy *entropy, uint32_t first, uint32_t last);

/* Skip the rest of the scan, which reports any damage in it. */
void entropy_finish(struct entropy *entropy, j_decompress_ptr decoder);

#endif
