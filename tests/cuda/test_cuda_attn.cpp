/* test_cuda_attn.cpp: the cache, attention and arg-max of gpu/cuda on the emulator. What lies in the cache is compared bit
 * by bit with the CPU's casts; attention with sums in double over those values: NMSE of the worst head below 1e-10, where
 * 1e-6 is allowed, since f32 sums are all that differs. WKC_EMU_REVERSE=1 runs everything in the opposite order. */
#include <float.h>

#include "tests/cuda/attn_world.h"

static const double BOUND = 1e-10;
static const double BOUND_STEEP = 1e-8; /* a score of 600 in f32 is off by 3e-5 */
static const double BOUND_MMA = 1e-6;   /* f16 probabilities */
static double worst_mma;

/* ---- put ----------------------------------------------------------------------------------------------------------- */

static float nasty(int type) {
    static const float x[] = {0.0f,     -0.0f,    1e-45f,   -1e-40f,  0x1p-24f, 0x1p-25f, 0x1.8p-25f, 65504.0f, 65519.0f,
                              65520.0f, -65520.0f, 1e9f,     -1e30f,   FLT_MAX,  -FLT_MAX, INFINITY,   -INFINITY, NAN,
                              0x1p-101f, 0x1p-99f, 3.3e38f, 3.39e38f, 1e7f, 8.4e6f, 1e-3f};
    const float v = x[rnd() % (sizeof(x) / sizeof(x[0]))];
    return rnd() % 8 || (type == WK_KV_Q8_0 && rnd() % 4) ? uniform() : v;
}

/* Value d of a slot, as it lies in memory. */
static float value_at(const world *w, const uint8_t *kv, int which, int slot, int d) {
    const int hd = w->kv.head_dim, c = d / 8;
    const uint8_t *p = kv + (which ? wkc_kv_half(w->kv.kv_type, hd) : 0);
    const uint8_t *at = p + (which ? wkc_v_at(w->kv.kv_type, hd, c, slot) : wkc_k_at(w->kv.kv_type, c, slot));
    const uint8_t *scale = p + (which ? wkc_v_scale(hd, c, slot) : wkc_k_scale(hd, c, slot));
    float f[8];
    if (w->kv.kv_type == WK_KV_F32) wkc_chunk<WK_KV_F32>(f, at, scale);
    else if (w->kv.kv_type == WK_KV_F16) wkc_chunk<WK_KV_F16>(f, at, scale);
    else if (w->kv.kv_type == WK_KV_BF16) wkc_chunk<WK_KV_BF16>(f, at, scale);
    else wkc_chunk<WK_KV_Q8_0>(f, at, scale);
    return f[d % 8];
}

/* Every value where it should be, nothing elsewhere: the image of the pages, byte by byte, is zero once they are taken
 * out again, by putting zeros. */
static void put_one(int type, int hd) {
    world w(type, hd, 3, 1, 12);
    sequence a = {{}, {}, 60}, b = {{}, {}, 130};
    w.batch({{&a, 9}, {&b, 3}}, 2);
    const size_t bytes = w.kv.page_bytes * (size_t)w.n_page;
    std::vector<uint8_t> before = from_device(w.kv.p, bytes);
    for (int which = 0; which < 2; which++) {
        floats x((size_t)w.b.n_tok * (size_t)w.row()), y(x.size());
        std::vector<uint8_t> want((size_t)w.b.n_tok, 0);
        for (float &v : x) v = nasty(type);
        assert_int_equal(cudaMemset(w.b.bad_tok, 0, want.size()), cudaSuccess);
        w.put(x, which);
        for (int t = 0; t < 12; t++)
            want[(size_t)t] = stored(&y[(size_t)(t * w.row())], &x[(size_t)(t * w.row())], type, w.row()) != 0;
        assert_true(from_device(w.b.bad_tok, want.size()) == want);
        const std::vector<uint8_t> raw = from_device(w.kv.p, bytes);
        for (int t = 0; t < 12; t++) {
            const int pos = t < 9 ? 60 + t : 130 + t - 9;
            const uint32_t page = (t < 9 ? a : b).page[(size_t)pos / WK_KV_PAGE];
            for (int i = 0; i < w.row(); i++) {
                const size_t head = (size_t)(w.kv.n_head_kv + i / hd) * w.kv.head_bytes; /* second layer */
                const float got = value_at(&w, raw.data() + page * w.kv.page_bytes + head, which, pos % 64, i % hd);
                assert_memory_equal(&got, &y[(size_t)(t * w.row() + i)], 4);
            }
        }
        w.put(floats(x.size(), 0.0f), which);
    }
    assert_true(from_device(w.kv.p, bytes) == before);
}

static void test_put(void **state) {
    (void)state;
    for (int type = 0; type < WK_KV_TYPE_COUNT; type++)
        for (int hd : {8, 32, 64, 80, 128, 256})
            if (type != WK_KV_Q8_0 || hd % 32 == 0) put_one(type, hd);
}

static void test_init(void **state) {
    (void)state;
    wkc_kv kv;
    assert_false(wkc_kv_init(&kv, WK_KV_F16, 12, 1, 0, 1));
    assert_false(wkc_kv_init(&kv, WK_KV_F16, 264, 1, 0, 1));
    assert_false(wkc_kv_init(&kv, WK_KV_Q8_0, 80, 1, 0, 1));
    assert_false(wkc_kv_init(&kv, WK_KV_TYPE_COUNT, 64, 1, 0, 1));
    assert_true(wkc_kv_init(&kv, WK_KV_Q8_0, 64, 2, 5, 3));
    assert_int_equal(kv.head_bytes, 2 * 64 * 64 / 32 * 34);
    assert_int_equal(kv.page_bytes, 6 * kv.head_bytes);
}

/* A copy that reads what an earlier pair of the same list wrote, after a page was zeroed. */
static void test_pages(void **state) {
    (void)state;
    world w(WK_KV_F16, 64, 2, 1, 5);
    std::vector<uint8_t> raw(w.kv.page_bytes * 5);
    for (uint8_t &x : raw) x = (uint8_t)rnd();
    assert_int_equal(cudaMemcpy(w.kv.p, raw.data(), raw.size(), cudaMemcpyHostToDevice), cudaSuccess);
    const std::vector<uint32_t> zero = {4, 1}, copy = {3, 2, 1, 3};
    const uint32_t *z = on_device(zero), *c = on_device(copy);
    wkc_kv_pages(nullptr, &w.kv, z, 2, c, 2);
    memset(&raw[4 * w.kv.page_bytes], 0, w.kv.page_bytes);
    memcpy(&raw[3 * w.kv.page_bytes], &raw[2 * w.kv.page_bytes], w.kv.page_bytes);
    memcpy(&raw[1 * w.kv.page_bytes], &raw[2 * w.kv.page_bytes], w.kv.page_bytes);
    assert_true(from_device(w.kv.p, raw.size()) == raw);
    drop(z), drop(c);
}

/* ---- attention ------------------------------------------------------------------------------------------------------- */

struct rule {
    float scale, softcap;
    int window;
};

/* A query as the codes of a q8_0 cache meet it: int8 by blocks of 32 (A32); else as it is. */
static floats seen_query(int kv_type, const float *q, int hd) {
    floats x(q, q + hd);
    for (int b = 0; kv_type == WK_KV_Q8_0 && b < hd; b += 32) {
        float amax = 0;
        for (int i = b; i < b + 32; i++) amax = fmaxf(amax, fabsf(q[i]));
        const float inv = amax > 0 ? 127.0f / amax : 0, d = amax / 127.0f;
        for (int i = b; i < b + 32; i++) x[(size_t)i] = rintf(q[i] * inv) * d;
    }
    return x;
}

/* The worst head's NMSE of the batch that was brought last. Rows of no sequence must be left as they are. */
static double attend(const world *w, const std::vector<piece> &p, rule r) {
    const int hd = w->kv.head_dim, dim = w->n_head() * hd, n = w->b.n_tok;
    const floats q = random_floats((size_t)n * (size_t)dim, 1.5f);
    const float *dq = on_device(q);
    float *dst = on_device(floats((size_t)n * (size_t)dim, 77.0f));
    uint8_t *scratch = nullptr;
    const size_t bytes = wkc_attn_scratch(&w->kv, w->n_head(), n, (uint32_t)w->n_page);
    if (bytes) assert_int_equal(cudaMalloc(&scratch, bytes), cudaSuccess);
    wkc_attn(nullptr, &w->kv, w->layer, w->n_head(), r.scale, r.softcap, r.window, dq, dst, &w->b, scratch);
    const floats got = from_device(dst, (size_t)n * (size_t)dim);
    drop(dq), drop(dst), drop(scratch);
    double worst = 0;
    int rows = 0;
    std::vector<double> o((size_t)hd);
    for (size_t i = 0; i < p.size(); i++)
        for (int t = 0; t < p[i].count; t++, rows++)
            for (int h = 0; h < w->n_head(); h++) {
                const size_t at = (size_t)(w->first[i] + t) * (size_t)dim + (size_t)(h * hd);
                want_head(o.data(), w, p[i].s, seen_query(w->kv.kv_type, &q[at], hd).data(), w->pos0[i] + t, h / w->group, (double)r.scale, (double)r.softcap,
                          r.window);
                double e = 0, s = 0;
                for (int d = 0; d < hd; d++) {
                    const double x = (double)got[at + (size_t)d] - o[(size_t)d];
                    e += x * x, s += o[(size_t)d] * o[(size_t)d];
                }
                if (!(e / s <= worst)) worst = e / s; /* NaN too */
            }
    for (size_t i = (size_t)rows * (size_t)dim; i < got.size(); i++) assert_true(got[i] == 77.0f);
    return worst;
}

static void check(const world *w, const std::vector<piece> &p, rule r) {
    const double e = attend(w, p, r);
    bool by_mma = false; /* attn_mma.cu says which */
    for (const piece &x : p) by_mma = by_mma || x.count > 4;
    by_mma = by_mma && w->kv.kv_type == WK_KV_F16 && w->kv.head_dim % 16 == 0;
    if (by_mma && !(e <= worst_mma)) worst_mma = e;
    if (e <= (by_mma ? BOUND_MMA : fabsf(r.scale) > 1.0f ? BOUND_STEEP : BOUND)) return;
    print_error("type %d hd %d heads %d x %d window %d cap %g, %d tokens: NMSE %g\n", w->kv.kv_type, w->kv.head_dim,
                w->kv.n_head_kv, w->group, r.window, (double)r.softcap, w->b.n_tok, e);
    fail();
}

static void bring_and_check(world *w, const std::vector<piece> &p, int pad, const std::vector<rule> &rules) {
    w->bring(p, pad);
    for (const rule &r : rules) check(w, p, r);
}

/* Sequences with so many positions before. */
static std::vector<sequence> grown(world *w, const std::vector<int> &n_pos) {
    std::vector<sequence> s(n_pos.size());
    std::vector<piece> p;
    for (size_t i = 0; i < s.size(); i++) {
        s[i].n_pos = 0;
        if (n_pos[i]) p.push_back({&s[i], n_pos[i]});
    }
    if (!p.empty()) w->bring(p, 0);
    return s;
}

static const std::vector<rule> RULES = {{0.11f, 0, 0}, {0.3f, 5.0f, 0}, {0.2f, 0, 64}, {0.2f, 20.0f, 17}, {0.2f, 0, 1}};

/* One token each: the positions where pages begin and end, alone and together. */
static void decode_one(int type, int hd, int n_head_kv, int group) {
    world w(type, hd, n_head_kv, group, 64);
    std::vector<sequence> s = grown(&w, {0, 63, 64, 65, 1000});
    for (sequence &x : s) bring_and_check(&w, {{&x, 1}}, 0, {RULES[0], RULES[3]});
    w.bring({{&s[4], 1}}, 0);
    w.b.max_page = 1 << 20; /* as many pieces as there can be: all of the scratch */
    check(&w, {{&s[4], 1}}, RULES[0]);
    bring_and_check(&w, {{&s[0], 1}, {&s[1], 1}, {&s[2], 1}, {&s[3], 1}, {&s[4], 1}}, 0, RULES);
}

static void test_decode(void **state) {
    (void)state;
    decode_one(WK_KV_F16, 8, 2, 1);
    decode_one(WK_KV_F32, 64, 1, 3);
    decode_one(WK_KV_Q8_0, 64, 2, 8);
    decode_one(WK_KV_F16, 80, 2, 3);
    decode_one(WK_KV_BF16, 128, 1, 8);
    decode_one(WK_KV_Q8_0, 128, 1, 1);
    decode_one(WK_KV_F16, 256, 1, 4);
    decode_one(WK_KV_F32, 24, 1, 2);
    decode_one(WK_KV_F16, 40, 1, 12);
}

/* Long and short pieces side by side, with and without rows of nobody. */
static void mixed_one(int type, int hd, int n_head_kv, int group) {
    world w(type, hd, n_head_kv, group, 64);
    std::vector<sequence> s = grown(&w, {0, 63, 0, 64, 500, 61, 130});
    bring_and_check(&w, {{&s[0], 1}, {&s[1], 7}, {&s[2], 70}, {&s[3], 2}, {&s[4], 1}, {&s[5], 5}, {&s[6], 4}}, 0, RULES);
    bring_and_check(&w, {{&s[4], 1}, {&s[2], 3}, {&s[0], 33}}, 11, RULES);
    bring_and_check(&w, {{&s[2], 40}}, 1, {RULES[0], RULES[2]});
    bring_and_check(&w, {{&s[4], 3}}, 0, {RULES[0], RULES[2]});
    w.bring({{&s[4], 5}, {&s[5], 4}}, 0);
    w.b.max_page = 1 << 20;
    check(&w, {{&s[4], 5}, {&s[5], 4}}, RULES[0]);
}

static void test_mixed(void **state) {
    (void)state;
    mixed_one(WK_KV_F16, 8, 2, 3);
    mixed_one(WK_KV_F32, 64, 1, 1);
    mixed_one(WK_KV_Q8_0, 64, 1, 3);
    mixed_one(WK_KV_BF16, 80, 1, 3);
    mixed_one(WK_KV_F16, 96, 1, 2);
    mixed_one(WK_KV_F16, 128, 1, 8);
    mixed_one(WK_KV_Q8_0, 192, 1, 1);
    mixed_one(WK_KV_F16, 256, 1, 1);
}

/* So many sequences that each is one piece; and the same ones with a sequence of two tokens where the others have none. */
static void test_many(void **state) {
    (void)state;
    world w(WK_KV_F16, 8, 4, 2, 256);
    std::vector<int> n(140);
    for (size_t i = 0; i < n.size(); i++) n[i] = (int)rnd() % 60;
    std::vector<sequence> s = grown(&w, n);
    std::vector<piece> p;
    for (sequence &x : s) p.push_back({&x, 1});
    bring_and_check(&w, p, 0, {RULES[0], RULES[3]});
    for (piece &x : p) x.count = 0;
    p[3].count = 2, p[7].count = 4;
    bring_and_check(&w, p, 0, {RULES[0]});
    p.resize(8);
    p[1].count = p[2].count = 1;
    bring_and_check(&w, p, 0, {RULES[0]}); /* 8 rows, 8 sequences, one of them with 4 */
}

/* A sequence that shares its pages with another one and has a copy of the last. */
static void test_shared(void **state) {
    (void)state;
    for (int type = 0; type < WK_KV_TYPE_COUNT; type++) {
        world w(type, 32, 2, 2, 16);
        std::vector<sequence> s = grown(&w, {150});
        sequence b = s[0];
        w.next += w.next % 3 == 2;
        b.page[2] = w.next++;
        w.copy({b.page[2], s[0].page[2]});
        for (int i = 0; i < 2; i++) bring_and_check(&w, {{&s[0], 1 + 6 * i}, {&b, 1 + i}}, 0, RULES);
    }
}

/* Scores far apart, so that what came before counts for nothing, or the reverse. */
static void test_steep(void **state) {
    (void)state;
    world w(WK_KV_F16, 64, 1, 2, 24);
    std::vector<sequence> s = grown(&w, {300, 80});
    const rule steep = {400.0f, 0, 0}, flat = {0.0f, 0, 0}, down = {-30.0f, 0, 100};
    bring_and_check(&w, {{&s[0], 1}, {&s[1], 1}}, 0, {steep, flat, down});
    bring_and_check(&w, {{&s[0], 20}, {&s[1], 1}}, 0, {steep, flat, down});
}

/* ---- largest logit ------------------------------------------------------------------------------------------------------ */

static void top_one(int n, int dim, int kind) {
    floats x((size_t)n * (size_t)dim);
    std::vector<int32_t> want;
    for (float &v : x) {
        v = kind == 0 ? uniform() : (float)(rnd() % 3);
        if (kind == 1) v = rnd() % 2 ? 0.0f : -0.0f;
        if (kind == 2) v = NAN;
    }
    const float planted[] = {NAN, INFINITY, -INFINITY}; /* one, in the middle row */
    if (kind > 2) x[(size_t)dim * (size_t)(n / 2) + rnd() % (size_t)dim] = planted[kind - 3];
    for (int i = 0; i < n; i++) {
        const float *row = &x[(size_t)i * (size_t)dim];
        int best = -1;
        for (int j = 0; j < dim; j++)
            if (best < 0 || row[j] > row[best]) best = j;
        for (int j = 0; j < dim; j++)
            if (!isfinite(row[j])) best = -1;
        want.push_back(best);
    }
    const float *d = on_device(x);
    int32_t *top = on_device(std::vector<int32_t>((size_t)n, -7));
    wkc_top(nullptr, d, n, dim, top);
    assert_true(from_device(top, (size_t)n) == want);
    drop(d), drop(top);
}

static void test_top(void **state) {
    (void)state;
    for (int dim : {1, 2, 5, 31, 64, 1023, 4096, 4099, 49152})
        for (int kind = 0; kind < 6; kind++) top_one(3, dim, kind);
    top_one(1, 262144, 0);
    top_one(2, 262144, 5);
    wkc_top(nullptr, nullptr, 0, 5, nullptr);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),   cmocka_unit_test(test_put),   cmocka_unit_test(test_pages),
        cmocka_unit_test(test_decode), cmocka_unit_test(test_mixed), cmocka_unit_test(test_many),
        cmocka_unit_test(test_shared), cmocka_unit_test(test_steep), cmocka_unit_test(test_top),
    };
    const int rc = cmocka_run_group_tests(tests, nullptr, nullptr);
    printf("matrix units: NMSE of the worst head %.3g\n", worst_mma);
    return rc;
}
