/* test_plan.c: the plans of the tiny models against their golden text, and every refusal of dims.c, bind.c and
 * plan.c. WK_GOLDEN_UPDATE=1 writes the golden texts anew: then read the difference. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/arena.h"
#include "engine/base/attr.h"
#include "engine/base/log.h"
#include "engine/graph/dims.h"
#include "models/arch.h"
#include "tests/unit/nano.h"
#include "tests/unit/unit.h"

static const char *const tiny[] = {"llama", "qwen2", "qwen3", "gemma3"};

static wk_plan *plan_of(const wk_store *s, bool ungrouped) {
    const wk_plan_options o = {.max_tok = 16, .max_out = 4, .ungrouped = ungrouped};
    wk_plan *p = NULL;
    wk_err err = {0};
    if (wk_plan_build(&p, s, &o, &err)) fail_msg("%s", err.message);
    return p;
}

/* ---- golden text -------------------------------------------------------------------------------- */

static void write_file(const char *path, const wk_buf *b) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b->p, 1, b->n, f), b->n);
    assert_int_equal(fclose(f), 0);
}

/* The line in which two texts part. */
static void show_difference(const char *path, const char *want, const char *have) {
    int line = 1;
    size_t i = 0, start = 0;
    while (want[i] && want[i] == have[i]) {
        if (want[i++] == '\n') {
            line++;
            start = i;
        }
    }
    fail_msg("%s:%d:\n want %.*s\n have %.*s", path, line, (int)strcspn(want + start, "\n"),
             want + start, (int)strcspn(have + start, "\n"), have + start);
}

static void test_golden_text(void **state) {
    (void)state;
    for (size_t i = 0; i < WK_COUNT(tiny); i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "tests/golden/plan/%s.txt", tiny[i]);
        wk_store *s = nano_open_tiny(tiny[i]);
        wk_plan *p = plan_of(s, false);
        wk_buf have, want;
        wk_buf_init(&have, 0);
        wk_buf_init(&want, 0);
        wk_plan_dump(p, &have);
        assert_false(have.failed);
        if (getenv("WK_GOLDEN_UPDATE")) write_file(path, &have);
        nano_read_file(&want, path);
        if (!wk_str_eq(wk_buf_str(&have), wk_buf_str(&want))) show_difference(path, want.p, have.p);
        wk_buf_fini(&have);
        wk_buf_fini(&want);
        wk_plan_free(p);
        wk_store_close(s);
    }
}

/* Every architecture of the list has a tiny model, and so a golden plan and golden logits. */
static void test_every_arch_is_here(void **state) {
    (void)state;
    size_t n = 0;
    for (; wk_archs[n]; n++) {
        bool found = false;
        for (size_t i = 0; i < WK_COUNT(tiny); i++)
            found |= strcmp(tiny[i], wk_archs[n]->name) == 0;
        if (!found) fail_msg("no tiny model for %s", wk_archs[n]->name);
        assert_ptr_equal(wk_arch_find(wk_archs[n]->name, strlen(wk_archs[n]->name)), wk_archs[n]);
    }
    assert_int_equal(n, WK_COUNT(tiny));
    assert_null(wk_arch_find("llam", 4));
    assert_null(wk_arch_find("llama2", 6));
    assert_null(wk_arch_find("", 0));
}

static void check_same_step(const wk_step *a, const wk_step *b) {
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->layer, b->layer);
    assert_int_equal(a->dst, b->dst);
    for (int j = 0; j < 3; j++) assert_int_equal(a->src[j], b->src[j]);
    for (int j = 0; j < 2; j++) assert_int_equal(a->w[j], b->w[j]);
}

static void test_stage_counts(void **state) {
    (void)state;
    for (size_t i = 0; i < WK_COUNT(tiny); i++) {
        wk_store *s = nano_open_tiny(tiny[i]);
        wk_plan *p = plan_of(s, false), *alone = plan_of(s, true);
        assert_int_equal(p->n_stage, 5 * p->n_layer + 1);
        assert_int_equal(alone->n_stage, alone->n_step);
        assert_int_equal(alone->n_step, p->n_step);
        for (int32_t k = 0; k < p->n_step; k++) check_same_step(&p->step[k], &alone->step[k]);
        wk_plan_free(alone);
        wk_plan_free(p);
        wk_store_close(s);
    }
}

/* Values are written once and read later. */
static void test_written_once(void **state) {
    (void)state;
    for (size_t i = 0; i < WK_COUNT(tiny); i++) {
        wk_store *s = nano_open_tiny(tiny[i]);
        wk_plan *p = plan_of(s, false);
        int32_t next = 0;
        for (int32_t k = 0; k < p->n_step; k++) {
            for (int j = 0; j < 3; j++) assert_true(p->step[k].src[j] < next);
            if (p->step[k].dst < 0) continue;
            assert_int_equal(p->step[k].dst, next);
            assert_int_equal(p->val[next++].def, k);
        }
        assert_int_equal(next, p->n_val);
        assert_int_equal(p->logits, p->n_val - 1);
        wk_plan_free(p);
        wk_store_close(s);
    }
}

/* ---- refusals ----------------------------------------------------------------------------------- */

/* clang-format off */
#define U32(k, v) {.key = "llama." k, .type = NANO_U32, .u = (v)}
#define F32(k, v) {.key = "llama." k, .type = NANO_F32, .f = (v)}
#define TEXT(k, v) {.key = k, .type = NANO_STR, .s = v}

typedef struct refusal {
    const char *what;
    int code;
    const char *part; /* of the message */
    nano_edit edit;
} refusal;

static const refusal refusals[] = {
    {"no architecture", WICK_E_FORMAT, "general.architecture is missing",
     {.drop = "general.architecture"}},
    {"other architecture", WICK_E_ARCH,
     "architecture \"mamba\\x1b\" is not known, known are llama, qwen2, qwen3, gemma3",
     {.key = {TEXT("general.architecture", "mamba\x1b")}}},
    {"architecture a number", WICK_E_FORMAT, "general.architecture",
     {.key = {{.key = "general.architecture", .type = NANO_U32, .u = 1}}}},
    {"no layers key", WICK_E_FORMAT, "llama.block_count is missing, llama needs it",
     {.drop = "llama.block_count"}},
    {"no layers", WICK_E_FORMAT, "llama.block_count is u32 0", {.key = {U32("block_count", 0)}}},
    {"more layers than tensors", WICK_E_FORMAT,
     "block_count is 21, but the file has only 20 tensors",
     {.key = {U32("block_count", 21)}}},
    {"a layer too many", WICK_E_FORMAT,
     "blk.2.attn_norm.weight is missing, llama wants [8] (dim 8)",
     {.key = {U32("block_count", 3)}}},
    {"too many layers", WICK_E_FORMAT, "llama.block_count",
     {.key = {U32("block_count", 4294967295u)}}},
    {"no context", WICK_E_FORMAT, "llama.context_length is missing",
     {.drop = "llama.context_length"}},
    {"context of 2^31", WICK_E_FORMAT, "llama.context_length",
     {.key = {U32("context_length", 2147483648u)}}},
    {"no dim", WICK_E_FORMAT, "llama.embedding_length is missing",
     {.drop = "llama.embedding_length"}},
    {"dim 0", WICK_E_FORMAT, "llama.embedding_length", {.key = {U32("embedding_length", 0)}}},
    {"dim a float", WICK_E_FORMAT, "llama.embedding_length is f32 8",
     {.key = {F32("embedding_length", 8)}}},
    {"dim a string", WICK_E_FORMAT, "llama.embedding_length",
     {.key = {TEXT("llama.embedding_length", "8")}}},
    {"dim 16", WICK_E_SHAPE, "token_embd.weight is [5,8], llama wants [5,16] (5 tokens, dim 16)",
     {.key = {U32("embedding_length", 16)}}},
    {"no ffn", WICK_E_FORMAT, "llama.feed_forward_length is missing",
     {.drop = "llama.feed_forward_length"}},
    {"ffn 13", WICK_E_SHAPE, "blk.0.ffn_gate.weight is [12,8], llama wants [13,8] (ffn 13, dim 8)",
     {.key = {U32("feed_forward_length", 13)}}},
    {"ffn differs", WICK_E_UNSUPPORTED,
     "llama.feed_forward_length differs between layers (12 in layer 0, 16 in layer 1)",
     {.key = {{.key = "llama.feed_forward_length", .type = NANO_ARRAY, .array = {12, 16},
               .n = 2}}}},
    {"ffn array empty", WICK_E_FORMAT, "llama.feed_forward_length is an array of 0",
     {.key = {{.key = "llama.feed_forward_length", .type = NANO_ARRAY}}}},
    {"ffn array of 0", WICK_E_FORMAT, "llama.feed_forward_length is 0",
     {.key = {{.key = "llama.feed_forward_length", .type = NANO_ARRAY, .n = 2}}}},
    {"ffn strings", WICK_E_FORMAT, "llama.feed_forward_length is an array of 2 strings",
     {.key = {{.key = "llama.feed_forward_length", .type = NANO_STRINGS, .n = 2}}}},
    {"no heads", WICK_E_FORMAT, "llama.attention.head_count is missing",
     {.drop = "llama.attention.head_count"}},
    {"heads 0", WICK_E_FORMAT, "llama.attention.head_count",
     {.key = {U32("attention.head_count", 0)}}},
    {"3 heads", WICK_E_FORMAT, "embedding_length 8 is not a multiple of head_count 3",
     {.key = {U32("attention.head_count", 3)}}},
    {"8 heads of 1", WICK_E_FORMAT, "is not a multiple of head_count",
     {.key = {U32("attention.head_count", 8)}}},
    {"3 kv heads", WICK_E_FORMAT, "head_count 2 is not a multiple of head_count_kv 3",
     {.key = {U32("attention.head_count_kv", 3)}}},
    {"kv heads as many", WICK_E_SHAPE,
     "blk.0.attn_k.weight is [4,8], llama wants [8,8] (2 kv heads x 4, dim 8)",
     {.drop = "llama.attention.head_count_kv"}},
    {"head_dim 6", WICK_E_SHAPE,
     "blk.0.attn_q.weight is [8,8], llama wants [12,8] (2 heads x 6, dim 8)",
     {.key = {U32("attention.key_length", 6)}}},
    {"value length", WICK_E_UNSUPPORTED, "attention.value_length 6 differs from key_length 4",
     {.key = {U32("attention.value_length", 6)}}},
    {"rope over 3", WICK_E_FORMAT, "rope.dimension_count is 3, wanted an even number",
     {.key = {U32("rope.dimension_count", 3)}}},
    {"rope over 6", WICK_E_FORMAT, "rope.dimension_count is 6",
     {.key = {U32("rope.dimension_count", 6)}}},
    {"rotated partial rope", WICK_E_UNSUPPORTED,
     "blk.0.attn_q.weight has rotated rows and a rope over 2 of 4",
     {.key = {U32("rope.dimension_count", 2)}}},
    {"no eps", WICK_E_FORMAT, "layer_norm_rms_epsilon is missing",
     {.drop = "llama.attention.layer_norm_rms_epsilon"}},
    {"eps 0", WICK_E_FORMAT, "layer_norm_rms_epsilon",
     {.key = {F32("attention.layer_norm_rms_epsilon", 0)}}},
    {"rope base 0", WICK_E_FORMAT, "llama.rope.freq_base", {.key = {F32("rope.freq_base", 0)}}},
    {"scaling unknown", WICK_E_UNSUPPORTED,
     "llama.rope.scaling.type is \"longrope\", supported are none, linear and yarn",
     {.key = {TEXT("llama.rope.scaling.type", "longrope")}}},
    {"scaling without factor", WICK_E_FORMAT,
     "llama.rope.scaling.factor is missing, linear scaling needs it",
     {.key = {TEXT("llama.rope.scaling.type", "linear")}}},
    {"scaling factor 0", WICK_E_FORMAT, "llama.rope.scaling.factor",
     {.key = {F32("rope.scaling.factor", 0)}}},
    {"yarn without context", WICK_E_FORMAT,
     "original_context_length is missing, yarn scaling needs it",
     {.key = {TEXT("llama.rope.scaling.type", "yarn"), F32("rope.scaling.factor", 4)}}},
    {"yarn with more", WICK_E_UNSUPPORTED, "yarn_log_multiplier is not supported",
     {.key = {TEXT("llama.rope.scaling.type", "yarn"), F32("rope.scaling.factor", 4),
              F32("rope.scaling.yarn_log_multiplier", 0.1f)}}},
    {"yarn base 1", WICK_E_FORMAT, "yarn scaling needs a rope base above 1",
     {.key = {TEXT("llama.rope.scaling.type", "yarn"), F32("rope.scaling.factor", 4),
              U32("rope.scaling.original_context_length", 16), F32("rope.freq_base", 1)}}},
    {"vocabulary", WICK_E_SHAPE,
     "tokenizer.ggml.tokens has 6 entries, token_embd.weight has 5 rows",
     {.key = {{.key = "tokenizer.ggml.tokens", .type = NANO_STRINGS, .n = 6}}}},
    {"vocabulary a number", WICK_E_FORMAT, "tokenizer.ggml.tokens",
     {.key = {{.key = "tokenizer.ggml.tokens", .type = NANO_U32, .u = 5}}}},
    {"no embedding", WICK_E_FORMAT, "token_embd.weight is missing", {.drop = "token_embd.weight"}},
    {"no norm", WICK_E_FORMAT, "output_norm.weight is missing, llama wants [8] (dim 8)",
     {.drop = "output_norm.weight"}},
    {"no q", WICK_E_FORMAT,
     "blk.1.attn_q.weight is missing, llama wants [8,8] (2 heads x 4, dim 8)",
     {.drop = "blk.1.attn_q.weight"}},
    {"no down", WICK_E_FORMAT,
     "blk.0.ffn_down.weight is missing, llama wants [8,12] (dim 8, ffn 12)",
     {.drop = "blk.0.ffn_down.weight"}},
    {"q transposed", WICK_E_SHAPE,
     "blk.1.ffn_up.weight is [8,12], llama wants [12,8] (ffn 12, dim 8)",
     {.tensor = {{"blk.1.ffn_up.weight", {12, 8}, 0, 0}}}},
    {"norm as a matrix", WICK_E_SHAPE, "blk.1.ffn_norm.weight is [2,8], llama wants [8] (dim 8)",
     {.tensor = {{"blk.1.ffn_norm.weight", {8, 2}, 0, 0}}}},
    {"output of other size", WICK_E_SHAPE,
     "output.weight is [6,8], llama wants [5,8] (5 tokens, dim 8)",
     {.tensor = {{"output.weight", {8, 6}, 0, 0}}}},
    {"rotated bias", WICK_E_UNSUPPORTED,
     "blk.0.attn_q.bias: a bias on rotated rows is not supported",
     {.tensor = {{"blk.0.attn_q.bias", {8, 0}, 0, 0}}}},
    {"rope factors 0", WICK_E_FORMAT, "rope_freqs.weight holds 0 at index 0",
     {.tensor = {{"rope_freqs.weight", {2, 0}, 0, 0}}}},
    {"rope factors too many", WICK_E_SHAPE,
     "rope_freqs.weight is [3], llama wants [2] (rope over 4)",
     {.tensor = {{"rope_freqs.weight", {3, 0}, 0, 1}}}},
};
/* clang-format on */

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < WK_COUNT(refusals); i++) {
        const refusal *r = &refusals[i];
        wk_buf b;
        wk_plan *p = NULL;
        wk_store *s = NULL;
        wk_err err = {0};
        wk_buf_init(&b, 0);
        nano_build(&b, &r->edit);
        const int rc = nano_plan(&p, &s, &b, &err);
        if (rc != r->code || err.code != r->code || !strstr(err.message, r->part) ||
            strncmp(err.message, "nano.gguf: ", 11) != 0)
            fail_msg("%s: code %d, wanted %d; message: %s", r->what, rc, r->code, err.message);
        assert_null(p);
        wk_buf_fini(&b);
    }
}

/* What stands close to a refusal and must load. */
static void test_accepted(void **state) {
    (void)state;
    static const nano_edit good[] = {
        {0},
        {.drop = "tokenizer.ggml.tokens"},
        {.key =
             {{.key = "llama.feed_forward_length", .type = NANO_ARRAY, .array = {12, 12}, .n = 2}}},
        {.key = {U32("rope.dimension_count", 4), U32("attention.key_length", 4),
                 U32("attention.value_length", 4)}},
        {.key = {TEXT("llama.rope.scaling.type", "none")}},
        {.key = {U32("context_length", 16777216)}},
        {.tensor = {{"output.weight", {8, 5}, 0, 0}}},
        {.tensor = {{"blk.0.attn_v.bias", {4, 0}, 0, 0}}},
        {.tensor = {{"rope_freqs.weight", {2, 0}, 0, 2}}},
    };
    for (size_t i = 0; i < WK_COUNT(good); i++) {
        wk_buf b;
        wk_plan *p = NULL;
        wk_store *s = NULL;
        wk_err err = {0};
        wk_buf_init(&b, 0);
        nano_build(&b, &good[i]);
        char path[64]; /* seeds of the fuzz target, which replays what is committed */
        (void)snprintf(path, sizeof(path), "tests/fuzz/corpus/plan/nano_%zu.gguf", i);
        if (getenv("WK_GOLDEN_UPDATE")) write_file(path, &b);
        if (nano_plan(&p, &s, &b, &err)) fail_msg("%zu: %s", i, err.message);
        assert_int_equal(p->n_stage, 11);
        wk_plan_free(p);
        wk_store_close(s);
        wk_buf_fini(&b);
    }
}

/* A tiny file with one name changed. */
static void refuse_tiny(const char *arch, const char *old, const char *name, int code,
                        const char *part) {
    char path[64];
    wk_buf b;
    wk_store *s = NULL;
    wk_plan *p = NULL;
    wk_err err = {0};
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", arch);
    wk_buf_init(&b, 0);
    nano_read_file(&b, path);
    nano_rename(&b, old, name);
    const int rc = nano_plan(&p, &s, &b, &err);
    if (rc != code || !strstr(err.message, part))
        fail_msg("%s: code %d: %s", name, rc, err.message);
    wk_buf_fini(&b);
}

static void test_refusals_of_others(void **state) {
    (void)state;
    refuse_tiny("qwen3", "blk.1.attn_k_norm", "blk.1.attn_k_nerm", WICK_E_FORMAT,
                "blk.1.attn_k_norm.weight is missing, qwen3 wants [32] (head_dim 32)");
    refuse_tiny("gemma3", "gemma3.attention.scale", "gemma3.attention.scalp", WICK_E_UNSUPPORTED,
                "gemma3.attention.scale is missing and no gemma3 of 7 layers and dim 32 is known");
    refuse_tiny("gemma3", "attention.sliding_window", "attention.sliding_widnow", WICK_E_FORMAT,
                "gemma3.attention.sliding_window is missing, gemma3 needs it");
    refuse_tiny("gemma3", "gemma3.rope.freq_base", "gemma3.rope.freq_cave", WICK_E_FORMAT,
                "gemma3.rope.freq_base is missing");
    refuse_tiny("gemma3", "blk.3.post_ffw_norm", "blk.3.post_ffw_nerm", WICK_E_FORMAT,
                "blk.3.post_ffw_norm.weight is missing");
    refuse_tiny("gemma3", "gemma3.attention.head_count_kv", "gemma3.attention.sliding_wind_",
                WICK_E_SHAPE,
                "blk.0.attn_k.weight is [16,32], gemma3 wants [64,32] (4 kv heads x 16, dim 32)");
}

/* Which layers slide is part of the description; a file that says otherwise is another model. */
static void test_window_pattern(void **state) {
    (void)state;
#define PATTERN .key = "llama.attention.sliding_window_pattern"
    const nano_key window = U32("attention.sliding_window", 8);
    const struct {
        nano_key key;
        const char *part;
    } rows[] = {
        /* agrees: then the tensors of a llama are what is refused */
        {{PATTERN, .type = NANO_U32, .u = 6}, "blk.0.attn_q_norm.weight is missing"},
        {{PATTERN, .type = NANO_ARRAY, .array = {1, 1}, .n = 2}, "blk.0.attn_q_norm.weight is missing"},
        {{PATTERN, .type = NANO_U32, .u = 2}, "sliding_window_pattern gives layer 1 no window"},
        {{PATTERN, .type = NANO_U32, .u = 1}, "sliding_window_pattern gives layer 0 no window"},
        {{PATTERN, .type = NANO_ARRAY, .array = {1, 0}, .n = 2}, "pattern gives layer 1 no window"},
        {{PATTERN, .type = NANO_ARRAY, .array = {1, 1, 1}, .n = 3}, "has 3 entries, wanted a bool"},
        {{PATTERN, .type = NANO_STRINGS, .n = 2}, "has 2 entries, wanted a bool"},
        {{PATTERN, .type = NANO_STR, .s = "6"}, "gemma3.attention.sliding_window_pattern is string"},
    };
#undef PATTERN
    for (size_t i = 0; i < WK_COUNT(rows); i++) {
        const nano_edit e = {.arch = "gemma3", .key = {window, rows[i].key}};
        wk_buf b;
        wk_plan *p = NULL;
        wk_store *s = NULL;
        wk_err err = {0};
        wk_buf_init(&b, 0);
        nano_build(&b, &e);
        assert_int_not_equal(nano_plan(&p, &s, &b, &err), WICK_OK);
        if (!strstr(err.message, rows[i].part)) fail_msg("%zu: %s", i, err.message);
        wk_buf_fini(&b);
    }
}

/* Gemma 27B takes another attention scale than its smaller sisters, and no file says so. */
static void test_scale_by_size(void **state) {
    (void)state;
    wk_dims d = {.n_layer = 62, .dim = 5376, .n_head = 32, .head_dim = 128};
    const wk_arch *a = wk_arch_find("gemma3", 6);
    double scale = 0.0;
    assert_int_equal(wk_dims_number(&scale, &d, a, &a->attn_scale, 0.0, NULL), WICK_OK);
    assert_true(scale * scale * 168.0 > 0.9999999 && scale * scale * 168.0 < 1.0000001);
    d.n_layer = 48;
    assert_int_equal(wk_dims_number(&scale, &d, a, &a->attn_scale, 0.0, NULL), WICK_E_UNSUPPORTED);
    d.dim = 3840;
    assert_int_equal(wk_dims_number(&scale, &d, a, &a->attn_scale, 0.0, NULL), WICK_OK);
    assert_true(scale * scale * 128.0 > 0.9999999 && scale * scale * 128.0 < 1.0000001);
}

static void test_options(void **state) {
    (void)state;
    wk_store *s = nano_open_tiny("llama");
    static const wk_plan_options bad[] = {{.max_tok = 0, .max_out = 1},
                                          {.max_tok = 4, .max_out = 5},
                                          {.max_tok = 4, .max_out = 0},
                                          {.max_tok = 2147483647, .max_out = 1}};
    for (size_t i = 0; i < WK_COUNT(bad); i++) {
        wk_plan *p = NULL;
        assert_int_equal(wk_plan_build(&p, s, &bad[i], NULL), WICK_E_ARG);
        assert_null(p);
    }
    wk_store_close(s);
}

/* ---- warnings, memory --------------------------------------------------------------------------- */

static void keep_line(void *ud, int level, const char *text, size_t len) {
    wk_buf *b = ud;
    assert_int_equal(level, WK_LOG_WARN);
    (void)wk_buf_add(b, text, len);
    (void)wk_buf_addc(b, '\n');
}

static void test_unclaimed_is_said(void **state) {
    (void)state;
    static const nano_edit e = {
        .tensor = {{"blk.0.attn_q_norm.weight", {4, 0}, 0, 0}, {"vision.x", {4, 2}, 0, 0}}};
    wk_buf b, log;
    wk_plan *p = NULL;
    wk_store *s = NULL;
    wk_err err = {0};
    wk_buf_init(&b, 0);
    wk_buf_init(&log, 0);
    nano_build(&b, &e);
    wk_log_set(keep_line, &log, WK_LOG_WARN);
    assert_int_equal(nano_plan(&p, &s, &b, &err), WICK_OK);
    wk_log_set(NULL, NULL, WK_LOG_WARN);
    assert_string_equal(
        log.p,
        "nano.gguf: 2 of 22 tensors are not used by llama: blk.0.attn_q_norm.weight, vision.x\n");
    wk_plan_free(p);
    wk_store_close(s);
    wk_buf_fini(&b);
    wk_buf_fini(&log);
}

static void test_claimed_is_silent(void **state) {
    (void)state;
    wk_buf log;
    wk_buf_init(&log, 0);
    wk_log_set(keep_line, &log, WK_LOG_WARN);
    for (size_t i = 0; i < WK_COUNT(tiny); i++) {
        wk_store *s = nano_open_tiny(tiny[i]);
        wk_plan_free(plan_of(s, false));
        wk_store_close(s);
    }
    wk_log_set(NULL, NULL, WK_LOG_WARN);
    assert_int_equal(log.n, 0);
    wk_buf_fini(&log);
}

static void test_no_memory(void **state) {
    (void)state;
    wk_store *s = nano_open_tiny("gemma3");
    const wk_plan_options o = {.max_tok = 4, .max_out = 2};
    uint64_t n = 1;
    for (;; n++) {
        wk_plan *p = NULL;
        wk_err err = {0};
        wk_alloc_fail_at(n, false);
        const int rc = wk_plan_build(&p, s, &o, &err);
        wk_alloc_fail_at(0, false);
        if (rc == WICK_OK) {
            wk_plan_free(p);
            break;
        }
        assert_int_equal(rc, WICK_E_NOMEM);
        assert_null(p);
        assert_true(strlen(err.message) > 8);
    }
    assert_in_range(n, 50, 200); /* one a weight name, and the tables */
    wk_store_close(s);
}

/* ---- numbers ------------------------------------------------------------------------------------ */

static wk_plan *nano_ok(wk_store **s, wk_buf *b, const nano_edit *e) {
    wk_plan *p = NULL;
    wk_err err = {0};
    wk_buf_init(b, 0);
    nano_build(b, e);
    if (nano_plan(&p, s, b, &err)) fail_msg("%s", err.message);
    return p;
}

static void check_near(double have, double want) {
    const double d = have > want ? have - want : want - have;
    if (!(d <= 1e-6 * want)) fail_msg("%.9g, wanted %.9g", have, want);
}

/* The frequencies that the transformers library makes for the same numbers (head 16, base 10000). */
static void check_freqs(const nano_edit *e, const double want[8], double mscale) {
    wk_store *s;
    wk_buf b;
    wk_plan *p = nano_ok(&s, &b, e);
    assert_int_equal(p->n_rope, 1);
    assert_int_equal(p->rope[0].n_rot, 16);
    for (int i = 0; i < 8; i++) check_near(p->rope[0].freq[i], want[i]);
    check_near((double)p->rope[0].mscale, mscale);
    wk_plan_free(p);
    wk_store_close(s);
    wk_buf_fini(&b);
}

static void test_rope_scaling(void **state) {
    (void)state;
    const double plain[8] = {1.0,  0.316227766,   0.1,   0.0316227766,
                             0.01, 0.00316227766, 0.001, 0.000316227766};
    double quarter[8];
    for (int i = 0; i < 8; i++) quarter[i] = plain[i] / 4.0;
    check_freqs(&(nano_edit){.dim = 32}, plain, 1.0);
    check_freqs(&(nano_edit){.dim = 32, .key = {F32("rope.scale_linear", 4)}}, quarter, 1.0);
    check_freqs(&(nano_edit){.dim = 32,
                             .key = {F32("rope.scaling.factor", 4),
                                     TEXT("llama.rope.scaling.type", "linear")}},
                quarter, 1.0);
    check_freqs(&(nano_edit){.dim = 32,
                             .key = {F32("rope.scaling.factor", 4),
                                     TEXT("llama.rope.scaling.type", "none")}},
                plain, 1.0);
    check_freqs(&(nano_edit){.dim = 32, .tensor = {{"rope_freqs.weight", {8, 0}, 0, 4.0f}}},
                quarter, 1.0);
}

static void test_yarn(void **state) {
    (void)state;
    const double by4[8] = {1.0,    0.237170815,    0.049999997, 0.00790569466,
                           0.0025, 0.000790569466, 0.00025,     7.90569466e-05};
    const double by40[8] = {1.0,           0.316227764,    0.1,    0.0239147246,
                            0.00512499968, 0.000849862176, 2.5e-5, 7.90569447e-06};
    const nano_key yarn = TEXT("llama.rope.scaling.type", "yarn");
    check_freqs(&(nano_edit){.dim = 32,
                             .key = {yarn, F32("rope.scaling.factor", 4),
                                     U32("rope.scaling.original_context_length", 64)}},
                by4, 1.138629436111989);
    check_freqs(&(nano_edit){.dim = 32,
                             .key = {yarn, F32("rope.scaling.factor", 40),
                                     U32("rope.scaling.original_context_length", 4096)}},
                by40, 1.3688879454113936);
    check_freqs(&(nano_edit){.dim = 32,
                             .key = {yarn, F32("rope.scaling.factor", 40),
                                     U32("rope.scaling.original_context_length", 4096),
                                     F32("rope.scaling.attn_factor", 0.5)}},
                by40, 0.6844439727056968);
}

/* Quantised matrices want quantised activations, one copy a type; kind F reads the values themselves. */
static void test_quant_steps(void **state) {
    (void)state;
    static const nano_edit e = {.dim = 32,
                                .tensor = {{"blk.0.attn_q.weight", {32, 32}, 8, 0},
                                           {"blk.0.attn_v.weight", {32, 16}, 8, 0}}};
    wk_store *s;
    wk_buf b;
    wk_plan *p = nano_ok(&s, &b, &e);
    int n = 0;
    for (int32_t i = 0; i < p->n_step; i++) {
        const wk_step *st = &p->step[i];
        n += st->op == WK_OP_quant;
        if (st->op != WK_OP_matmul) continue;
        const int fmt_is_q8 = strcmp(p->weight[st->w[0]].name, "blk.0.attn_q.weight") == 0 ||
                              strcmp(p->weight[st->w[0]].name, "blk.0.attn_v.weight") == 0;
        assert_int_equal(p->val[st->src[0]].type, fmt_is_q8 ? WK_VAL_A32 : WK_VAL_F32);
        assert_int_equal(p->val[st->src[0]].dim, p->weight[st->w[0]].k);
    }
    assert_int_equal(n, 1);
    assert_int_equal(p->n_stage, 11);
    wk_plan_free(p);
    wk_store_close(s);
    wk_buf_fini(&b);
}

static void test_vector_of_integers(void **state) {
    (void)state;
    static const nano_edit e = {.dim = 32, .tensor = {{"output_norm.weight", {32, 0}, 8, 0}}};
    wk_buf b;
    wk_plan *p = NULL;
    wk_store *s;
    wk_err err = {0};
    wk_buf_init(&b, 0);
    nano_build(&b, &e);
    assert_int_equal(nano_plan(&p, &s, &b, &err), WICK_E_UNSUPPORTED);
    assert_non_null(strstr(
        err.message, "output_norm.weight is stored as Q8_0, a vector must be F32, F16 or BF16"));
    wk_buf_fini(&b);
}

/* Rows of llama's q and k go back into halves: head by head, even rows first. */
static void test_unrotated_rows(void **state) {
    (void)state;
    const wk_weight w = {.unrotate = 6}, plain = {0};
    const int32_t want[12] = {0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11};
    for (int32_t i = 0; i < 12; i++) {
        assert_int_equal(wk_weight_row(&w, i), want[i]);
        assert_int_equal(wk_weight_row(&plain, i), i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_text),
        cmocka_unit_test(test_every_arch_is_here),
        cmocka_unit_test(test_stage_counts),
        cmocka_unit_test(test_written_once),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_refusals_of_others),
        cmocka_unit_test(test_window_pattern),
        cmocka_unit_test(test_scale_by_size),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_unclaimed_is_said),
        cmocka_unit_test(test_claimed_is_silent),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_rope_scaling),
        cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_quant_steps),
        cmocka_unit_test(test_vector_of_integers),
        cmocka_unit_test(test_unrotated_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
