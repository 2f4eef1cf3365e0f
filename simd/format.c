/* format.c: the format table, generated from formats.def, and the one routine each for pack, unpack,
 * decode_lane and find_nonfinite over a format's field layout. */
#include "simd/format.h"

#include "simd/quant/quant.h"
#include "simd/transpose.h"

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

/* wk_qh_pack of four rows. */
static wk_4x32 qh_pack(wk_4x32 x) {
    static const struct {
        uint32_t mask;
        uint32_t shift;
    } swap[4] = {{0x0000cccc, 14}, {0x00aa00aa, 7}, {0x0c0c0c0c, 2}, {0x22222222, 1}};
    for (int i = 0; i < 4; i++) {
        const wk_4x32 t = ((x >> swap[i].shift) ^ x) & swap[i].mask;
        x ^= t ^ (t << swap[i].shift);
    }
    return x;
}

/* A line of dwords on its way into the panel. */
static wk_line turn_in(wk_line l, int turn) {
    for (int q = 0; q < 4; q++) {
        if (turn == WK_TURN_SIGN) l.v[q] ^= 0x80808080u;
        if (turn == WK_TURN_QH) l.v[q] = qh_pack(l.v[q]);
    }
    return l;
}

static uint32_t turn_out(uint32_t v, int turn) {
    if (turn == WK_TURN_SIGN) return v ^ 0x80808080u;
    return turn == WK_TURN_QH ? wk_qh_unpack(v) : v;
}

/* Units of 4 bytes: 16 bytes of each row give 4 lines of the panel. */
static void pack_dwords(uint8_t *dst, const uint8_t *const row[WK_PANEL], const wk_field *f) {
    int i = 0;
    wk_line l[4];
    for (; i + 4 <= f->count; i += 4) {
        wk_lines_load(l, row, f->at + 4 * (size_t)i);
        for (int j = 0; j < 4; j++, dst += 4 * WK_PANEL) {
            if (f->turn) l[j] = turn_in(l[j], f->turn);
            wk_line_store(dst, &l[j]);
        }
    }
    for (; i < f->count; i++, dst += 4 * WK_PANEL) {
        wk_line_load(l, row, f->at + 4 * (size_t)i);
        l[0] = turn_in(l[0], f->turn);
        wk_line_store(dst, l);
    }
}

/* Units of 1 or 2 bytes: as many as make dwords go as lines, the rest one by one. */
static void pack_small(uint8_t *dst, const uint8_t *const row[WK_PANEL], const wk_field *f) {
    const size_t n = (size_t)f->unit * f->count;
    size_t i = 0;
    while (i + 4 <= n) {
        wk_line l[4];
        const int n_line = i + 16 <= n ? 4 : 1;
        if (n_line == 4)
            wk_lines_load(l, row, f->at + i);
        else
            wk_line_load(l, row, f->at + i);
        for (int j = 0; j < n_line; j++, i += 4, dst += 4 * WK_PANEL) {
            if (f->unit == 1)
                wk_line_store_bytes(dst, &l[j]);
            else
                wk_line_store_halves(dst, &l[j]);
        }
    }
    for (; i < n; i += f->unit) {
        for (int r = 0; r < WK_PANEL; r++, dst += f->unit) {
            dst[0] = row[r][f->at + i];
            if (f->unit == 2) dst[1] = row[r][f->at + i + 1];
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

/* One field of one block of all rows at a time: the panel is written once, from its front to its end. */
static void pack_panel(uint8_t *dst, const uint8_t *rows, size_t row_bytes, int n_row, int k,
                       int fmt) {
    static const uint8_t zero[WK_BLOCK_BYTES_MAX] = {0};
    const wk_layout *l = wk_format_layout(fmt);
    const size_t bytes = wk_formats[fmt].bytes, n_block = (size_t)k / wk_formats[fmt].block;
    const size_t run = run_of(fmt);
    const uint8_t *row[WK_PANEL];
    size_t step[WK_PANEL];
    for (int r = 0; r < WK_PANEL; r++) {
        row[r] = r < n_row ? rows + (size_t)r * row_bytes : zero;
        step[r] = r < n_row ? run * bytes : 0;
    }
    uint8_t *out = dst;
    for (size_t b = 0; b < n_block; b += run) {
        for (int i = 0; i < l->n_field; i++) {
            const wk_field f = field_of(&l->field[i], n_block - b < run ? n_block - b : run);
            if (f.unit == 4)
                pack_dwords(out, row, &f);
            else
                pack_small(out, row, &f);
            out += field_bytes(&f);
        }
        for (int r = 0; r < WK_PANEL; r++) row[r] += step[r];
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

/* First bad block; slow, and only asked when there is one. */
static int first_nonfinite(const uint8_t *row, size_t n_block, int fmt) {
    const wk_layout *l = wk_format_layout(fmt);
    for (size_t b = 0; b < n_block; b++) {
        for (int i = 0; i < l->n_field; i++) {
            const wk_field *f = &l->field[i];
            if (f->value == WK_UNIT_BITS) continue;
            if (any_nonfinite(row + b * wk_formats[fmt].bytes + f->at, f->count, f->value))
                return (int)b;
        }
    }
    return -1;
}

/* The scales of a row's blocks, `bytes` apart. */
static bool any_f16_nonfinite(const uint8_t *p, size_t n, size_t bytes) {
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++, p += bytes) {
        uint16_t h;
        memcpy(&h, p, 2);
        bad |=
            (h & 0x7c00u) + 0x0400u; /* carries into bit 15 when all bits of the exponent stand */
    }
    return bad & 0x8000u;
}

static int find_nonfinite(const uint8_t *row, int k, int fmt) {
    const wk_layout *l = wk_format_layout(fmt);
    const size_t bytes = wk_formats[fmt].bytes, n_block = (size_t)k / wk_formats[fmt].block;
    bool bad = false;
    for (int i = 0; i < l->n_field; i++) {
        const wk_field *f = &l->field[i];
        const uint8_t *p = row + f->at;
        if (f->value == WK_UNIT_BITS) continue;
        if (wk_formats[fmt].block == 1)
            bad |= any_nonfinite(p, (int)n_block, f->value);
        else if (f->value == WK_UNIT_F16 && f->count == 1)
            bad |= any_f16_nonfinite(p, n_block, bytes);
        else
            for (size_t b = 0; b < n_block; b++)
                bad |= any_nonfinite(p + b * bytes, f->count, f->value);
    }
    return bad ? first_nonfinite(row, n_block, fmt) : -1;
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
