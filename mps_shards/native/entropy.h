/* Huffman decoding of baseline JPEGs in the place of libjpeg-turbo's, whose decoder takes most of the time of a JPEG.
 *
 * A table entry holds a whole coefficient where it can: how many zeros precede it, its value, and the bits of both its
 * code and its value. The bytes are cleared of stuffing first, so that the bit buffer is refilled without a branch.
 * Blocks that are not shown are passed over, several coefficients at a time.
 *
 * Whatever is not flawless ends in an error of the decoder, as a warning of libjpeg does: see guard.h. */
#ifndef MPS_SHARDS_ENTROPY_H
#define MPS_SHARDS_ENTROPY_H

#include "guard.h"

struct entropy;

/* NULL where memory is short. */
struct entropy *entropy_new(void);
void entropy_free(struct entropy *entropy);

/* Decode the scan of a decoder that jpeg_start_decompress has made ready, and whose guard names `entropy`.
 *
 * Returns 0, or -1 where libjpeg-turbo must decode the scan itself: it is not baseline, or the decoder is not laid out
 * as this code knows it. Leaves by the guard's jump where markers are not as they should be, or memory is short. */
int entropy_attach(struct entropy *entropy, j_decompress_ptr decoder);

/* Decode the MCUs of the columns `first` to `last` alone, and pass over the others. */
void entropy_show(struct entropy *entropy, uint32_t first, uint32_t last);

/* Pass over all that has not been decoded, to hear of any damage in it. */
void entropy_finish(struct entropy *entropy, j_decompress_ptr decoder);

#endif
