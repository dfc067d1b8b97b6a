/* Implements guard.h. */
#include "guard.h"

static void on_error(j_common_ptr common) {
    struct guard *guard = common->client_data;
    longjmp(guard->failed, 1);
}

static void on_message(j_common_ptr common, int level) {
    if (level < 0) /* libjpeg warns about damaged data; other levels are traces */
        on_error(common);
}

static void on_output(j_common_ptr common) { (void)common; }

struct jpeg_error_mgr *guard_errors(struct guard *guard) {
    struct jpeg_error_mgr *errors = jpeg_std_error(&guard->errors);
    errors->error_exit = on_error;
    errors->emit_message = on_message;
    errors->output_message = on_output;
    return errors;
}

int guard_is_complete(const struct jpeg_decompress_struct *decoder) {
    for (int component = 0; decoder->progressive_mode && component < decoder->num_components; component++)
        for (int i = 0; i < DCTSIZE2; i++)
            if (decoder->coef_bits[component][i] != 0)
                return 0;
    return 1;
}
