/* See sample.h. The rules are those of mps_shards.shards.tar and key_names, for the headers that are most common. */
#include "sample.h"

#include <string.h>

enum { BLOCK = 512, NAME = 100, PREFIX_AT = 345, PREFIX = 155, MAX_FIELDS = 16 };

struct field {
    const char *name;
    size_t length;
};

static const char *const IMAGE_FIELDS[] = {"jpg", "jpeg", "png", "webp", "ppm",  "pgm",  "bmp", "tif",
                                           "tiff", "gif", "jfif", "avif", "heic", "heif", "jxl"};

static size_t length_of(const uint8_t *text, size_t most) {
    const uint8_t *end = memchr(text, 0, most);
    return end == NULL ? most : (size_t)(end - text);
}

/* Returns the octal number of at most `width` digits that NUL or a space ends; -1 if the text has another form. */
static int64_t octal(const uint8_t *digits, size_t width) {
    int64_t value = 0;
    size_t i = 0;
    for (; i < width && digits[i] >= '0' && digits[i] <= '7'; i++)
        value = 8 * value + (digits[i] - '0');
    return i == 0 || (i < width && digits[i] != 0 && digits[i] != ' ') ? -1 : value;
}

/* Whether the header's checksum is right: the sum of all its bytes, with spaces in place of the checksum (POSIX.1). */
static int is_checked(const uint8_t *block) {
    int64_t sum = 8 * ' ';
    for (size_t i = 0; i < BLOCK; i++)
        sum += block[i];
    for (size_t i = 148; i < 156; i++)
        sum -= block[i];
    return octal(block + 148, 8) == sum;
}

/* Writes the name of a member, with the prefix of USTAR. Returns its length; 0 if it is not printable ASCII. */
static size_t full_name(const uint8_t *block, char *name) {
    size_t length = 0;
    if (memcmp(block + 257, "ustar", 6) == 0 && block[PREFIX_AT] != 0) {
        length = length_of(block + PREFIX_AT, PREFIX);
        memcpy(name, block + PREFIX_AT, length);
        name[length++] = '/';
    }
    const size_t rest = length_of(block, NAME);
    memcpy(name + length, block, rest);
    length += rest;
    for (size_t i = 0; i < length; i++)
        if (name[i] < ' ' || name[i] > '~' || name[i] == '\\')
            return 0;
    return rest == 0 ? 0 : length;
}

/* Splits a name into key and field at the first dot of its base name. Returns the key's length, or 0 if Python must
 * decide whether the name has a key. */
static size_t key_of(char *name, size_t length, struct field *field) {
    size_t base = length;
    while (base > 0 && name[base - 1] != '/')
        base--;
    const char *dot = memchr(name + base, '.', length - base);
    if (dot == NULL || dot == name + base) /* no field, or a hidden file */
        return 0;
    for (size_t i = 0; i + 1 < base; i++) /* a hidden folder is left to Python */
        if (name[i] == '/' && name[i + 1] == '.')
            return 0;
    const size_t key = (size_t)(dot - name);
    for (size_t i = key; i < length; i++)
        if (name[i] >= 'A' && name[i] <= 'Z')
            name[i] = (char)(name[i] + ('a' - 'A'));
    *field = (struct field){name + key + 1, length - key - 1};
    return field->length == 0 || name[0] == '.' ? 0 : key;
}

static int is_named(const struct field *field, const char *name) {
    return field->length == strlen(name) && memcmp(field->name, name, field->length) == 0;
}

static int is_image(const struct field *field) {
    for (size_t i = 0; i < sizeof IMAGE_FIELDS / sizeof *IMAGE_FIELDS; i++)
        if (is_named(field, IMAGE_FIELDS[i]))
            return 1;
    return 0;
}

static int is_space(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

/* Returns the class number in ASCII digits, with blanks around it; -1 if the text has another form. */
static int64_t class_number(const uint8_t *text, size_t size) {
    while (size > 0 && is_space(text[size - 1]))
        size--;
    while (size > 0 && is_space(*text)) {
        text++;
        size--;
    }
    int64_t value = 0;
    if (size < 1 || size > 18)
        return -1;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        value = 10 * value + (text[i] - '0');
    }
    return value;
}

int sample_parse(struct sample *sample, const uint8_t *run, size_t size) {
    char names[MAX_FIELDS][KEY_BYTES];
    struct field fields[MAX_FIELDS];
    size_t count = 0;
    sample->label = NO_LABEL;
    sample->image = NULL;
    sample->bytes = 0;
    for (size_t at = 0; at < size; count++) {
        const uint8_t *block = run + at;
        if (size - at < BLOCK || count == MAX_FIELDS || !is_checked(block))
            return -1;
        const uint8_t kind = block[156];
        const int64_t stated = octal(block + 124, 12);
        if ((kind != '0' && kind != 0 && kind != '7') || stated < 0 || (uint64_t)stated > size - at - BLOCK)
            return -1;
        const size_t bytes = (size_t)stated;
        const size_t length = full_name(block, names[count]);
        const size_t key = length == 0 ? 0 : key_of(names[count], length, &fields[count]);
        if (key == 0)
            return -1;
        if (count == 0) {
            memcpy(sample->key, names[0], key);
            sample->key_size = key;
        } else if (key != sample->key_size || memcmp(names[count], sample->key, key) != 0)
            return -1;
        for (size_t i = 0; i < count; i++)
            if (fields[i].length == fields[count].length &&
                memcmp(fields[i].name, fields[count].name, fields[i].length) == 0)
                return -1;
        if (is_image(&fields[count])) {
            if (sample->image != NULL)
                return -1;
            sample->image = block + BLOCK;
            sample->image_size = bytes;
        } else if (is_named(&fields[count], "cls")) {
            sample->label = class_number(block + BLOCK, bytes);
            if (sample->label < 0)
                return -1;
        }
        sample->bytes += bytes;
        at += BLOCK + (bytes + BLOCK - 1) / BLOCK * BLOCK;
    }
    return sample->image == NULL ? -1 : 0;
}
