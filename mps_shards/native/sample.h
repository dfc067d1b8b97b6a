/* Parses a sample's byte range in a tar: its key, its label and its image. */
#ifndef MPS_SHARDS_SAMPLE_H
#define MPS_SHARDS_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

enum { NO_LABEL = -1, KEY_BYTES = 256 }; /* USTAR names have at most 155 + 1 + 100 bytes */

struct sample {
    char key[KEY_BYTES]; /* printable ASCII, without a NUL at the end */
    size_t key_size;
    const uint8_t *image; /* points into the parsed bytes */
    size_t image_size;
    int64_t label; /* class number; NO_LABEL if there is no field "cls" */
    size_t bytes;  /* size of all fields together */
};

/* Parse a run of tar blocks. Returns -1 for everything that is not one sample of regular files with one image and
 * printable ASCII names in USTAR headers: mps_shards.shards.tar decides about such bytes. */
int sample_parse(struct sample *sample, const uint8_t *run, size_t size);

#endif
