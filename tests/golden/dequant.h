/* dequant.h: a GGUF file with every tensor as f32: the reference model of a quantised one. Tests only. */
#ifndef WK_TEST_DEQUANT_H
#define WK_TEST_DEQUANT_H

#include <stdbool.h>

#include "engine/base/err.h"

/* Leaves at `to` the file `from` with its metadata as they are and its tensors decoded to F32. An older result that is
 * whole is kept. Errors: as wk_store_open; E_IO: `to` cannot be written, or less than 3 GB would be left there. */
int wk_test_dequant(const char *from, const char *to, wk_err *err);

#endif
