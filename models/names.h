/* names.h: the names tables of names.c, shared by the descriptions. */
#ifndef WK_NAMES_H
#define WK_NAMES_H

#include "models/arch.h"

extern const wk_name wk_names_llama[]; /* GGUF q and k rows are rotated */
extern const wk_name wk_names_qwen3[]; /* qwen2 too: the same names, rows as they are; q and k norms */
extern const wk_name wk_names_gemma[]; /* norms before and after; HF files store w - 1 */

#endif
