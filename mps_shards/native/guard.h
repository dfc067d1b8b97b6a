/* Turns errors of libjpeg, and its warnings about damaged data, into a longjmp to `guard.failed`. Callers set this
 * target with `if (setjmp(guard.failed) != 0)` before they use libjpeg, so that no jump leaves their own function. */
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

/* Returns the error manager for a codec of libjpeg; the codec's client_data must be the guard. */
struct jpeg_error_mgr *guard_errors(struct guard *guard);

/* Whether the image is not progressive, or all bits of its coefficients have been read. If bits are missing, libjpeg
 * smooths the blocks, and the result depends on its version. */
int guard_is_complete(const struct jpeg_decompress_struct *decoder);

#endif
