/* tiny.h: the built-in model: a story teller that wick trained and quantized itself (README, "The built-in model"), as
 * the bytes of a GGUF file. */
#ifndef WK_TINY_H
#define WK_TINY_H

#include <stdint.h>

extern const uint8_t wk_tiny_gguf[], wk_tiny_gguf_end[];

#endif
