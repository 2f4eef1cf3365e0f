/* eval_choice.c: which of some endings the model finds likeliest.
 *
 * An ending's tokens begin where the tokens of "context ending" leave those that all endings share (hellaswag, as
 * llama.cpp has it) or those of the context alone (choice, lastword): a tokenizer may join the last letters of a
 * context with the first ones of an ending, and then both belong to the ending. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/eval_impl.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"

enum { ENDINGS = 4 };

/* One item and the room that all items share. */
typedef struct item {
    wk_buf text;
    wk_tokens context, all[WK_EVAL_CHOICES];
    double *log_p;
    bool *top;
    size_t cap;
    int n; /* endings */
    size_t from[WK_EVAL_CHOICES];
    double sum[WK_EVAL_CHOICES], tokens[WK_EVAL_CHOICES], bytes[WK_EVAL_CHOICES];
} item;

static void item_fini(item *it) {
    wk_buf_fini(&it->text);
    wk_eval_tokens_fini(&it->context);
    for (int i = 0; i < WK_EVAL_CHOICES; i++) wk_eval_tokens_fini(&it->all[i]);
    wk_free(it->log_p);
    wk_free(it->top);
}

static size_t shared(const wk_tokens *a, const wk_tokens *b, size_t most) {
    size_t n = 0;
    while (n < most && n < a->n && n < b->n && a->t[n] == b->t[n]) n++;
    return n;
}

/* The tokens of "context ending"; a blank stands between them unless one is there. */
static wick_status add_ending(const wk_eval *e, item *it, wk_str context, wk_str ending, wick_error *err) {
    wk_buf_reset(&it->text);
    const bool blank = context.n && ending.n && ending.p[0] != ' ' && context.p[context.n - 1] != ' ' &&
                       context.p[context.n - 1] != '\n';
    (void)wk_buf_add(&it->text, context.p, context.n);
    if (blank) (void)wk_buf_addc(&it->text, ' ');
    if (!wk_buf_add(&it->text, ending.p, ending.n)) return wk_fail(err, WICK_E_NOMEM, "no memory for a choice");
    it->bytes[it->n] = (double)ending.n;
    return wk_eval_tokens(&e->m, wk_buf_str(&it->text), true, &it->all[it->n++], err);
}

static wick_status make_room(item *it, size_t n, wick_error *err) {
    if (n <= it->cap) return WICK_OK;
    wk_free(it->log_p);
    wk_free(it->top);
    it->log_p = wk_new_n(double, n);
    it->top = wk_new_n(bool, n);
    it->cap = it->log_p && it->top ? n : 0;
    return it->cap ? WICK_OK : wk_fail(err, WICK_E_NOMEM, "no memory for %zu tokens", n);
}

static wick_status score(const wk_eval *e, item *it, int i, wick_error *err) {
    const wk_tokens *t = &it->all[i];
    WK_TRY(make_room(it, t->n, err));
    const wk_eval_score out = {it->log_p, it->top};
    if (!it->from[i]) it->from[i] = 1; /* nothing stands before the first token that could foretell it */
    WK_TRY(wk_eval_score_run(&e->m, t, it->from[i], &out, err));
    it->sum[i] = 0;
    for (size_t k = it->from[i]; k < t->n; k++) it->sum[i] += it->log_p[k];
    it->tokens[i] = t->n > it->from[i] ? (double)(t->n - it->from[i]) : 1;
    return WICK_OK;
}

/* The index of the largest sum over divisor (NULL: 1), the first of equals. */
static int best(const item *it, const double *divisor) {
    int at = 0;
    double most = 0;
    for (int i = 0; i < it->n; i++) {
        const double v = it->sum[i] / (divisor && divisor[i] > 0 ? divisor[i] : 1);
        if (i && v <= most) continue;
        most = v;
        at = i;
    }
    return at;
}

/* An event of --jsonl: what two runs are compared by, item by item. */
static void emit_item(const wk_eval *e, wk_eval_task task, const item *it, uint64_t number, int label) {
    if (e->second || e->emit->mode != WK_EMIT_JSONL) return;
    wk_emit_begin(e->emit, "item");
    wk_emit_str(e->emit, "task", wk_cstr(wk_eval_task_name(task)));
    wk_emit_int(e->emit, "item", (int64_t)number);
    wk_emit_int(e->emit, "label", label);
    wk_emit_key(e->emit, "log_p");
    for (int i = 0; i < it->n; i++)
        (void)wk_buf_addf(&e->emit->line, "%c%.9g", i ? ',' : '[', it->sum[i]); /* failure stays in line */
    (void)wk_buf_adds(&e->emit->line, "]");
    wk_emit_end(e->emit);
}

/* ---- hellaswag ----------------------------------------------------------------------------------- */

typedef struct swag {
    wk_str context, ending[ENDINGS];
    int label;
} swag;

/* Six lines; false: the file is at its end. */
static wick_status read_swag(wk_eval_file *f, swag *s, bool *there, wick_error *err) {
    wk_str label;
    *there = false;
    do {
        if (!wk_eval_line(f, &s->context)) return WICK_OK;
    } while (!s->context.n);
    bool whole = wk_eval_line(f, &label);
    if (whole && (label.n != 1 || label.p[0] < '0' || label.p[0] > '3')) {
        (void)wk_fail(err, WICK_E_FORMAT, "\"%s\" is no index of an ending, 0 to 3", wk_show(label).text);
        return wk_eval_at(f, err);
    }
    s->label = whole ? label.p[0] - '0' : 0;
    for (int i = 0; i < ENDINGS && whole; i++) {
        whole = wk_eval_line(f, &s->ending[i]);
        if (!whole || s->ending[i].n) continue;
        (void)wk_fail(err, WICK_E_FORMAT, "ending %d is empty", i);
        return wk_eval_at(f, err);
    }
    *there = whole;
    if (whole) return WICK_OK;
    (void)wk_fail(err, WICK_E_FORMAT, "the file ends within a task; six lines make one: context, index, four endings");
    return wk_eval_at(f, err);
}

static wick_status do_swag(const wk_eval *e, item *it, const swag *s, wick_error *err) {
    it->n = 0;
    for (int i = 0; i < ENDINGS; i++) WK_TRY(add_ending(e, it, s->context, s->ending[i], err));
    size_t common = it->all[0].n;
    for (int i = 1; i < ENDINGS; i++) common = shared(&it->all[0], &it->all[i], common);
    for (int i = 0; i < ENDINGS; i++) {
        it->from[i] = common < it->all[i].n ? common : it->all[i].n - 1;
        WK_TRY(score(e, it, i, err));
    }
    return WICK_OK;
}

wick_status wk_eval_hellaswag(wk_eval *e, wick_error *err) {
    wk_eval_file f;
    item it = {0};
    uint64_t n = 0, hits = 0;
    bool there = true;
    wk_buf_init(&it.text, 0);
    wick_status rc = wk_eval_file_open(&f, e->data[WK_EVAL_HELLASWAG], err);
    const double total = rc ? 0 : wk_eval_count(&f, 2 + ENDINGS, e->limit);
    while (!rc && (!e->limit || n < (uint64_t)e->limit)) {
        swag s = {0};
        rc = read_swag(&f, &s, &there, err);
        if (rc || !there) break;
        rc = do_swag(e, &it, &s, err);
        if (rc) {
            rc = wk_eval_at(&f, err);
            break;
        }
        const bool hit = best(&it, it.tokens) == s.label;
        hits += hit;
        wk_eval_unit(e, hit);
        emit_item(e, WK_EVAL_HELLASWAG, &it, n++, s.label);
        rc = wk_eval_step(e, "hellaswag", (double)n, total, "tasks", err);
    }
    if (!rc) wk_eval_share_add(e, WK_EVAL_HELLASWAG, "acc_norm", hits, n, "tasks");
    item_fini(&it);
    wk_eval_file_close(&f);
    return rc;
}

/* ---- choice -------------------------------------------------------------------------------------- */

typedef struct question {
    wk_json_doc *doc; /* jsonl; what follows points into it, or into the file's cells */
    wk_str context, choice[WK_EVAL_CHOICES];
    int n, label;
} question;

/* "B", or an index. -1: neither. */
static int label_of(wk_str s, int n) {
    if (s.n != 1) return -1;
    const int at = s.p[0] >= 'A' ? s.p[0] - 'A' : s.p[0] - '0';
    return at >= 0 && at < n ? at : -1;
}

static wick_status read_object(wk_eval_file *f, question *q, wick_error *err) {
    WK_TRY(wk_eval_json(f, &q->doc, err));
    if (!q->doc) return WICK_OK;
    const wk_json *root = wk_json_root(q->doc), *list = wk_json_get(root, "choices"), *label = wk_json_get(root, "label");
    WK_TRY(wk_eval_member(f, root, "context", &q->context, err));
    const size_t n = wk_json_type(list) == WK_JSON_ARRAY ? wk_json_count(list) : 0;
    bool ok = n >= 2 && n <= WK_EVAL_CHOICES;
    for (size_t i = 0; ok && i < n; i++) {
        ok = wk_json_type(wk_json_at(list, i)) == WK_JSON_STR && wk_json_str(wk_json_at(list, i)).n > 0;
        if (ok) q->choice[i] = wk_json_str(wk_json_at(list, i));
    }
    if (!ok) {
        (void)wk_fail(err, WICK_E_FORMAT, "\"choices\" is no list of 2 to %d texts", WK_EVAL_CHOICES);
        return wk_eval_at(f, err);
    }
    q->n = (int)n;
    const int64_t at = wk_json_type(label) == WK_JSON_INT ? wk_json_int(label)
                       : wk_json_type(label) == WK_JSON_STR ? label_of(wk_json_str(label), q->n) : -1;
    if (at >= 0 && at < q->n) {
        q->label = (int)at;
        return WICK_OK;
    }
    (void)wk_fail(err, WICK_E_FORMAT, "\"label\" names none of the %d choices", q->n);
    return wk_eval_at(f, err);
}

static wick_status read_header(wk_eval_file *f, wick_error *err) {
    static const char *const head[] = {"question", "A", "B", "C", "D", "answer"};
    WK_TRY(wk_eval_record(f, err));
    bool ok = f->n_cell == (int)WK_COUNT(head);
    for (int i = 0; ok && i < f->n_cell; i++) ok = wk_str_is(wk_buf_str(&f->cell[i]), head[i]);
    if (ok) return WICK_OK;
    (void)wk_fail(err, WICK_E_FORMAT, "neither an object a line nor a table that begins with question,A,B,C,D,answer");
    return wk_eval_at(f, err);
}

static wick_status read_row(wk_eval_file *f, question *q, wick_error *err) {
    WK_TRY(wk_eval_record(f, err));
    if (!f->n_cell) return WICK_OK;
    q->n = ENDINGS;
    q->context = wk_buf_str(&f->cell[0]);
    bool ok = f->n_cell == ENDINGS + 2 && q->context.n > 0;
    for (int i = 0; ok && i < ENDINGS; i++) {
        q->choice[i] = wk_buf_str(&f->cell[1 + i]);
        ok = q->choice[i].n > 0;
    }
    q->label = ok ? label_of(wk_buf_str(&f->cell[1 + ENDINGS]), ENDINGS) : -1;
    if (ok && q->label >= 0) return WICK_OK;
    q->n = 0;
    (void)wk_fail(err, WICK_E_FORMAT, "a record wants six cells: a question, four answers and the letter of one; found %d",
                  f->n_cell);
    return wk_eval_at(f, err);
}

static wick_status do_question(const wk_eval *e, item *it, const question *q, wick_error *err) {
    it->n = 0;
    WK_TRY(wk_eval_tokens(&e->m, q->context, true, &it->context, err));
    for (int i = 0; i < q->n; i++) {
        WK_TRY(add_ending(e, it, q->context, q->choice[i], err));
        it->from[i] = shared(&it->context, &it->all[i], it->all[i].n - 1);
        WK_TRY(score(e, it, i, err));
    }
    return WICK_OK;
}

wick_status wk_eval_choice(wk_eval *e, wick_error *err) {
    wk_eval_file f;
    item it = {0};
    uint64_t n = 0, hits[3] = {0};
    wk_buf_init(&it.text, 0);
    wick_status rc = wk_eval_file_open(&f, e->data[WK_EVAL_CHOICE], err);
    const bool table = !rc && f.rest.p[0] != '{';
    const double total = rc ? 0 : wk_eval_count(&f, 1, e->limit);
    if (table) rc = read_header(&f, err);
    while (!rc && (!e->limit || n < (uint64_t)e->limit)) {
        question q = {0};
        rc = table ? read_row(&f, &q, err) : read_object(&f, &q, err);
        if (!rc && q.n && do_question(e, &it, &q, err)) rc = wk_eval_at(&f, err);
        if (!rc && q.n) {
            const double *by[3] = {NULL, it.tokens, it.bytes};
            for (int k = 0; k < 3; k++) hits[k] += best(&it, by[k]) == q.label;
            wk_eval_unit(e, best(&it, NULL) == q.label);
            emit_item(e, WK_EVAL_CHOICE, &it, n++, q.label);
            rc = wk_eval_step(e, "choice", (double)n, total, "questions", err);
        }
        wk_json_free(q.doc);
        if (!q.n) break;
    }
    static const char *const metric[3] = {"acc", "acc per token", "acc per byte"};
    for (int k = 0; k < 3 && !rc; k++) wk_eval_share_add(e, WK_EVAL_CHOICE, metric[k], hits[k], n, "questions");
    item_fini(&it);
    wk_eval_file_close(&f);
    return rc;
}

/* ---- lastword ------------------------------------------------------------------------------------ */

/* Where the last word begins; 0: there is none behind other text. */
static size_t last_word(wk_str *s) {
    while (s->n && (s->p[s->n - 1] == ' ' || s->p[s->n - 1] == '\n')) s->n--;
    size_t at = s->n;
    while (at && s->p[at - 1] != ' ' && s->p[at - 1] != '\n') at--;
    while (at && (s->p[at - 1] == ' ' || s->p[at - 1] == '\n')) at--;
    return at;
}

static wick_status do_word(const wk_eval *e, item *it, wk_str text, bool *hit, wick_error *err) {
    const size_t at = last_word(&text);
    it->n = 1;
    *hit = true;
    if (!at) return wk_fail(err, WICK_E_FORMAT, "the text has no last word behind another");
    WK_TRY(wk_eval_tokens(&e->m, (wk_str){text.p, at}, true, &it->context, err));
    WK_TRY(wk_eval_tokens(&e->m, text, true, &it->all[0], err));
    it->from[0] = shared(&it->context, &it->all[0], it->all[0].n - 1);
    WK_TRY(score(e, it, 0, err));
    for (size_t k = it->from[0]; k < it->all[0].n; k++) *hit &= it->top[k];
    return WICK_OK;
}

wick_status wk_eval_lastword(wk_eval *e, wick_error *err) {
    wk_eval_file f;
    item it = {0};
    uint64_t n = 0, hits = 0;
    double sum = 0;
    wk_buf_init(&it.text, 0);
    wick_status rc = wk_eval_file_open(&f, e->data[WK_EVAL_LASTWORD], err);
    const double total = rc ? 0 : wk_eval_count(&f, 1, e->limit);
    while (!rc && (!e->limit || n < (uint64_t)e->limit)) {
        wk_json_doc *doc = NULL;
        wk_str text = {0};
        bool hit = false;
        rc = wk_eval_json(&f, &doc, err);
        if (rc || !doc) break;
        rc = wk_eval_member(&f, wk_json_root(doc), "text", &text, err);
        if (!rc && do_word(e, &it, text, &hit, err)) rc = wk_eval_at(&f, err);
        if (!rc) {
            hits += hit;
            wk_eval_unit(e, hit);
            sum += it.sum[0];
            emit_item(e, WK_EVAL_LASTWORD, &it, n++, hit);
            rc = wk_eval_step(e, "lastword", (double)n, total, "texts", err);
        }
        wk_json_free(doc);
    }
    if (!rc) wk_eval_share_add(e, WK_EVAL_LASTWORD, "greedy match", hits, n, "texts");
    if (!rc && n) (void)wk_eval_row_add(e, WK_EVAL_LASTWORD, "perplexity of the word", exp(-sum / (double)n), n, "texts");
    item_fini(&it);
    wk_eval_file_close(&f);
    return rc;
}
