/* test_data_mix.c: files mixed in given shares: how many samples of each, that every one of them comes once an epoch, that
 * none reaches into another part, and that a place is one number. */
#include <math.h>

#include "engine/base/arena.h"
#include "engine/train/data_impl.h"
#include "tests/unit/folder.h"
#include "tests/unit/tok_fixture.h"
#include "tests/unit/unit.h"

enum { N_PART = 3, N_CTX = 16, EOS = 256 };
static const int n_doc[N_PART] = {90, 20, 5}, doc_len[N_PART] = {20, 200, 7}; /* letters of a document */
static const double shares[N_PART] = {5, 3, 2};

static wk_tok *tok_new(void) {
    fix f;
    vocab v = {0};
    wk_err err = {0};
    wk_tok *t = NULL;
    vocab_bytes(&v);
    vocab_add(&v, WK_STR("</s>"), 3, 0);
    fix_begin(&f);
    fix_meta_str(&f, "tokenizer.ggml.model", "gpt2");
    fix_meta_str(&f, "tokenizer.ggml.pre", "gpt-2");
    vocab_put(&v, &f, false);
    fix_strs(&f, "tokenizer.ggml.merges", NULL, 0);
    fix_meta_u32(&f, "tokenizer.ggml.eos_token_id", EOS);
    if (fix_open(&f, &t, &err)) fail_msg("%s", err.message);
    return t;
}

/* Part k is written in the letters 'a' + 8 k and the seven behind it. */
static int pack(const wk_tok *tok, const double *mix, double val_share, wk_err *err) {
    const folder_path out = path_in("out.wtok");
    folder_path in[N_PART];
    const char *list[N_PART];
    for (int k = 0; k < N_PART; k++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "%d.txt", k);
        in[k] = path_in(name);
        list[k] = in[k].p;
        FILE *f = fopen(in[k].p, "w");
        assert_non_null(f);
        for (int i = 0; i < n_doc[k]; i++) {
            for (int j = 0; j < doc_len[k]; j++) (void)fputc('a' + 8 * k + (i * 31 + j * j + j / 3) % 8, f);
            (void)fputs("<|endoftext|>", f);
        }
        assert_int_equal(fclose(f), 0);
    }
    const wk_pack_options o = {.path = list, .n_path = N_PART, .mix = mix, .tok = tok, .val_share = val_share};
    const int rc = wk_data_pack(out.p, &o, NULL, err);
    for (int k = 0; k < N_PART; k++) assert_int_equal(unlink(in[k].p), 0);
    return rc;
}

static wk_data *pack_ok(const wk_tok *tok, double val_share) {
    wk_err err = {0};
    wk_data *d = NULL;
    const folder_path out = path_in("out.wtok");
    if (pack(tok, shares, val_share, &err) || wk_data_open(&d, out.p, 0, &err)) fail_msg("%s", err.message);
    assert_int_equal(unlink(out.p), 0); /* it is mapped */
    assert_int_equal(wk_data_parts(d), N_PART);
    return d;
}

static wk_sample_spec spec_of(const wk_data *d, wk_unit unit, uint64_t seed) {
    wk_err err = {0};
    wk_sample_spec s = {.unit = unit, .n_ctx = N_CTX, .seed = seed};
    if (wk_data_mix(d, &s, "out.wtok", &err)) fail_msg("%s", err.message);
    return s;
}

typedef struct sample {
    int32_t tok[N_CTX], target[N_CTX], n, n_seq;
    wk_tseq seq[N_CTX];
} sample;

/* The part that a sample is from, by its letters; all of it must be. */
static int take(const wk_data *d, const wk_sample_spec *s, uint64_t i, sample *x) {
    int part = -1;
    memset(x, 0, sizeof(*x));
    x->n = wk_data_sample(d, s, i, x->tok, x->target, x->seq, &x->n_seq);
    assert_true(x->n > 0 && x->n <= N_CTX);
    for (int32_t k = 0; k < x->n; k++) {
        const int32_t both[] = {x->tok[k], x->target[k]};
        for (int j = 0; j < 2; j++) {
            if (both[j] == EOS || both[j] < 0) continue;
            if (part < 0) part = (both[j] - 'a') / 8;
            assert_int_equal(part, (both[j] - 'a') / 8);
        }
    }
    assert_in_range(part, 0, N_PART - 1);
    return part;
}

/* ---- rows ------------------------------------------------------------------------------------------ */

static void test_shares(void **state) {
    (void)state;
    wk_tok *t = tok_new();
    wk_data *d = pack_ok(t, 0);
    const wk_sample_spec s = spec_of(d, WK_UNIT_ROWS, 3);
    uint64_t tokens[WK_DATA_PARTS] = {0};
    sample x;
    assert_true(s.quota[0] == 500 && s.quota[1] == 300 && s.quota[2] == 200 && s.quota[3] == 0);
    for (uint64_t block = 0; block < 3; block++) {
        int n[N_PART] = {0}, turns = 0, last = -1;
        for (uint64_t i = 0; i < WK_DATA_BLOCK; i++) {
            const int part = take(d, &s, block * WK_DATA_BLOCK + i, &x);
            n[part]++;
            turns += part != last;
            last = part;
        }
        assert_true(n[0] == 500 && n[1] == 300 && n[2] == 200);
        assert_true(turns > 500); /* 620 are expected of chance; 3 of one part behind the other */
    }
    wk_data_drawn(d, &s, 0, 700, tokens);
    wk_data_drawn(d, &s, 700, 2000, tokens);
    assert_true(tokens[0] == 1000 * N_CTX && tokens[1] == 600 * N_CTX && tokens[2] == 400 * N_CTX);
    assert_true(fabs(wk_data_part_share(d, 0) - 0.5) < 1e-15 && fabs(wk_data_part_share(d, 2) - 0.2) < 1e-15);
    wk_data_close(d);
    wk_tok_close(t);
}

/* The rows of a part come equally often: at the end of each block, none more than once oftener than another. */
static void test_epochs(void **state) {
    (void)state;
    wk_tok *t = tok_new();
    wk_data *d = pack_ok(t, 0);
    const wk_sample_spec s = spec_of(d, WK_UNIT_ROWS, 5);
    uint64_t begin = 0;
    for (int k = 0; k < N_PART; k++) {
        const uint64_t len = (uint64_t)n_doc[k] * (uint64_t)(doc_len[k] + 1), n = (len - 1) / N_CTX;
        uint64_t seen[400] = {0}, drawn = 0;
        for (uint64_t i = 0; i < 4 * WK_DATA_BLOCK; i++) {
            const uint64_t at = wk_data_mix_place(d, &s, i);
            if (at >= begin && at < begin + len) {
                assert_true((at - begin) % N_CTX == 0 && (at - begin) / N_CTX < n);
                seen[(at - begin) / N_CTX]++;
                drawn++;
            }
            for (uint64_t r = 0; r < n && (i + 1) % WK_DATA_BLOCK == 0; r++)
                assert_in_range(seen[r], drawn / n, (drawn + n - 1) / n);
        }
        begin += len;
    }
    wk_data_close(d);
    wk_tok_close(t);
}

/* Sample i is the same whatever was asked before; another seed gives another order. */
static void test_place(void **state) {
    (void)state;
    wk_tok *t = tok_new();
    wk_data *d = pack_ok(t, 0);
    const wk_sample_spec s = spec_of(d, WK_UNIT_ROWS, 1), other = spec_of(d, WK_UNIT_ROWS, 2);
    static sample all[1500];
    sample x;
    int same = 0;
    for (uint64_t i = 0; i < 1500; i++) (void)take(d, &s, i, &all[i]);
    for (uint64_t i = 1500; i-- > 0;) {
        (void)take(d, &s, i, &x);
        assert_memory_equal(&x, &all[i], sizeof(x));
        (void)take(d, &other, i, &x);
        same += memcmp(&x, &all[i], sizeof(x)) == 0;
    }
    assert_true(same < 150); /* the parts have few rows: some meet */
    (void)take(d, &s, UINT64_MAX, &x);
    wk_data_close(d);
    wk_tok_close(t);
}

/* ---- documents ------------------------------------------------------------------------------------- */

/* Of unequal length: the shares are of tokens, not of samples. */
static void test_documents(void **state) {
    (void)state;
    wk_tok *t = tok_new();
    wk_data *d = pack_ok(t, 0);
    const wk_sample_spec s = spec_of(d, WK_UNIT_DOCS, 3);
    uint64_t tokens[WK_DATA_PARTS] = {0}, sum = 0, found[N_PART] = {0};
    sample x;
    for (uint64_t i = 0; i < 4 * WK_DATA_BLOCK; i++) {
        const int part = take(d, &s, i, &x);
        found[part] += (uint64_t)x.n;
        sum += (uint64_t)x.n;
    }
    wk_data_drawn(d, &s, 0, 4 * WK_DATA_BLOCK, tokens);
    for (int k = 0; k < N_PART; k++) {
        assert_int_equal(tokens[k], found[k]);
        assert_true(fabs((double)tokens[k] / (double)sum - shares[k] / 10) < 1e-3); /* a sample in a block */
    }
    assert_true(s.quota[2] > s.quota[0] / 2); /* short documents: more of them */
    wk_data_close(d);
    wk_tok_close(t);
}

/* What is held out is read in order, all of it, whatever the shares are. */
static void test_held_out(void **state) {
    (void)state;
    wk_tok *t = tok_new();
    wk_data *d = pack_ok(t, 0.3);
    wk_sample_spec s = {.split = WK_SPLIT_VAL, .unit = WK_UNIT_DOCS, .n_ctx = N_CTX, .in_order = true};
    const wk_sample_spec train = spec_of(d, WK_UNIT_DOCS, 1);
    sample x;
    int n[N_PART] = {0};
    for (uint64_t i = 0; i < wk_data_samples(d, &s); i++) n[take(d, &s, i, &x)]++;
    assert_int_equal(wk_data_samples(d, &s) + wk_data_samples(d, &train), 115);
    assert_true(n[0] > 0 && n[1] > 0);
    wk_data_close(d);
    wk_tok_close(t);
}

/* ---- refusals -------------------------------------------------------------------------------------- */

static void test_refusals(void **state) {
    (void)state;
    static const double bad[][N_PART] = {{1, 0, 1}, {1, -1, 1}, {1, (double)NAN, 1}, {1, (double)INFINITY, 1}};
    wk_tok *t = tok_new();
    wk_err err = {0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pack(t, bad[i], 0, &err), WICK_E_ARG);
        assert_non_null(strstr(err.message, "1.txt: its share of the mixture is "));
    }
    wk_data *d = pack_ok(t, 0);
    wk_sample_spec s = {.unit = WK_UNIT_ROWS, .n_ctx = 64}; /* part 3 has 40 tokens */
    assert_int_equal(wk_data_mix(d, &s, "out.wtok", &err), WICK_E_ARG);
    assert_non_null(strstr(err.message, "part 3 of the mixture has no whole sample of 64 tokens"));
    wk_data_close(d);
    static const double thin[N_PART] = {5000, 3, 2};
    const folder_path out = path_in("out.wtok");
    if (pack(t, thin, 0, &err) || wk_data_open(&d, out.p, 0, &err)) fail_msg("%s", err.message);
    s.n_ctx = N_CTX;
    assert_int_equal(wk_data_mix(d, &s, "out.wtok", &err), WICK_E_ARG);
    if (!strstr(err.message, "part 3 of the mixture is less than one of 1000 samples")) fail_msg("%s", err.message);
    wk_data_close(d);
    assert_int_equal(unlink(out.p), 0);
    wk_tok_close(t);
}

static void check_lie(const wk_map_file *m, size_t at, const void *value, const char *want) {
    uint8_t *p = wk_alloc(m->n);
    wk_err err = {0};
    wk_data *d = NULL;
    memcpy(p, m->p, m->n);
    memcpy(p + at, value, 8);
    const wk_hash h = wk_wtok_hash(p, m->n);
    memcpy(p + m->n - 16, &h.lo, 8);
    memcpy(p + m->n - 8, &h.hi, 8);
    const int rc = wk_data_open_memory(&d, p, m->n, "f", 0, &err);
    if (rc != WICK_E_FORMAT || !strstr(err.message, want)) fail_msg("%zu: %d \"%s\", not \"%s\"", at, rc, err.message, want);
    wk_free(p);
}

static void test_damaged(void **state) {
    (void)state;
    wk_tok *t = tok_new();
    wk_err err = {0};
    wk_map_file m;
    wk_wtok_layout l;
    const folder_path out = path_in("out.wtok");
    const uint64_t n[] = {0, 17, UINT64_MAX, 2, 116, 114, 91};
    const double share[] = {0, -1, (double)NAN, 1.5};
    if (pack(t, shares, 0, &err) || wk_os_map(&m, out.p, &err)) fail_msg("%s", err.message);
    assert_true(wk_wtok_layout_of(&l, 90 * 21 + 20 * 201 + 5 * 8, 115, 2, 3) && l.size == m.n);
    check_lie(&m, l.foot + 32, &n[0], "do not make");
    check_lie(&m, l.foot + 32, &n[1], "a mixture of 17 parts");
    check_lie(&m, l.foot + 32, &n[2], "a mixture of 18446744073709551615 parts");
    check_lie(&m, l.foot + 32, &n[3], "do not make");
    check_lie(&m, l.part, &n[4], "ends at document 116 of 115");
    check_lie(&m, l.part + 16, &n[3], "part 1 of share 0.3 ends at document 2 of 115");
    check_lie(&m, l.part + 32, &n[5], "115 documents, its parts have 114");
    for (int i = 0; i < 4; i++) check_lie(&m, l.part + 8, &share[i], "part 0 of share ");
    wk_os_unmap(&m);
    assert_int_equal(unlink(out.p), 0);
    wk_tok_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),   cmocka_unit_test(test_epochs),   cmocka_unit_test(test_place),
        cmocka_unit_test(test_documents), cmocka_unit_test(test_held_out), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
