/* Turns errors and warnings of libjpeg (damaged data) into a jump to `if (setjmp(guard.failed) != 0)`. Each caller sets
 * that jump, so none leaves the call. */
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
    struct entropy *entropy; /* entropy decoder of the guarded decoder, or NULL */
};

/* Set up the error manager of a codec whose client_data is the guard. */
struct jpeg_error_mgr *guard_errors(struct guard *guard);

/* Whether a progressive file holds every coefficient: otherwise libjpeg smooths blocks, differently in each version. */
int guard_is_complete(const struct jpeg_decompress_struct *decoder);

#endif
