/* format.h: storage formats: block types, the format table, panel sizes.
 *
 * A matrix [n_row][k] is stored row by row in the file and packed into panels of 16 rows:
 *   panel p of a packed matrix holds rows 16p .. 16p+15 and lies at p * wk_panel_bytes(fmt, k);
 *   inside it the blocks ascend over k, block b lies at b * 16 * block_bytes;
 *   a packed block is the 16 file blocks permuted field by field, nothing else:
 *     f16 d, dmin, m      [16] halves
 *     byte planes         [n][16] bytes          scales of the K-quants: plane p holds byte p of 16 rows
 *     code bytes (W4)     [n/4][16][4] bytes     dword g of row r: bytes 4g .. 4g+3 of the file's field
 *   The nibble pairing of the file stays (k and k+16, or k and k+32, share a byte). Field orders:
 *     Q4_0 IQ4_NL  d, qs            Q4_1  d, m, qs
 *     Q5_0         d, qh, qs        Q5_1  d, m, qh, qs     qh dword bit-transposed: byte b, bit j = fifth
 *                                                          bit of k = 4j + b (file: bit k of the dword)
 *     Q8_0         d, qs ^ 0x80
 *     Q4_K         d, dmin, scales planes 12, qs           Q5_K  d, dmin, scales planes 12, qh, qs
 *     Q6_K         d, scales planes 16, qh, ql             Q3_K  d, scales planes 12, hmask, qs
 *     Q2_K         d, dmin, scales planes 16, qs           IQ4_XS  d, scales_h [16] u16, scales_l planes 4, qs
 *     MXFP4        e planes 1, qs
 *     TQ1_0        d, qs, qh                       TQ2_0  d, qs
 *     IQ2_* IQ3_*  the file's fields in their order, d and then dwords: file byte `at` of a block lies at
 *                  16 * at (simd/quant/iq.h)
 *     F32 F16 BF16 [k][16]
 *   Rows beyond n_row are packed as if the file held zero bytes. A panel is padded to 64 bytes.
 * Source of the block formats: ggml's public block layouts (ggml-common.h). */
#ifndef WK_FORMAT_H
#define WK_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/half.h"

enum { WK_PANEL = 16 }; /* rows of a panel */

typedef struct { wk_f16 d; uint8_t qs[16]; } wk_block_q4_0;
typedef struct { wk_f16 d, m; uint8_t qs[16]; } wk_block_q4_1;
typedef struct { wk_f16 d; uint8_t qh[4]; uint8_t qs[16]; } wk_block_q5_0;
typedef struct { wk_f16 d, m; uint8_t qh[4]; uint8_t qs[16]; } wk_block_q5_1;
typedef struct { wk_f16 d; int8_t qs[32]; } wk_block_q8_0;
typedef struct { uint8_t scales[16]; uint8_t qs[64]; wk_f16 d, dmin; } wk_block_q2_k;
typedef struct { uint8_t hmask[32]; uint8_t qs[64]; uint8_t scales[12]; wk_f16 d; } wk_block_q3_k;
typedef struct { wk_f16 d, dmin; uint8_t scales[12]; uint8_t qs[128]; } wk_block_q4_k;
typedef struct { wk_f16 d, dmin; uint8_t scales[12]; uint8_t qh[32]; uint8_t qs[128]; } wk_block_q5_k;
typedef struct { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; wk_f16 d; } wk_block_q6_k;
typedef struct { wk_f16 d; uint8_t qs[16]; } wk_block_iq4_nl;
typedef struct { wk_f16 d; uint16_t scales_h; uint8_t scales_l[4]; uint8_t qs[128]; } wk_block_iq4_xs;
typedef struct { wk_f16 d; uint8_t qs[64]; } wk_block_iq2_xxs;
typedef struct { wk_f16 d; uint8_t qs[64]; uint8_t scales[8]; } wk_block_iq2_xs;
typedef struct { wk_f16 d; uint8_t qs[32], signs[32], qh[8], scales[8]; } wk_block_iq2_s;
typedef struct { wk_f16 d; uint8_t qs[64], signs[32]; } wk_block_iq3_xxs;
typedef struct { wk_f16 d; uint8_t qs[64], qh[8], signs[32], scales[4]; } wk_block_iq3_s;
typedef struct { uint8_t qs[48], qh[4]; wk_f16 d; } wk_block_tq1_0;
typedef struct { uint8_t qs[64]; wk_f16 d; } wk_block_tq2_0;
typedef struct { uint8_t e; uint8_t qs[16]; } wk_block_mxfp4;

typedef enum wk_fmt {
#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note) WK_FMT_##id,
#include "simd/formats.def"
#undef WK_FORMAT
    WK_FMT_COUNT
} wk_fmt;

/* How a dot product is summed (one kernel per kind), and what the activation must be. */
typedef enum wk_kind {
    WK_KIND_F, WK_KIND_B32, WK_KIND_B32M, WK_KIND_S32, WK_KIND_S32M, WK_KIND_S16, WK_KIND_W256,
    WK_KIND_W256M, WK_KIND_COUNT
} wk_kind;
typedef enum wk_x { WK_X_F32, WK_X_A32, WK_X_A256, WK_X_COUNT } wk_x;

/* Types of the KV cache; a page is written down in simd/kernels.h. */
typedef enum wk_kv { WK_KV_F16, WK_KV_F32, WK_KV_BF16, WK_KV_Q8_0, WK_KV_TYPE_COUNT } wk_kv;

#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note)                                   \
    static_assert(sizeof(type) == (bytes), "block size of " #id);
#include "simd/formats.def"
#undef WK_FORMAT

typedef struct wk_format {
    const char *name, *note;
    uint32_t gguf;         /* ggml type id */
    uint16_t block, bytes; /* elements and bytes of a block */
    uint8_t kind, act;
    /* k elements of one file row as f32: s*code, with mins fma(s, code, c*m). k % block == 0. */
    void (*decode)(float *dst, const void *row, int k);
    /* One panel from n_row (1..16) file rows that lie row_bytes apart. dst: wk_panel_bytes, all written. */
    void (*pack)(void *dst, const void *rows, size_t row_bytes, int n_row, int k);
    /* Row `lane` of a panel back as file bytes, and straight as f32 (embedding rows). */
    void (*unpack)(void *row, const void *panel, int lane, int k);
    void (*decode_lane)(float *dst, const void *panel, int lane, int k);
    /* First block of a file row that holds a non-finite scale or value, or -1. */
    int (*find_nonfinite)(const void *row, int k);
    /* k f32 values to one file row, nearest by the format's plain rule; NULL where not written yet. */
    void (*encode)(void *row, const float *x, int k);
} wk_format;

extern const wk_format wk_formats[WK_FMT_COUNT];

/* Format of a ggml type id, or -1. */
int wk_format_of_gguf(uint32_t gguf);
/* Format of a name ("Q4_K", any case), or -1. */
int wk_format_of_name(const char *name);

/* k % block == 0 has been checked by the caller; k <= 2^31. */
static inline size_t wk_row_bytes(int fmt, size_t k) {
    return k / wk_formats[fmt].block * wk_formats[fmt].bytes;
}
static inline size_t wk_panel_bytes(int fmt, size_t k) {
    return (wk_row_bytes(fmt, k) * WK_PANEL + 63) & ~(size_t)63;
}

#endif
