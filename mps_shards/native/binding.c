/* The Python module mps_shards.native._kernel: functions of the kernel for objects with the buffer protocol.
 *
 * The module uses Python's limited API, so that one build works with every Python from 3.11 on. Arguments are checked
 * while the GIL is held; images are rendered without the GIL. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>
#include <stdint.h>
#include <stdio.h> /* before jpeglib.h, which needs it */
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "kernel.h"
#include "tiles.h"

#define STRING(value) #value
#define EXPANDED(value) STRING(value)

#define DECODER "mps_shards decoder"

struct decoder {
    struct kernel *kernel;
    int is_busy;
};

static void free_decoder(PyObject *capsule) {
    struct decoder *decoder = PyCapsule_GetPointer(capsule, DECODER);
    kernel_free(decoder->kernel);
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
    decoder->kernel = kernel_new();
    if (decoder->kernel == NULL) {
        PyMem_Free(decoder);
        return PyErr_NoMemory();
    }
    if (portable)
        kernel_use_portable(decoder->kernel);
    PyObject *capsule = PyCapsule_New(decoder, DECODER, free_decoder);
    if (capsule == NULL) {
        kernel_free(decoder->kernel);
        PyMem_Free(decoder);
    }
    return capsule;
}

struct job {
    Py_buffer *images; /* one for each row; obj is NULL for rows that are not rendered */
    Py_buffer views, destination, table;
    Py_ssize_t rows, held;
    struct target target;
    size_t row_bytes;
    long long max_pixels;
    struct decoder *decoder;
};

static void release(struct job *job) {
    for (Py_ssize_t i = 0; job->images != NULL && i < job->held; i++)
        if (job->images[i].obj != NULL)
            PyBuffer_Release(&job->images[i]);
    PyMem_Free(job->images);
    if (job->views.obj != NULL)
        PyBuffer_Release(&job->views);
    if (job->destination.obj != NULL)
        PyBuffer_Release(&job->destination);
    if (job->table.obj != NULL)
        PyBuffer_Release(&job->table);
}

/* Acquire the buffer of every image; an image that is None gets an empty buffer. Returns 0, or -1 with an exception. */
static int hold_images(struct job *job, PyObject *images) {
    job->rows = PySequence_Size(images);
    if (job->rows < 0)
        return -1;
    job->images = PyMem_Calloc((size_t)job->rows + 1, sizeof *job->images);
    if (job->images == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (; job->held < job->rows; job->held++) {
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

static int check_sizes(struct job *job, int layout) {
    if (layout < LAYOUT_FLOAT_PLANES || layout > LAYOUT_BYTE_PIXELS || job->target.height < 1 ||
        job->target.width < 1) {
        PyErr_SetString(PyExc_ValueError, "the layout is unknown, or the height or width is not positive");
        return -1;
    }
    job->target.layout = (enum layout)layout;
    const size_t item = layout <= LAYOUT_FLOAT_PIXELS ? sizeof(float) : 1;
    const size_t pixels = (size_t)job->target.height * (size_t)job->target.width; /* below 2^62 */
    if (pixels > (size_t)PY_SSIZE_T_MAX / (3 * item)) {
        PyErr_SetString(PyExc_ValueError, "a row is larger than the address space");
        return -1;
    }
    job->row_bytes = 3 * item * pixels;
    if ((size_t)job->destination.len / job->row_bytes < (size_t)job->rows ||
        (uintptr_t)job->destination.buf % item != 0) {
        PyErr_Format(PyExc_ValueError, "the destination holds %zd bytes, not %zd rows of %zd aligned bytes",
                     job->destination.len, job->rows, (Py_ssize_t)job->row_bytes);
        return -1;
    }
    if ((size_t)job->views.len != (size_t)job->rows * sizeof(struct view)) {
        PyErr_Format(PyExc_ValueError, "the views are %zd bytes, not %zd for each of %zd images", job->views.len,
                     (Py_ssize_t)sizeof(struct view), job->rows);
        return -1;
    }
    if (job->table.obj != NULL && (size_t)job->table.len != 3 * 256 * sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "the table is not float32 [3, 256]");
        return -1;
    }
    return 0;
}

/* Renders every image that is not None, and sets done[i] to the outcome of image i. Runs without the GIL. */
static void render_all(const struct job *job, char *done) {
    for (Py_ssize_t i = 0; i < job->rows; i++) {
        const Py_buffer *image = &job->images[i];
        if (image->obj == NULL)
            continue;
        struct target target = job->target;
        struct view view;
        target.image = (char *)job->destination.buf + (size_t)i * job->row_bytes;
        memcpy(&view, (const char *)job->views.buf + (size_t)i * sizeof view, sizeof view);
        done[i] = kernel_render(job->decoder->kernel, image->buf, (size_t)image->len, &view, &target, job->max_pixels);
    }
}

static PyObject *render_job(struct job *job) {
    char *done = PyMem_Calloc((size_t)job->rows + 1, 1);
    if (done == NULL)
        return PyErr_NoMemory();
    job->decoder->is_busy = 1;
    Py_BEGIN_ALLOW_THREADS
    render_all(job, done);
    Py_END_ALLOW_THREADS
    job->decoder->is_busy = 0;
    PyObject *result = PyBytes_FromStringAndSize(done, job->rows);
    PyMem_Free(done);
    return result;
}

static PyObject *render(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *decoder, *images, *views, *destination, *table, *result = NULL;
    int layout, height, width;
    struct job job;
    memset(&job, 0, sizeof job);
    if (!PyArg_ParseTuple(args, "OOOOiiiOL", &decoder, &images, &views, &destination, &layout, &height, &width, &table,
                          &job.max_pixels))
        return NULL;
    job.decoder = PyCapsule_GetPointer(decoder, DECODER);
    if (job.decoder == NULL)
        return NULL;
    if (job.decoder->is_busy) { /* `is_busy` is read and written while the GIL is held */
        PyErr_SetString(PyExc_ValueError, "two threads cannot use one decoder at the same time");
        return NULL;
    }
    job.target.height = height;
    job.target.width = width;
    if (hold_images(&job, images) == 0 && PyObject_GetBuffer(views, &job.views, PyBUF_SIMPLE) == 0 &&
        PyObject_GetBuffer(destination, &job.destination, PyBUF_WRITABLE) == 0 &&
        (table == Py_None || PyObject_GetBuffer(table, &job.table, PyBUF_SIMPLE) == 0) &&
        check_sizes(&job, layout) == 0) {
        job.target.table = job.table.obj != NULL ? job.table.buf : NULL;
        result = render_job(&job);
    }
    release(&job);
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
