/* attn_world.h: a cache on the device and what should be in it, for test_cuda_attn.cpp: sequences bring tokens, the test
 * keeps every K and V as the CPU's own cast rounds them, and attention is summed up again in double. */
#ifndef ATTN_WORLD_H
#define ATTN_WORLD_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <vector>

extern "C" {
#include <cmocka.h>

#include "simd/kernels.h"
#include "simd/ref/ref.h"
}
#include "gpu/cuda/kv.cuh"

typedef std::vector<float> floats;

static inline uint32_t rnd(void) {
    static uint32_t seed = 1;
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}
static inline float uniform(void) { return (float)((int)(rnd() % 20001) - 10000) * 1e-4f; }
static inline floats random_floats(size_t n, float scale) {
    floats x(n);
    for (float &v : x) v = uniform() * scale;
    return x;
}

/* Device memory of exactly these values: it ends at a page that cannot be touched. */
template <class T> static inline T *on_device(const std::vector<T> &v) {
    T *p = nullptr;
    if (v.empty()) return p;
    assert_int_equal(cudaMalloc(&p, v.size() * sizeof(T)), cudaSuccess);
    assert_int_equal(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    return p;
}
template <class T> static inline std::vector<T> from_device(const T *p, size_t n) {
    std::vector<T> v(n);
    if (n) assert_int_equal(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return v;
}
template <class T> static inline void drop(const T *p) { assert_int_equal(cudaFree(const_cast<T *>(p)), cudaSuccess); }

/* n values as the cache stores them, back as f32, by the CPU's cast; returns how many do not fit. */
static inline int stored(float *dst, const float *x, int type, int n) {
    wk_kernels k;
    memset(&k, 0, sizeof(k));
    wk_fill_elem_ref(&k);
    wk_fill_quant_ref(&k);
    std::vector<uint8_t> raw((size_t)n * 4);
    const int bad = k.kv_cast[type](raw.data(), x, n);
    for (int i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, raw.data() + 2 * i, 2);
        if (type == WK_KV_F32) memcpy(dst + i, raw.data() + 4 * i, 4);
        else if (type == WK_KV_F16) dst[i] = wk_f16_to_f32(h);
        else if (type == WK_KV_BF16) dst[i] = wk_bf16_to_f32(h);
        else {
            const uint8_t *b = raw.data() + i / 32 * 34;
            memcpy(&h, b, 2);
            dst[i] = wk_f16_to_f32(h) * (float)(int8_t)b[2 + i % 32];
        }
    }
    return bad;
}

/* A sequence: its pages, and its K and V so far, [pos][kv heads * hd]. */
struct sequence {
    std::vector<uint32_t> page;
    floats kv[2];
    int n_pos;
};

/* What a sequence brings to a batch. */
struct piece {
    sequence *s;
    int count;
};

struct world {
    wkc_kv kv;
    int group, n_page;
    uint32_t next; /* page that is handed out next; every third one is left out, so that neighbours are nobody's */
    int layer;
    wkc_batch b; /* the last batch, on the device */
    std::vector<int32_t> first, count, pos0;

    world(int type, int hd, int n_head_kv, int g, int pages) : group(g), n_page(pages), next(0), layer(4) {
        memset(&b, 0, sizeof(b));
        assert_true(wkc_kv_init(&kv, type, hd, n_head_kv, 3, 2));
        assert_int_equal(cudaMalloc(&kv.p, kv.page_bytes * (size_t)pages), cudaSuccess); /* NaN, until it is zeroed */
    }
    ~world() {
        drop_batch();
        drop(kv.p);
    }
    int row(void) const { return kv.n_head_kv * kv.head_dim; }
    int n_head(void) const { return kv.n_head_kv * group; }
    void drop_batch(void) {
        drop(b.pos), drop(b.seq_of), drop(b.first), drop(b.count), drop(b.pos0), drop(b.table), drop(b.page);
        drop(b.bad_tok);
    }
    /* Pages for n_pos positions, zeroed. */
    void extend(sequence *s, int n_pos) {
        std::vector<uint32_t> fresh;
        while ((int)s->page.size() * WK_KV_PAGE < n_pos) {
            if (next % 3 == 2) next++;
            assert_true((int)next < n_page);
            fresh.push_back(next);
            s->page.push_back(next++);
        }
        const uint32_t *d = on_device(fresh);
        wkc_kv_pages(nullptr, &kv, d, (int32_t)fresh.size(), nullptr, 0);
        drop(d);
    }
    void copy(const std::vector<uint32_t> &pairs) {
        const uint32_t *d = on_device(pairs);
        wkc_kv_pages(nullptr, &kv, nullptr, 0, d, (int32_t)pairs.size() / 2);
        drop(d);
    }
    /* The arrays of a batch, with pad rows and one empty sequence more than there are, as a padded graph has them. */
    void batch(const std::vector<piece> &p, int pad) {
        std::vector<int32_t> pos, seq_of, table;
        std::vector<uint32_t> page(3, 0xffffffffu);
        drop_batch();
        first.clear(), count.clear(), pos0.clear();
        b.max_page = pad;
        for (const piece &x : p) {
            extend(x.s, x.s->n_pos + x.count);
            first.push_back((int32_t)pos.size()), count.push_back(x.count), pos0.push_back(x.s->n_pos);
            table.push_back((int32_t)page.size());
            page.insert(page.end(), x.s->page.begin(), x.s->page.end());
            for (int i = 0; i < x.count; i++) pos.push_back(x.s->n_pos + i), seq_of.push_back((int32_t)first.size() - 1);
            const int n = (int)x.s->page.size();
            b.max_page = n > b.max_page ? n : b.max_page;
        }
        for (int i = 0; i < pad; i++) pos.push_back(0), seq_of.push_back(-1);
        if (pad) first.push_back(0), count.push_back(0), pos0.push_back(0), table.push_back(0);
        b.n_tok = (int32_t)pos.size(), b.n_seq = (int32_t)first.size();
        b.pos = on_device(pos), b.seq_of = on_device(seq_of), b.table = on_device(table), b.page = on_device(page);
        b.first = on_device(first), b.count = on_device(count), b.pos0 = on_device(pos0);
        b.bad_tok = on_device(std::vector<uint8_t>(pos.size(), 0));
    }
    void put(const floats &x, int which) {
        const float *d = on_device(x);
        wkc_kv_put(nullptr, &kv, layer, which, d, &b);
        assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
        drop(d);
    }
    /* Random K and V of the batch, to the device and to the sequences. */
    void bring(const std::vector<piece> &p, int pad) {
        batch(p, pad);
        for (int which = 0; which < 2; which++) {
            floats x = random_floats((size_t)b.n_tok * (size_t)row(), 2.0f), y(x.size());
            put(x, which);
            assert_int_equal(stored(y.data(), x.data(), kv.kv_type, (int)x.size()), 0);
            for (size_t i = 0; i < p.size(); i++) {
                const float *at = y.data() + (size_t)first[i] * (size_t)row();
                p[i].s->kv[which].insert(p[i].s->kv[which].end(), at, at + p[i].count * row());
            }
        }
        for (const piece &x : p) x.s->n_pos += x.count;
        for (uint8_t bad : from_device(b.bad_tok, (size_t)b.n_tok)) assert_int_equal(bad, 0);
    }
};

/* One head of one token, in double. q: hd values; pos: the token's. */
static inline void want_head(double *o, const world *w, const sequence *s, const float *q, int pos, int h, double scale,
                             double softcap, int window) {
    const int hd = w->kv.head_dim, lo = window && pos >= window ? pos - window + 1 : 0;
    std::vector<double> e;
    double m = -INFINITY, l = 0;
    for (int i = lo; i <= pos; i++) {
        const float *k = s->kv[0].data() + (size_t)i * (size_t)w->row() + h * hd;
        double x = 0;
        for (int d = 0; d < hd; d++) x += (double)q[d] * (double)k[d];
        x *= scale;
        if (softcap > 0) x = softcap * tanh(x / softcap);
        e.push_back(x);
        m = x > m ? x : m;
    }
    for (int d = 0; d < hd; d++) o[d] = 0;
    for (int i = lo; i <= pos; i++) {
        const double p = exp(e[(size_t)(i - lo)] - m);
        const float *v = s->kv[1].data() + (size_t)i * (size_t)w->row() + h * hd;
        l += p;
        for (int d = 0; d < hd; d++) o[d] += p * (double)v[d];
    }
    for (int d = 0; d < hd; d++) o[d] /= l;
}

#endif
