/* tiny.c: models/tiny.gguf inside the library; WK_TINY_PATH comes from the build. */
#include "models/tiny.h"

#include "engine/base/attr.h"

WK_EMBED(wk_tiny_gguf, WK_TINY_PATH);
