/* Huffman decoder for baseline JPEGs. It replaces the Huffman decoder of libjpeg-turbo, which takes most of the time of
 * decoding.
 *
 * A table entry describes a complete coefficient where possible: the number of zeros before it, and the numbers of bits
 * of its code and of its value. Stuffed bytes are removed first, so that the bit buffer is refilled without a branch.
 * Blocks that are not shown are skipped, several coefficients at a time.
 *
 * Any damage raises an error of libjpeg, which guard.h turns into a jump. */
#ifndef MPS_SHARDS_ENTROPY_H
#define MPS_SHARDS_ENTROPY_H

#include "guard.h"

struct entropy;

/* Allocates a Huffman decoder. Returns NULL if memory is short. */
struct entropy *entropy_new(void);
void entropy_free(struct entropy *entropy);

/* Make libjpeg-turbo's `decoder` use `entropy` to decode its scan. jpeg_start_decompress must have been called, and the
 * guard of the decoder must name `entropy`.
 *
 * Returns 0, or -1 if libjpeg-turbo must decode the scan itself: the scan is not baseline, or the memory layout of the
 * decoder is unknown. The call ends by the guard's jump if markers are invalid or memory is short. */
int entropy_attach(struct entropy *entropy, j_decompress_ptr decoder);

/* From now on, decode only the MCUs of the columns `first` to `last`, and skip the others. */
void entropy_show(struct entropy *entropy, uint32_t first, uint32_t last);

/* Read the rest of the scan without decoding it, so that any damage in it is reported. */
void entropy_finish(struct entropy *entropy, j_decompress_ptr decoder);

#endif
