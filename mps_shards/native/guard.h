/* libjpeg's errors and warnings as a jump: it reports the first by longjmp, the second (damaged data) by messages.
 * Whoever works behind `if (setjmp(guard.failed) != 0)` never sees either, and no jump leaves the call. */
#ifndef MPS_SHARDS_GUARD_H
#define MPS_SHARDS_GUARD_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h> /* before jpeglib.h, which needs it */

#include <jpeglib.h>

#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "the kernel needs libjpeg-turbo 2.1 or later"
#endif

struct entropy;

struct guard {
    struct jpeg_error_mgr errors;
    jmp_buf failed;
    struct entropy *entropy; /* of a decoder; NULL if it has none */
};

/* The error manager for a codec whose client_data is the guard. */
struct jpeg_error_mgr *guard_errors(struct guard *guard);

/* Whether every coefficient of a progressive file has arrived: else libjpeg smooths blocks, each version in its way. */
int guard_is_complete(const struct jpeg_decompress_struct *decoder);

#endif
