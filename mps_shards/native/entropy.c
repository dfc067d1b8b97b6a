/* Implements entropy.h, by the rules of ITU T.81: annex C for the codes, section F.2.2 for decoding. */
#define _GNU_SOURCE /* dladdr */
#include "entropy.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* The first fields of libjpeg-turbo's entropy decoders, in all versions from 1.0 to 3.2. They are copied from
 * jpegint.h, which is not installed. */
struct jpeg_entropy_decoder {
    void (*start_pass)(j_decompress_ptr decoder);
    boolean (*decode_mcu)(j_decompress_ptr decoder, JBLOCKROW *blocks);
};

enum {
    LOOK = 10,        /* bits that index the tables */
    AC_BITS = 10,     /* most bits of an AC coefficient in 8-bit images (T.81, table F.2) */
    DC_BITS = 11,     /* most bits of a DC difference in 8-bit images (T.81, table F.1) */
    LAST = 63,        /* index of the last coefficient of a block */
    BAD = 64,         /* distance that marks a damaged coefficient */
    END = 192,        /* distance that marks the end of a block; larger than any other distance */
    ROOM = 256        /* zero bytes after the scan: more than decoding one block may read past the end */
};

/* A table entry describes the coefficient that the next LOOK bits begin with. The entry is 0 if the coefficient's code
 * has more than LOOK bits.
 *     bits 0 to 5    number of bits of the code and the value together
 *     bits 8 to 15   index of the coefficient minus the index of the previous coefficient: 1 to 16, or END, or BAD
 *     bits 16 to 20  number of bits of the code
 *     bits 24 to 27  number of bits of the value
 * An entry for skipping describes all the coefficients that the next LOOK bits hold completely.
 *     bits 0 to 5    number of bits of these coefficients together
 *     bits 8 to 15   index of the last of these coefficients minus the index of the coefficient before them
 *     bit 16         whether the block ends after them
 *     bits 24 to 31  the number in bits 8 to 15, plus bit 16: if the index reached exceeds LAST, the last of these
 *                    coefficients may belong to the next block, and the entry must not be used */
typedef uint32_t entry;
enum { TAKEN = 63 };

struct table {
    entry entries[1 << LOOK];
    entry passed[1 << LOOK]; /* entries for skipping; only in tables for AC coefficients */
    JHUFF_TBL source;        /* the table of libjpeg that this one was made from */
    int32_t most[17];        /* largest code of each length in bits; -1 if there is none */
    int32_t shift[17];       /* for each length in bits: index of a symbol in `source.huffval` minus its code */
    int known;               /* the table was made from `source` */
};

struct bits {
    uint64_t buffer;   /* the next bits; the first of them is the most significant one */
    int32_t count;     /* number of valid bits in `buffer` */
    const uint8_t *at; /* the next byte to read */
};

struct entropy {
    struct table dc[NUM_HUFF_TBLS], ac[NUM_HUFF_TBLS];
    struct { int component; const struct table *dc, *ac; } blocks[D_MAX_BLOCKS_IN_MCU];
    boolean (*trusted)(j_decompress_ptr, JBLOCKROW *); /* a decode_mcu that is_known found to be libjpeg's */
    uint8_t *bytes;  /* the scan without stuffed bytes and markers, followed by ROOM zeros */
    size_t capacity;
    size_t *ends;    /* offset in `bytes` of the end of each restart segment */
    size_t segments, ends_capacity;
    struct bits bits;
    int32_t predictors[MAX_COMPS_IN_SCAN];
    size_t segment;          /* index of the current restart segment */
    JDIMENSION left, mcus;   /* MCUs left in the current restart segment, and MCUs of all later segments */
    JDIMENSION column;       /* column of the next MCU */
    JDIMENSION first, last;  /* only the columns of MCUs from `first` to `last` are decoded */
};

/* Position within the block of each coefficient in zigzag order (T.81, figure A.6). */
static const uint8_t NATURAL[64] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

struct entropy *entropy_new(void) { return calloc(1, sizeof(struct entropy)); }

void entropy_free(struct entropy *entropy) {
    if (entropy == NULL)
        return;
    free(entropy->bytes);
    free(entropy->ends);
    free(entropy);
}

static void damaged(j_decompress_ptr decoder) { decoder->err->error_exit((j_common_ptr)decoder); }

/* Returns the table entry of a symbol whose code has `length` bits. */
static entry symbol_entry(uint32_t symbol, uint32_t length, int is_dc) {
    const uint32_t size = is_dc ? symbol : symbol & 15, zeros = symbol >> 4;
    const uint32_t far = is_dc ? 0 : size == 0 && zeros != 15 ? END : zeros + 1;
    return (length + size) | far << 8 | length << 16 | size << 24;
}

/* Fill `entries`: one coefficient for each pattern of LOOK bits. */
static void fill_entries(struct table *table, int is_dc) {
    memset(table->entries, 0, sizeof table->entries);
    uint32_t next = 0, number = 0;
    for (uint32_t length = 1; length <= LOOK; length++)
        for (int32_t i = 0; i < table->source.bits[length]; i++, number++) {
            const entry found = symbol_entry(table->source.huffval[number], length, is_dc);
            for (uint32_t end = next + (1u << (LOOK - length)); next < end; next++)
                table->entries[next] = found;
        }
}

/* Fill `passed`: for each pattern of LOOK bits, as many complete coefficients as it holds, but at least the first. */
static void fill_passed(struct table *table) {
    for (uint32_t i = 0; i < 1 << LOOK; i++) {
        uint32_t taken = 0, far = 0, ends = 0;
        while (!ends && taken < LOOK) {
            const entry next = table->entries[i << taken & ((1 << LOOK) - 1)];
            if (next == 0 || (taken > 0 && taken + (next & TAKEN) > LOOK))
                break;
            taken += next & TAKEN;
            ends = (next >> 8 & 255) == END;
            far += ends ? 0 : next >> 8 & 255;
        }
        table->passed[i] = taken | far << 8 | ends << 16 | (far + ends) << 24;
    }
}

/* Make the lookup tables of a Huffman table, unless they are still those of the same Huffman table. Returns 0, or -1 if
 * the Huffman table is not valid in a baseline JPEG. */
static int table_prepare(struct table *table, const JHUFF_TBL *source, int is_dc) {
    if (source == NULL)
        return -1;
    if (table->known && memcmp(table->source.bits, source->bits, sizeof source->bits) == 0 &&
        memcmp(table->source.huffval, source->huffval, sizeof source->huffval) == 0)
        return 0;
    table->known = 0;
    int32_t code = 0, number = 0;
    for (int32_t length = 1; length <= 16; length++, code <<= 1) {
        table->shift[length] = number - code;
        code += source->bits[length];
        number += source->bits[length];
        table->most[length] = source->bits[length] ? code - 1 : -1;
        if (code > 1 << length || number > 256)
            return -1;
    }
    for (int32_t i = 0; i < number; i++)
        if ((is_dc ? source->huffval[i] : source->huffval[i] & 15) > (is_dc ? DC_BITS : AC_BITS))
            return -1;
    table->source = *source;
    fill_entries(table, is_dc);
    if (!is_dc)
        fill_passed(table);
    table->known = 1;
    return 0;
}

static inline void refill(struct bits *bits) {
    uint64_t next;
    memcpy(&next, bits->at, sizeof next);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    next = __builtin_bswap64(next);
#endif
    bits->buffer |= next >> bits->count;
    bits->at += (63 - bits->count) >> 3;
    bits->count |= 56;
}

static inline uint32_t peek(const struct bits *bits) { return (uint32_t)(bits->buffer >> (64 - LOOK)); }

static inline void take(struct bits *bits, uint32_t count) {
    bits->buffer <<= count;
    bits->count -= (int32_t)count;
}

/* Returns the table entry of the next coefficient, whose code has more than LOOK bits. */
static __attribute__((noinline)) entry long_entry(uint64_t buffer, const struct table *table, int is_dc) {
    const int32_t code = (int32_t)(buffer >> 48);
    for (int32_t length = LOOK + 1; length <= 16; length++) {
        const int32_t prefix = code >> (16 - length);
        if (prefix <= table->most[length])
            return symbol_entry(table->source.huffval[prefix + table->shift[length]], (uint32_t)length, is_dc);
    }
    return BAD << 8;
}

/* Returns the table entry of the next coefficient. Its code and value have at most 27 bits. */
static inline entry next_entry(const struct bits *bits, const struct table *table, int is_dc) {
    const entry found = table->entries[peek(bits)];
    return __builtin_expect(found == 0, 0) ? long_entry(bits->buffer, table, is_dc) : found;
}

/* Returns the value of the next coefficient. A value whose first bit is 0 is negative (T.81, figure F.12). */
static inline int32_t value_of(const struct bits *bits, entry found) {
    const uint64_t rest = bits->buffer << (found >> 16 & 31);
    const uint32_t size = found >> 24;
    return (int32_t)(rest >> 1 >> (63 - size)) + ((int32_t)((int64_t)~rest >> 63) & (1 - (int32_t)(1u << size)));
}

/* Decode the AC coefficients of a block, and write them to `block`. Returns 0, or -1 if they are damaged. */
static inline int decode_block(struct bits *bits, const struct table *table, JCOEF *block) {
    uint32_t at = 0;
    for (;;) {
        refill(bits); /* at least 56 bits, which are enough for two coefficients */
        for (int twice = 0; twice < 2; twice++) {
            const entry found = next_entry(bits, table, 0);
            const JCOEF value = (JCOEF)value_of(bits, found);
            take(bits, found & TAKEN);
            at += found >> 8 & 255;
            if (at >= LAST) {
                if (at == LAST)
                    block[LAST] = value;
                return at == LAST || at >= END ? 0 : -1;
            }
            block[NATURAL[at]] = value;
        }
    }
}

/* Skip the AC coefficients of a block, several at a time. Returns 0, or -1 if they are damaged. */
static inline int pass_block(struct bits *bits, const struct table *table) {
    uint32_t at = 0;
    for (;;) {
        refill(bits);
        for (int twice = 0; twice < 2; twice++) {
            const entry found = table->passed[peek(bits)];
            if (found != 0 && at + (found >> 24) <= LAST) {
                take(bits, found & TAKEN);
                at += found >> 8 & 255;
                if (found & 1 << 16)
                    return 0;
            } else {
                const entry one = next_entry(bits, table, 0);
                take(bits, one & TAKEN);
                at += one >> 8 & 255;
            }
            if (at >= LAST)
                return at == LAST || at >= END ? 0 : -1;
        }
    }
}

/* Begin the restart segment with index entropy->segment: reset the bit buffer and the DC predictors. */
static void begin_segment(struct entropy *entropy, j_decompress_ptr decoder) {
    const size_t start = entropy->segment == 0 ? 0 : entropy->ends[entropy->segment - 1];
    entropy->bits = (struct bits){0, 0, entropy->bytes + start};
    memset(entropy->predictors, 0, sizeof entropy->predictors);
    entropy->left = entropy->mcus;
    if (decoder->restart_interval != 0 && decoder->restart_interval < entropy->left)
        entropy->left = decoder->restart_interval;
    entropy->mcus -= entropy->left;
}

/* Whether the data of the current restart segment ended with its last MCU, so that fewer than 8 bits are left. */
static int ended_well(const struct entropy *entropy) {
    const uint8_t *end = entropy->bytes + entropy->ends[entropy->segment];
    const ptrdiff_t left = 8 * (end - entropy->bits.at) + entropy->bits.count;
    return left >= 0 && left < 8;
}

static boolean decode_mcu(j_decompress_ptr decoder, JBLOCKROW *blocks) {
    struct entropy *entropy = ((struct guard *)decoder->client_data)->entropy;
    const int is_shown = blocks != NULL && entropy->column >= entropy->first && entropy->column <= entropy->last;
    const uint8_t *limit = entropy->bytes + entropy->ends[entropy->segments - 1] + 8;
    struct bits bits = entropy->bits;
    for (int i = 0; i < decoder->blocks_in_MCU; i++) {
        if (bits.at > limit)
            damaged(decoder);
        refill(&bits);
        const entry first = next_entry(&bits, entropy->blocks[i].dc, 1);
        int32_t *predictor = &entropy->predictors[entropy->blocks[i].component];
        *predictor = (int16_t)(*predictor + value_of(&bits, first));
        take(&bits, first & TAKEN);
        int failed;
        if (is_shown) {
            blocks[i][0][0] = (JCOEF)*predictor;
            failed = decode_block(&bits, entropy->blocks[i].ac, blocks[i][0]);
        } else {
            failed = pass_block(&bits, entropy->blocks[i].ac);
        }
        if (failed || (first >> 8 & 255) == BAD)
            damaged(decoder);
    }
    entropy->bits = bits;
    entropy->column = entropy->column + 1 == decoder->MCUs_per_row ? 0 : entropy->column + 1;
    if (--entropy->left == 0) {
        if (!ended_well(entropy))
            damaged(decoder);
        if (++entropy->segment < entropy->segments)
            begin_segment(entropy, decoder);
    }
    return TRUE;
}

/* Make the memory that `pointer` points to at least `bytes` long; its address may change. Returns 0, or -1 if memory is
 * short. */
static int reserve(void *pointer, size_t *capacity, size_t bytes) {
    if (bytes <= *capacity)
        return 0;
    void **memory = pointer;
    void *more = realloc(*memory, 2 * bytes);
    if (more == NULL)
        return -1;
    *memory = more;
    *capacity = 2 * bytes;
    return 0;
}

/* Copy the scan to entropy->bytes without stuffed bytes and markers, and note where each restart segment ends. Returns
 * 0, or -1 if memory is short or a marker is invalid. */
static int unstuff(struct entropy *entropy, const uint8_t *scan, size_t size) {
    if (reserve(&entropy->bytes, &entropy->capacity, size + ROOM) != 0 ||
        reserve(&entropy->ends, &entropy->ends_capacity, entropy->segments * sizeof *entropy->ends) != 0)
        return -1;
    uint8_t *out = entropy->bytes;
    for (size_t segment = 0; size > 1;) {
        const uint8_t *marker = memchr(scan, 0xFF, size - 1);
        if (marker == NULL)
            return -1;
        const size_t plain = (size_t)(marker - scan);
        memcpy(out, scan, plain);
        out += plain;
        scan += plain + 2;
        size -= plain + 2;
        if (marker[1] == 0) {
            *out++ = 0xFF;
            continue;
        }
        const int is_last = segment + 1 == entropy->segments;
        if (marker[1] != (is_last ? JPEG_EOI : JPEG_RST0 + (int)(segment & 7)))
            return -1;
        entropy->ends[segment++] = (size_t)(out - entropy->bytes);
        if (is_last) {
            memset(out, 0, ROOM);
            return 0;
        }
    }
    return -1;
}

/* Whether the assumed memory layout of libjpeg's entropy decoder is right: its two pointers lead to functions of
 * libjpeg. */
static int is_known(struct entropy *entropy, j_decompress_ptr decoder) {
    if (decoder->entropy->decode_mcu == entropy->trusted)
        return 1;
    Dl_info theirs, found;
    if (dladdr((void *)jpeg_start_decompress, &theirs) == 0 ||
        dladdr((void *)decoder->entropy->start_pass, &found) == 0 || found.dli_fbase != theirs.dli_fbase ||
        dladdr((void *)decoder->entropy->decode_mcu, &found) == 0 || found.dli_fbase != theirs.dli_fbase)
        return 0;
    entropy->trusted = decoder->entropy->decode_mcu;
    return 1;
}

int entropy_attach(struct entropy *entropy, j_decompress_ptr decoder) {
    if (decoder->progressive_mode || decoder->arith_code || decoder->comps_in_scan != decoder->num_components ||
        !is_known(entropy, decoder))
        return -1;
    for (int i = 0; i < decoder->blocks_in_MCU; i++) {
        const int component = decoder->MCU_membership[i];
        const int dc = decoder->cur_comp_info[component]->dc_tbl_no, ac = decoder->cur_comp_info[component]->ac_tbl_no;
        if (table_prepare(&entropy->dc[dc], decoder->dc_huff_tbl_ptrs[dc], 1) != 0 ||
            table_prepare(&entropy->ac[ac], decoder->ac_huff_tbl_ptrs[ac], 0) != 0)
            return -1;
        entropy->blocks[i].component = component;
        entropy->blocks[i].dc = &entropy->dc[dc];
        entropy->blocks[i].ac = &entropy->ac[ac];
    }
    entropy->mcus = decoder->MCUs_per_row * decoder->MCU_rows_in_scan; /* below 2^27 even with 65,535 x 65,535 pixels */
    entropy->segments = 1;
    if (decoder->restart_interval != 0)
        entropy->segments = (entropy->mcus + decoder->restart_interval - 1) / decoder->restart_interval;
    if (unstuff(entropy, decoder->src->next_input_byte, decoder->src->bytes_in_buffer) != 0)
        damaged(decoder);
    entropy->first = 0;
    entropy->last = decoder->MCUs_per_row;
    entropy->segment = 0;
    entropy->column = 0;
    begin_segment(entropy, decoder);
    decoder->entropy->decode_mcu = decode_mcu;
    return 0;
}

void entropy_show(struct entropy *entropy, uint32_t first, uint32_t last) {
    entropy->first = first;
    entropy->last = last;
}

void entropy_finish(struct entropy *entropy, j_decompress_ptr decoder) {
    while (entropy->segment < entropy->segments)
        decode_mcu(decoder, NULL);
}
