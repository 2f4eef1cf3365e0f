/* format.c: the format table, generated from formats.def, and the one routine each for pack, unpack,
 * decode_lane and find_nonfinite over a format's field layout. */
#include "simd/format.h"

#include "simd/quant/quant.h"

enum {
    LANE_BYTES = 512, /* file bytes that decode_lane gathers at a time */
    RUN = 64 /* float formats: elements handled as one field, [RUN][16] being RUN times [1][16] */
};

/* Blocks that are handled at once; more than one only where a block is one unit. */
static size_t run_of(int fmt) { return wk_formats[fmt].block == 1 ? RUN : 1; }

/* A field of n such blocks. */
static wk_field field_of(const wk_field *f, size_t n) {
    wk_field r = *f;
    r.count = (uint8_t)(r.count * n);
    return r;
}

/* Position of a field inside a packed block: fields follow each other, 16 rows each. */
static size_t field_bytes(const wk_field *f) { return (size_t)f->unit * f->count * WK_PANEL; }

static uint32_t turn_in(uint32_t v, int turn) {
    if (turn == WK_TURN_SIGN) return v ^ 0x80808080u;
    return turn == WK_TURN_QH ? wk_qh_pack(v) : v;
}

static uint32_t turn_out(uint32_t v, int turn) {
    if (turn == WK_TURN_SIGN) return v ^ 0x80808080u;
    return turn == WK_TURN_QH ? wk_qh_unpack(v) : v;
}

/* One field of one block of one row into its lane: dst points at the lane's first unit. */
static void pack_field(uint8_t *dst, const uint8_t *src, const wk_field *f) {
    if (f->unit == 1) {
        for (int i = 0; i < f->count; i++) dst[i * WK_PANEL] = src[i];
    } else if (f->unit == 2) {
        for (int i = 0; i < f->count; i++) memcpy(dst + 2 * i * WK_PANEL, src + 2 * i, 2);
    } else if (f->turn == WK_TURN_NONE) {
        for (int i = 0; i < f->count; i++) memcpy(dst + 4 * i * WK_PANEL, src + 4 * i, 4);
    } else {
        for (int i = 0; i < f->count; i++) {
            uint32_t v;
            memcpy(&v, src + 4 * i, 4);
            v = turn_in(v, f->turn);
            memcpy(dst + 4 * i * WK_PANEL, &v, 4);
        }
    }
}

static void unpack_field(uint8_t *dst, const uint8_t *src, const wk_field *f) {
    if (f->unit == 1) {
        for (int i = 0; i < f->count; i++) dst[i] = src[i * WK_PANEL];
    } else if (f->unit == 2) {
        for (int i = 0; i < f->count; i++) memcpy(dst + 2 * i, src + 2 * i * WK_PANEL, 2);
    } else {
        for (int i = 0; i < f->count; i++) {
            uint32_t v;
            memcpy(&v, src + 4 * i * WK_PANEL, 4);
            v = turn_out(v, f->turn);
            memcpy(dst + 4 * i, &v, 4);
        }
    }
}

static void pack_panel(uint8_t *dst, const uint8_t *rows, size_t row_bytes, int n_row, int k,
                       int fmt) {
    static const uint8_t zero[WK_BLOCK_BYTES_MAX] = {0};
    const wk_layout *l = wk_format_layout(fmt);
    const size_t bytes = wk_formats[fmt].bytes, n_block = (size_t)k / wk_formats[fmt].block;
    const size_t run = run_of(fmt);
    uint8_t *out = dst;
    for (size_t b = 0; b < n_block; b += run) {
        for (int i = 0; i < l->n_field; i++) {
            const wk_field f = field_of(&l->field[i], n_block - b < run ? n_block - b : run);
            for (int r = 0; r < WK_PANEL; r++) {
                const uint8_t *block = r < n_row ? rows + (size_t)r * row_bytes + b * bytes : zero;
                pack_field(out + r * f.unit, block + f.at, &f);
            }
            out += field_bytes(&f);
        }
    }
    memset(out, 0, wk_panel_bytes(fmt, (size_t)k) - (size_t)(out - dst));
}

/* Blocks b0 .. b0 + n - 1 of a lane as file bytes. */
static void unpack_blocks(uint8_t *row, const uint8_t *panel, int lane, size_t b0, size_t n,
                          int fmt) {
    const wk_layout *l = wk_format_layout(fmt);
    const size_t bytes = wk_formats[fmt].bytes, run = run_of(fmt);
    const uint8_t *in = panel + b0 * WK_PANEL * bytes;
    for (size_t b = 0; b < n; b += run) {
        for (int i = 0; i < l->n_field; i++) {
            const wk_field f = field_of(&l->field[i], n - b < run ? n - b : run);
            unpack_field(row + b * bytes + f.at, in + lane * f.unit, &f);
            in += field_bytes(&f);
        }
    }
}

static void decode_lane(float *dst, const uint8_t *panel, int lane, int k, int fmt) {
    uint8_t row[LANE_BYTES];
    const wk_format *f = &wk_formats[fmt];
    const size_t n_block = (size_t)k / f->block, step = LANE_BYTES / f->bytes;
    for (size_t b = 0; b < n_block; b += step) {
        const size_t n = n_block - b < step ? n_block - b : step;
        unpack_blocks(row, panel, lane, b, n, fmt);
        f->decode(dst + b * f->block, row, (int)(n * f->block));
    }
}

/* Whether one of n consecutive units is Inf or NaN: all bits of the exponent stand. No early way out, so that
 * the loops vectorise. */
static bool any_nonfinite(const uint8_t *p, int n, int value) {
    const uint16_t exponent = value == WK_UNIT_F16 ? 0x7c00u : 0x7f80u;
    int bad = 0;
    if (value == WK_UNIT_E8M0) return *p > WK_E8M0_MAX; /* one a block */
    if (value == WK_UNIT_F32) {
        for (int i = 0; i < n; i++) {
            uint32_t u;
            memcpy(&u, p + 4 * i, 4);
            bad |= (u & 0x7f800000u) == 0x7f800000u;
        }
        return bad;
    }
    for (int i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        bad |= (h & exponent) == exponent;
    }
    return bad;
}

static int find_nonfinite(const uint8_t *row, int k, int fmt) {
    const wk_layout *l = wk_format_layout(fmt);
    const size_t bytes = wk_formats[fmt].bytes, n_block = (size_t)k / wk_formats[fmt].block;
    size_t run = run_of(fmt);
    for (size_t b = 0; b < n_block; b += run) {
        for (int i = 0; i < l->n_field; i++) {
            const wk_field f = field_of(&l->field[i], n_block - b < run ? n_block - b : run);
            if (f.value == WK_UNIT_BITS || !any_nonfinite(row + b * bytes + f.at, f.count, f.value))
                continue;
            if (run == 1) return (int)b;
            run = 1; /* it is in this run: look again, one by one */
            i--;
        }
    }
    return -1;
}

#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note)                                   \
    static void pack_##id(void *dst, const void *rows, size_t row_bytes, int n_row, int k) {       \
        pack_panel(dst, rows, row_bytes, n_row, k, WK_FMT_##id);                                   \
    }                                                                                              \
    static void unpack_##id(void *row, const void *panel, int lane, int k) {                       \
        unpack_blocks(row, panel, lane, 0, (size_t)k / (block), WK_FMT_##id);                      \
    }                                                                                              \
    static void decode_lane_##id(float *dst, const void *panel, int lane, int k) {                 \
        decode_lane(dst, panel, lane, k, WK_FMT_##id);                                             \
    }                                                                                              \
    static int find_nonfinite_##id(const void *row, int k) {                                       \
        return find_nonfinite(row, k, WK_FMT_##id);                                                \
    }                                                                                              \
    static_assert((bytes) <= WK_BLOCK_BYTES_MAX, "a zero block stands for missing rows");
#include "simd/formats.def"
#undef WK_FORMAT

/* Formats without a plain encoder yet. */
#define wk_encode_Q2_K NULL
#define wk_encode_Q3_K NULL
#define wk_encode_Q4_K NULL
#define wk_encode_Q5_K NULL
#define wk_encode_Q6_K NULL
#define wk_encode_IQ4_NL NULL
#define wk_encode_IQ4_XS NULL
#define wk_encode_IQ2_XXS NULL
#define wk_encode_IQ2_XS NULL
#define wk_encode_IQ2_S NULL
#define wk_encode_IQ3_XXS NULL
#define wk_encode_IQ3_S NULL
#define wk_encode_TQ1_0 NULL
#define wk_encode_TQ2_0 NULL

#define WK_FORMAT(id, gguf_, block_, bytes_, type, kind_, act_, note_)                             \
    [WK_FMT_##id] = {.name = #id,                                                                  \
                     .note = note_,                                                                \
                     .gguf = gguf_,                                                                \
                     .block = block_,                                                              \
                     .bytes = bytes_,                                                              \
                     .kind = WK_KIND_##kind_,                                                      \
                     .act = WK_X_##act_,                                                           \
                     .decode = wk_decode_##id,                                                     \
                     .pack = pack_##id,                                                            \
                     .unpack = unpack_##id,                                                        \
                     .decode_lane = decode_lane_##id,                                              \
                     .find_nonfinite = find_nonfinite_##id,                                        \
                     .encode = wk_encode_##id},
const wk_format wk_formats[WK_FMT_COUNT] = {
#include "simd/formats.def"
};
#undef WK_FORMAT

#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note) [WK_FMT_##id] = &wk_layout_##id,
static const wk_layout *const layouts[WK_FMT_COUNT] = {
#include "simd/formats.def"
};
#undef WK_FORMAT

const wk_layout *wk_format_layout(int fmt) { return layouts[fmt]; }

int wk_format_of_gguf(uint32_t gguf) {
    for (int f = 0; f < WK_FMT_COUNT; f++) {
        if (wk_formats[f].gguf == gguf) return f;
    }
    return -1;
}

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

int wk_format_of_name(const char *name) {
    for (int f = 0; f < WK_FMT_COUNT; f++) {
        size_t i = 0;
        while (name[i] && upper(name[i]) == wk_formats[f].name[i]) i++;
        if (!name[i] && !wk_formats[f].name[i]) return f;
    }
    return -1;
}
