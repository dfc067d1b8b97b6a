/* Implements tiles.h. libjpeg-turbo reads and writes the coefficients, as `jpegtran -restart nB -optimize` does. */
#include "tiles.h"

#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "jpeg.h"

enum { SOI = 0xD8, EOI = 0xD9, APP0 = 0xE0, APP10 = 0xEA, COM = 0xFE };

struct work {
    struct guard guard;
    struct jpeg_decompress_struct reader;
    struct jpeg_compress_struct writer;
    unsigned char *stream; /* output of libjpeg */
    unsigned long stream_size;
};

/* Returns the MCUs per tile: a divisor of the MCUs per row, so that the tiles form a grid, and large enough that the
 * restart markers add few bytes. */
static int32_t tile_length(int32_t mcus_per_row) {
    static const int32_t lengths[] = {4, 5, 6, 3, 7, 2};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        if (mcus_per_row % lengths[i] == 0)
            return lengths[i];
    return 1;
}

static int is_metadata(uint8_t marker) { return (marker >= APP0 && marker <= APP0 + 15) || marker == COM; }

/* Copies the application and comment segments of the header to `out`, unless `out` is NULL. Returns their size in
 * bytes, and sets `count` to their number. */
static size_t copy_metadata(const struct jpeg *jpeg, const uint8_t *data, uint8_t *out, size_t *count) {
    size_t bytes = 0;
    *count = 0;
    for (size_t at = 2; at < jpeg->scan;) {
        const size_t length = 2 + ((size_t)data[at + 2] << 8 | data[at + 3]);
        if (is_metadata(data[at + 1])) {
            if (out != NULL)
                memcpy(out + bytes, data + at, length);
            bytes += length;
            ++*count;
        }
        at += length;
    }
    return bytes;
}

/* Whether the file holds nothing but this image. Data after the image or between its scans would be lost. */
static int is_alone(struct work *work, const struct jpeg *jpeg, const uint8_t *data, size_t size) {
    size_t markers = 0, header_markers;
    for (jpeg_saved_marker_ptr marker = work->reader.marker_list; marker != NULL; marker = marker->next)
        markers++;
    copy_metadata(jpeg, data, NULL, &header_markers);
    return markers == header_markers && work->reader.src->bytes_in_buffer == 0 && data[size - 2] == 0xFF &&
           data[size - 1] == EOI;
}

/* Read the coefficients and write them to work->stream. Returns 0, or -1 if the JPEG cannot be rewritten; damage ends
 * the call by longjmp. */
static int transcode(struct work *work, const struct jpeg *jpeg, const uint8_t *data, size_t size) {
    struct jpeg_decompress_struct *reader = &work->reader;
    struct jpeg_compress_struct *writer = &work->writer;
    jpeg_create_decompress(reader);
    jpeg_create_compress(writer);
    for (int number = 0; number < 16; number++)
        jpeg_save_markers(reader, JPEG_APP0 + number, 0xFFFF);
    jpeg_save_markers(reader, JPEG_COM, 0xFFFF);
    jpeg_mem_src(reader, data, (unsigned long)size);
    if (jpeg_read_header(reader, TRUE) != JPEG_HEADER_OK ||
        reader->jpeg_color_space != (jpeg->components == 1 ? JCS_GRAYSCALE : JCS_YCbCr))
        return -1;
    jvirt_barray_ptr *coefficients = jpeg_read_coefficients(reader);
    if (!guard_is_complete(reader) || !is_alone(work, jpeg, data, size))
        return -1;
    jpeg_copy_critical_parameters(reader, writer);
    writer->optimize_coding = TRUE;
    writer->restart_interval = (unsigned)tile_length(jpeg->mcus_per_row);
    writer->write_JFIF_header = FALSE; /* the file's own segments are kept */
    writer->write_Adobe_marker = FALSE;
    jpeg_mem_dest(writer, &work->stream, &work->stream_size);
    jpeg_write_coefficients(writer, coefficients);
    jpeg_finish_compress(writer);
    return 0;
}

/* Write SOI, the original metadata, the note, and the new stream without its SOI to new memory. Returns 0, or -1 if
 * memory is short. */
static int assemble(const struct work *work, const struct jpeg *jpeg, const uint8_t *data, const uint8_t *note,
                    size_t note_size, uint8_t **out, size_t *out_size) {
    size_t count, written = 2;
    const size_t metadata = copy_metadata(jpeg, data, NULL, &count);
    const size_t total = metadata + 4 + note_size + work->stream_size;
    uint8_t *memory = malloc(total);
    if (memory == NULL)
        return -1;
    memory[0] = 0xFF;
    memory[1] = SOI;
    written += copy_metadata(jpeg, data, memory + written, &count);
    memory[written++] = 0xFF;
    memory[written++] = APP10;
    memory[written++] = (uint8_t)((note_size + 2) >> 8);
    memory[written++] = (uint8_t)(note_size + 2);
    memcpy(memory + written, note, note_size);
    written += note_size;
    memcpy(memory + written, work->stream + 2, work->stream_size - 2);
    *out = memory;
    *out_size = total;
    return 0;
}

static int rewritten(struct work *work, const struct jpeg *jpeg, const uint8_t *data, size_t size) {
    if (setjmp(work->guard.failed) != 0)
        return -1;
    return transcode(work, jpeg, data, size);
}

int tiles_rewrite(const uint8_t *data, size_t size, const uint8_t *note, size_t note_size, uint8_t **out,
                  size_t *out_size) {
    struct jpeg jpeg;
    if (note_size > TILES_NOTE || jpeg_parse(&jpeg, data, size) != 0)
        return -1;
    if (!jpeg.progressive && jpeg.interleaved && jpeg_walk(&jpeg, data, size, NULL) + 2 != size)
        return -1; /* the JPEG is damaged, or the file holds more than the JPEG */
    struct work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return -1;
    work->reader.err = work->writer.err = guard_errors(&work->guard);
    work->reader.client_data = work->writer.client_data = &work->guard;
    int result = rewritten(work, &jpeg, data, size);
    if (result == 0)
        result = assemble(work, &jpeg, data, note, note_size, out, out_size);
    jpeg_destroy_compress(&work->writer);
    jpeg_destroy_decompress(&work->reader);
    free(work->stream);
    free(work);
    return result;
}
