/* The Python module mps_shards.native._kernel: functions of the kernel for objects with the buffer protocol.
 *
 * The module uses Python's limited API, so that one build works with every Python from 3.11 on. Arguments are checked
 * while the GIL is held; images are loaded and rendered without the GIL. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>
#include <stdint.h>
#include <stdio.h> /* before jpeglib.h, which needs it */
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "kernel.h"
#include "load.h"
#include "tiles.h"

#define STRING(value) #value
#define EXPANDED(value) STRING(value)

#define DECODER "mps_shards decoder"

struct decoder {
    struct loader loader;
    int is_busy;
};

static void free_decoder(PyObject *capsule) {
    struct decoder *decoder = PyCapsule_GetPointer(capsule, DECODER);
    kernel_free(decoder->loader.kernel);
    free(decoder->loader.bytes);
    PyMem_Free(decoder);
}

static PyObject *new_decoder(PyObject *module, PyObject *args) {
    (void)module;
    int portable;
    if (!PyArg_ParseTuple(args, "p", &portable))
        return NULL;
    struct decoder *decoder = PyMem_Calloc(1, sizeof *decoder);
    if (decoder == NULL)
        return PyErr_NoMemory();
    decoder->loader.kernel = kernel_new();
    if (decoder->loader.kernel == NULL) {
        PyMem_Free(decoder);
        return PyErr_NoMemory();
    }
    if (portable)
        kernel_use_portable(decoder->loader.kernel);
    PyObject *capsule = PyCapsule_New(decoder, DECODER, free_decoder);
    if (capsule == NULL) {
        kernel_free(decoder->loader.kernel);
        PyMem_Free(decoder);
    }
    return capsule;
}

/* The memory that a call writes, with the arguments that describe it. */
struct rows {
    Py_buffer destination, table;
    Py_ssize_t count;
    struct target target; /* image: the first row */
    size_t row_bytes;
};

static int check_rows(struct rows *rows, int layout) {
    if (layout < LAYOUT_FLOAT_PLANES || layout > LAYOUT_BYTE_PIXELS || rows->target.height < 1 ||
        rows->target.width < 1) {
        PyErr_SetString(PyExc_ValueError, "the layout is unknown, or the height or width is not positive");
        return -1;
    }
    rows->target.layout = (enum layout)layout;
    const size_t item = layout <= LAYOUT_FLOAT_PIXELS ? sizeof(float) : 1;
    const size_t pixels = (size_t)rows->target.height * (size_t)rows->target.width; /* below 2^62 */
    if (pixels > (size_t)PY_SSIZE_T_MAX / (3 * item)) {
        PyErr_SetString(PyExc_ValueError, "a row is larger than the address space");
        return -1;
    }
    rows->row_bytes = 3 * item * pixels;
    if ((size_t)rows->destination.len / rows->row_bytes < (size_t)rows->count ||
        (uintptr_t)rows->destination.buf % item != 0) {
        PyErr_Format(PyExc_ValueError, "the destination holds %zd bytes, not %zd rows of %zd aligned bytes",
                     rows->destination.len, rows->count, (Py_ssize_t)rows->row_bytes);
        return -1;
    }
    if (rows->table.obj != NULL && (size_t)rows->table.len != 3 * 256 * sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "the table is not float32 [3, 256]");
        return -1;
    }
    return 0;
}

/* Acquire the buffers for `count` rows, and check their sizes. Returns 0, or -1 with an exception. */
static int hold_rows(struct rows *rows, Py_ssize_t count, PyObject *destination, PyObject *table, int layout) {
    rows->count = count;
    if (PyObject_GetBuffer(destination, &rows->destination, PyBUF_WRITABLE) != 0 ||
        (table != Py_None && PyObject_GetBuffer(table, &rows->table, PyBUF_SIMPLE) != 0) ||
        check_rows(rows, layout) != 0)
        return -1;
    rows->target.image = rows->destination.buf;
    rows->target.table = rows->table.obj != NULL ? rows->table.buf : NULL;
    return 0;
}

static void release(Py_buffer *buffer) {
    if (buffer->obj != NULL)
        PyBuffer_Release(buffer);
}

static void release_rows(struct rows *rows) {
    release(&rows->destination);
    release(&rows->table);
}

static struct target row_target(const struct rows *rows, Py_ssize_t row) {
    struct target target = rows->target;
    target.image = (char *)target.image + (size_t)row * rows->row_bytes;
    return target;
}

static struct decoder *idle_decoder(PyObject *capsule) {
    struct decoder *decoder = PyCapsule_GetPointer(capsule, DECODER);
    if (decoder != NULL && decoder->is_busy) { /* `is_busy` is read and written while the GIL is held */
        PyErr_SetString(PyExc_ValueError, "two threads cannot use one decoder at the same time");
        return NULL;
    }
    return decoder;
}

struct render_job {
    Py_buffer *images; /* one for each row; obj is NULL for rows that are not rendered */
    Py_ssize_t count, held;
    Py_buffer views;
    struct rows rows;
    long long max_pixels;
    struct decoder *decoder;
};

static void release_render(struct render_job *job) {
    for (Py_ssize_t i = 0; job->images != NULL && i < job->held; i++)
        release(&job->images[i]);
    PyMem_Free(job->images);
    release(&job->views);
    release_rows(&job->rows);
}

/* Acquire the buffer of every image; an image that is None gets an empty buffer. Returns 0, or -1 with an exception. */
static int hold_images(struct render_job *job, PyObject *images) {
    job->count = PySequence_Size(images);
    if (job->count < 0)
        return -1;
    job->images = PyMem_Calloc((size_t)job->count + 1, sizeof *job->images);
    if (job->images == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (; job->held < job->count; job->held++) {
        PyObject *image = PySequence_GetItem(images, job->held);
        if (image == NULL)
            return -1;
        const int failed = image != Py_None && PyObject_GetBuffer(image, &job->images[job->held], PyBUF_SIMPLE) != 0;
        Py_DECREF(image);
        if (failed)
            return -1;
    }
    return 0;
}

static int hold_views(struct render_job *job, PyObject *views) {
    if (PyObject_GetBuffer(views, &job->views, PyBUF_SIMPLE) != 0)
        return -1;
    if ((size_t)job->views.len != (size_t)job->count * sizeof(struct view)) {
        PyErr_Format(PyExc_ValueError, "the views are %zd bytes, not %zd for each of %zd images", job->views.len,
                     (Py_ssize_t)sizeof(struct view), job->count);
        return -1;
    }
    return 0;
}

/* Renders every image that is not None, and sets done[i] to the outcome of image i. Runs without the GIL. */
static void render_all(const struct render_job *job, char *done) {
    for (Py_ssize_t i = 0; i < job->count; i++) {
        const Py_buffer *image = &job->images[i];
        if (image->obj == NULL)
            continue;
        const struct target target = row_target(&job->rows, i);
        struct view view;
        memcpy(&view, (const char *)job->views.buf + (size_t)i * sizeof view, sizeof view);
        done[i] = (char)kernel_render(job->decoder->loader.kernel, image->buf, (size_t)image->len, &view, &target,
                                      job->max_pixels);
    }
}

static PyObject *render_job(struct render_job *job) {
    char *done = PyMem_Calloc((size_t)job->count + 1, 1);
    if (done == NULL)
        return PyErr_NoMemory();
    job->decoder->is_busy = 1;
    Py_BEGIN_ALLOW_THREADS
    render_all(job, done);
    Py_END_ALLOW_THREADS
    job->decoder->is_busy = 0;
    PyObject *result = PyBytes_FromStringAndSize(done, job->count);
    PyMem_Free(done);
    return result;
}

static PyObject *render(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *decoder, *images, *views, *destination, *table, *result = NULL;
    int layout;
    struct render_job job;
    memset(&job, 0, sizeof job);
    if (!PyArg_ParseTuple(args, "OOOOiiiOL", &decoder, &images, &views, &destination, &layout, &job.rows.target.height,
                          &job.rows.target.width, &table, &job.max_pixels))
        return NULL;
    job.decoder = idle_decoder(decoder);
    if (job.decoder != NULL && hold_images(&job, images) == 0 && hold_views(&job, views) == 0 &&
        hold_rows(&job.rows, job.count, destination, table, layout) == 0)
        result = render_job(&job);
    release_render(&job);
    return result;
}

struct load_job {
    Py_buffer spans, geometry;
    Py_ssize_t count;
    struct rows rows;
    struct loading loading;
    struct decoder *decoder;
    struct sample *samples;
    char *done;
};

static void release_load(struct load_job *job) {
    release(&job->spans);
    release(&job->geometry);
    release_rows(&job->rows);
    PyMem_Free(job->samples);
    PyMem_Free(job->done);
}

static int hold_spans(struct load_job *job, PyObject *spans, PyObject *geometry) {
    if (PyObject_GetBuffer(spans, &job->spans, PyBUF_SIMPLE) != 0 ||
        PyObject_GetBuffer(geometry, &job->geometry, PyBUF_SIMPLE) != 0)
        return -1;
    job->count = job->spans.len / (Py_ssize_t)sizeof(struct span);
    if ((size_t)job->spans.len != (size_t)job->count * sizeof(struct span) ||
        (size_t)job->geometry.len != sizeof(struct geometry)) {
        PyErr_Format(PyExc_ValueError, "spans and geometry have %zd and %zd bytes", job->spans.len, job->geometry.len);
        return -1;
    }
    memcpy(&job->loading.geometry, job->geometry.buf, sizeof job->loading.geometry);
    job->samples = PyMem_Calloc((size_t)job->count + 1, sizeof *job->samples);
    job->done = PyMem_Calloc((size_t)job->count + 1, 1);
    if (job->samples == NULL || job->done == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Loads every sample, and sets done[i] to the outcome of sample i. Runs without the GIL. */
static void load_all(struct load_job *job) {
    for (Py_ssize_t i = 0; i < job->count; i++) {
        const struct target target = row_target(&job->rows, i);
        struct span span;
        memcpy(&span, (const char *)job->spans.buf + (size_t)i * sizeof span, sizeof span);
        job->done[i] = (char)load_sample(&job->decoder->loader, &job->loading, &span, &target, &job->samples[i]);
    }
}

/* Store a new object in a list. Returns 0, or -1 with an exception. */
static int set_item(PyObject *list, Py_ssize_t at, PyObject *item) {
    return item == NULL ? -1 : PyList_SetItem(list, at, item);
}

/* Return the tuple (done, keys, labels, bytes of all fields, seconds of reading). */
static PyObject *loaded(const struct load_job *job) {
    PyObject *keys = PyList_New(job->count), *labels = PyList_New(job->count), *result = NULL;
    long long bytes = 0;
    for (Py_ssize_t i = 0; keys != NULL && labels != NULL && i < job->count; i++) {
        const struct sample *sample = &job->samples[i];
        const int done = job->done[i] != DECLINED;
        if (set_item(keys, i, PyUnicode_FromStringAndSize(sample->key, done ? (Py_ssize_t)sample->key_size : 0)) != 0 ||
            set_item(labels, i, PyLong_FromLongLong(done ? sample->label : NO_LABEL)) != 0) {
            Py_DECREF(keys);
            Py_DECREF(labels);
            return NULL;
        }
        bytes += done ? (long long)sample->bytes : 0;
    }
    if (keys != NULL && labels != NULL)
        result = Py_BuildValue("y#OOLd", job->done, job->count, keys, labels, bytes, job->decoder->loader.read_s);
    Py_XDECREF(keys);
    Py_XDECREF(labels);
    return result;
}

static PyObject *load_job(struct load_job *job) {
    job->decoder->is_busy = 1;
    job->decoder->loader.read_s = 0;
    Py_BEGIN_ALLOW_THREADS
    load_all(job);
    Py_END_ALLOW_THREADS
    job->decoder->is_busy = 0;
    return loaded(job);
}

static PyObject *load(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *decoder, *spans, *geometry, *destination, *table, *result = NULL;
    int layout;
    unsigned long long seed, epoch;
    long long most_label, max_pixels;
    struct load_job job;
    memset(&job, 0, sizeof job);
    if (!PyArg_ParseTuple(args, "OOOKKLpOiiiOL", &decoder, &spans, &geometry, &seed, &epoch, &most_label,
                          &job.loading.is_scaled, &destination, &layout, &job.rows.target.height,
                          &job.rows.target.width, &table, &max_pixels))
        return NULL;
    job.loading.seed = seed;
    job.loading.epoch = epoch;
    job.loading.most_label = most_label;
    job.loading.max_pixels = max_pixels;
    job.decoder = idle_decoder(decoder);
    if (job.decoder != NULL && hold_spans(&job, spans, geometry) == 0 &&
        hold_rows(&job.rows, job.count, destination, table, layout) == 0)
        result = load_job(&job);
    release_load(&job);
    return result;
}

static PyObject *rewrite(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer image, note;
    if (!PyArg_ParseTuple(args, "y*y*", &image, &note))
        return NULL;
    uint8_t *out = NULL;
    size_t size = 0;
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = tiles_rewrite(image.buf, (size_t)image.len, note.buf, (size_t)note.len, &out, &size);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&image);
    PyBuffer_Release(&note);
    if (failed)
        Py_RETURN_NONE;
    PyObject *result = PyBytes_FromStringAndSize((const char *)out, (Py_ssize_t)size);
    free(out);
    return result;
}

static PyMethodDef methods[] = {
    {"decoder", new_decoder, METH_VARARGS,
     "decoder(portable) -> capsule\n\nReturn a decoder for one thread; later calls reuse its buffers."},
    {"render", render, METH_VARARGS,
     "render(decoder, images, views, destination, layout, height, width, table, max_pixels) -> bytes\n\n"
     "Render each image into its row of `destination`; each byte returned is an `enum outcome`, see kernel.h."},
    {"load", load, METH_VARARGS,
     "load(decoder, spans, geometry, seed, epoch, most_label, scaled, destination, layout, height, width, "
     "table, max_pixels) -> (done, keys, labels, bytes, seconds)\n\n"
     "Read, parse and render samples of open tars; `done` as for render, see load.h."},
    {"rewrite", rewrite, METH_VARARGS,
     "rewrite(image, note) -> bytes | None\n\n"
     "Return the JPEG as a grid of tiles, with `note` in an APP10 segment; None if the JPEG cannot be rewritten."},
    {NULL, NULL, 0, NULL},
};

static int add_facts(PyObject *module) {
    if (PyModule_AddStringConstant(module, "passes", passes_choose().name) != 0)
        return -1;
    return PyModule_AddStringConstant(module, "libjpeg_turbo", EXPANDED(LIBJPEG_TURBO_VERSION));
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, add_facts},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "Native decoding and resizing of JPEGs.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }
