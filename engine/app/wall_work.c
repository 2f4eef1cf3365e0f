/* wall_work.c: what the measurements need beside the model: its shape, a folder, a text to train on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/app/env.h"
#include "engine/app/wall_impl.h"
#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

/* ---- folder -------------------------------------------------------------------------------------- */

wick_status wk_wall_folder(wk_wall *w, wick_error *err) {
    const char *tmp = wk_env("TMPDIR");
    (void)snprintf(w->dir, sizeof(w->dir), "%.120s/wick-wall-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(w->dir)) {
        const int why = errno;
        wk_fail(err, WICK_E_IO, "no temporary folder %s: %s", wk_show(wk_cstr(w->dir)).text, strerror(why));
        w->dir[0] = 0;
        return WICK_E_IO;
    }
    (void)snprintf(w->fresh, sizeof(w->fresh), "%s/fresh.gguf", w->dir);
    (void)snprintf(w->adapter, sizeof(w->adapter), "%s/adapter.gguf", w->dir);
    (void)snprintf(w->data, sizeof(w->data), "%s/data.wtok", w->dir);
    (void)snprintf(w->text, sizeof(w->text), "%s/text.txt", w->dir);
    return WICK_OK;
}

/* Files only: nothing makes a folder in it. */
void wk_wall_folder_remove(wk_wall *w) {
    if (!w->dir[0]) return;
    DIR *d = opendir(w->dir);
    const struct dirent *e;
    while (d && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.') (void)unlinkat(dirfd(d), e->d_name, 0); /* what stays is seen by rmdir */
    if (d) (void)closedir(d);
    (void)rmdir(w->dir); /* a folder that stays in /tmp is no error of the measurement */
    w->dir[0] = 0;
}

double wk_wall_peak_rss(void) {
    char text[4096];
    if (wk_os_read_small("/proc/self/status", text, sizeof(text)) <= 0) return 0;
    const char *at = strstr(text, "VmHWM:");
    return at ? strtod(at + 6, NULL) * 1024 : 0;
}

/* ---- shape --------------------------------------------------------------------------------------- */

static double number_of(const wick_model *m, const char *key) {
    char text[64] = "";
    (void)wick_model_get(m, key, text, sizeof(text), NULL); /* absent: 0 */
    return strtod(text, NULL);
}

/* The width of the feed-forward part and whether the head is the embedding, from the tensors. */
static void read_tensors(wk_wall *w) {
    const char *name, *format;
    size_t n;
    uint64_t ne[4], bytes;
    int n_dim;
    w->shape.tied = 1;
    for (size_t i = 0; wick_x_tensor(w->b.model, i, &name, &n, &format, ne, &n_dim, &bytes) == WICK_OK; i++) {
        const wk_str s = {name, n};
        if (wk_str_is(s, "output.weight")) w->shape.tied = 0;
        if (wk_str_is(s, "blk.0.ffn_up.weight") && ne[1] <= INT32_MAX) w->shape.n_ff = (int32_t)ne[1];
    }
}

void wk_wall_shape(wk_wall *w) {
    const wick_model *m = w->b.model;
    w->shape.size = sizeof(w->shape);
    w->shape.dim = (int32_t)number_of(m, "dim");
    w->shape.n_layer = (int32_t)number_of(m, "n_layer");
    w->shape.n_head = (int32_t)number_of(m, "n_head");
    w->shape.n_head_kv = (int32_t)number_of(m, "n_head_kv");
    w->n_param = number_of(m, "n_param");
    (void)wick_model_get(m, "arch", w->arch, sizeof(w->arch), NULL); /* absent: "" */
    read_tensors(w);
}

/* ---- text ---------------------------------------------------------------------------------------- */

/* Letters only: such a piece stays itself in any tokenizer. */
static bool plain(const char *p, size_t n) {
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        const bool letter = (p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z');
        if (!letter && !(i == 0 && p[i] == ' ')) return false;
        any |= letter;
    }
    return any;
}

/* Pieces of the vocabulary by chance: the time of a step does not depend on what is in it. */
static wick_status write_pieces(wk_wall *w, size_t n_token, FILE *f, wick_error *err) {
    const uint32_t n_vocab = (uint32_t)number_of(w->b.model, "n_vocab");
    uint32_t counter = 0;
    size_t done = 0;
    for (size_t tries = 0; done < n_token && tries < 64 * n_token && n_vocab; tries++) {
        char piece[64];
        size_t len = 0;
        int control = 0;
        const wick_token id = (wick_token)wk_stat_draw(7, &counter, n_vocab);
        if (wick_x_piece(w->b.model, id, piece, sizeof(piece), &len, &control) || control || len >= sizeof(piece))
            continue;
        if (!plain(piece, len)) continue;
        if (fwrite(piece, 1, len, f) != len) break; /* said by ferror */
        if (++done % 16 == 0) (void)fputc(done % 256 ? ' ' : '\n', f);
    }
    if (ferror(f)) return wk_fail(err, WICK_E_IO, "%s could not be written", w->text);
    return done == n_token ? WICK_OK
                           : wk_fail(err, WICK_E_UNSUPPORTED, "the vocabulary holds no letters to make a text of");
}

wick_status wk_wall_text(wk_wall *w, size_t n_token, wick_error *err) {
    FILE *f = fopen(w->text, "wb");
    if (!f) return wk_fail(err, WICK_E_IO, "%s: %s", w->text, strerror(errno));
    wick_status rc = write_pieces(w, n_token, f, err);
    if (fclose(f) != 0 && !rc) rc = wk_fail(err, WICK_E_IO, "%s could not be written", w->text);
    if (rc) return rc;
    const char *paths[1] = {w->text};
    wick_x_data_info info = {.size = sizeof(info)};
    return wick_x_data_pack(paths, 1, NULL, w->base, w->data, 0, 0, NULL, NULL, &info, err);
}
