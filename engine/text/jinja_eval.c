/* jinja_eval.c: the machine that runs a template's code. One operation is one function; failure is false,
 * with the reason in vm->err. */
#include <string.h>

#include "engine/base/os.h"
#include "engine/text/jinja_val.h"

#define MAX_STACK ((size_t)1 << 20)

/* ---- stacks, scopes, output -------------------------------------------------------------------- */

static bool no_memory(wk_jvm *vm) {
    if (!vm->rc) vm->rc = wk_fail(vm->err, WICK_E_NOMEM, "no memory to render the template");
    return false;
}

static bool push(wk_jvm *vm, wk_jv v) {
    if (vm->n_stack >= MAX_STACK) return wk_j_fail(vm, "its expressions are nested too deep");
    if (!wk_j_grow(&vm->stack, &vm->room_stack, vm->n_stack, sizeof(wk_jv))) return no_memory(vm);
    vm->stack[vm->n_stack++] = v;
    return true;
}

static wk_jv pop(wk_jvm *vm) { return vm->stack[--vm->n_stack]; }
static wk_jv *top(wk_jvm *vm) { return &vm->stack[vm->n_stack - 1]; }
static void jump(wk_jvm *vm, const wk_jop *o) { vm->pc = (size_t)((int64_t)vm->pc - 1 + o->c); }

static wk_jframe *frame_new(wk_jvm *vm, wk_jframe *parent) {
    wk_jframe *f = (wk_jframe *)wk_j_get(vm, sizeof(*f));
    if (f) f->parent = parent;
    return f;
}

static struct wk_jbind *frame_find(wk_jframe *f, uint32_t name) {
    for (size_t i = 0; i < f->n; i++)
        if (f->bind[i].name == name) return &f->bind[i];
    return NULL;
}

static bool bind(wk_jvm *vm, wk_jframe *f, uint32_t name, wk_jv v) {
    struct wk_jbind *b = frame_find(f, name);
    if (!wk_j_charge(vm, f->n)) return false;
    if (b) {
        b->v = v;
        return true;
    }
    if (f->n == f->room) {
        const size_t room = f->room ? f->room * 2 : 4;
        b = (struct wk_jbind *)wk_j_get_n(vm, room, sizeof(*b));
        if (!b) return false;
        if (f->n) memcpy(b, f->bind, f->n * sizeof(*b));
        f->bind = b;
        f->room = room;
    }
    f->bind[f->n++] = (struct wk_jbind){name, v};
    return true;
}

/* Scopes from the inside out, then the request, then the builtin functions. */
static bool find_variable(wk_jvm *vm, uint32_t name, wk_jv *out) {
    const wk_jv id = vm->t->name[name];
    *out = wk_j_undef();
    out->u.s = id.u.s;
    for (wk_jframe *f = vm->frame; f; f = f->parent) {
        const struct wk_jbind *b = frame_find(f, name);
        if (!wk_j_charge(vm, f->n)) return false;
        if (!b) continue;
        if (b->v.tag != WK_J_MISSING) *out = b->v;
        return true;
    }
    if (wk_j_dict_get(vm, vm->vars.u.dict, id, out)) return true;
    const wk_jrow *row = wk_j_find_global(wk_j_text(id.u.s));
    if (row) *out = (wk_jv){.tag = WK_J_FN, .u.fn = row};
    return true;
}

static bool add_run(wk_jvm *vm, size_t n, bool user) {
    wk_jinja_out *out = vm->out;
    if (out->n_run && out->run[out->n_run - 1].user == user) {
        out->run[out->n_run - 1].end += n;
        return true;
    }
    if (!wk_j_grow(&out->run, &out->room, out->n_run, sizeof(wk_jinja_run))) return no_memory(vm);
    const size_t begin = out->n_run ? out->run[out->n_run - 1].end : 0;
    out->run[out->n_run++] = (wk_jinja_run){begin, begin + n, user};
    return true;
}

static bool write_out(wk_jvm *vm, const wk_jstr *s) {
    wk_buf *text = &vm->out->text;
    if (s->n == 0) return true;
    if (s->n > vm->budget->out_bytes - text->n)
        return wk_j_fail(vm, "it writes more than %zu bytes", vm->budget->out_bytes);
    if (!wk_j_charge(vm, s->n)) return false;
    if (!wk_buf_add(text, s->p, s->n)) return no_memory(vm);
    if (!s->mask) return add_run(vm, s->n, s->user);
    for (size_t i = 0, j; i < s->n; i = j) {
        for (j = i + 1; j < s->n && s->mask[j] == s->mask[i];) j++;
        if (!add_run(vm, j - i, s->mask[i])) return false;
    }
    return true;
}

static bool emit(wk_jvm *vm, wk_jv v) {
    const wk_jstr *s;
    if (vm->n_capture) return wk_j_put_value(vm, vm->pad[vm->capture[vm->n_capture - 1]], v);
    return wk_j_to_str(vm, v, &s) && write_out(vm, s);
}

static bool capture(wk_jvm *vm) {
    if (!wk_j_grow(&vm->capture, &vm->room_capture, vm->n_capture, sizeof(size_t)))
        return no_memory(vm);
    vm->capture[vm->n_capture++] = vm->n_pad;
    return wk_j_pad(vm) != NULL;
}

static bool capture_end(wk_jvm *vm, wk_jv *out) {
    return wk_j_pad_done(vm, vm->pad[vm->capture[--vm->n_capture]], out);
}

/* ---- operations: constants, variables, access --------------------------------------------------- */

#define OP(name) static bool do_##name(wk_jvm *vm, const wk_jop *o)

OP(HALT) {
    (void)vm; /* the signature of all operations */
    (void)o;
    return true;
}
OP(TEXT) { return emit(vm, vm->t->constant[o->c]); }
OP(EMIT) {
    (void)o;
    return emit(vm, pop(vm));
}
OP(CONST) { return push(vm, vm->t->constant[o->c]); }
OP(LOAD) {
    wk_jv v;
    return find_variable(vm, (uint32_t)o->c, &v) && push(vm, v);
}
OP(STORE) { return bind(vm, vm->frame, (uint32_t)o->c, pop(vm)); }
OP(SET_ATTR) {
    const wk_jv space = pop(vm), v = pop(vm);
    if (space.tag == WK_J_UNDEF) return wk_j_undefined(vm, space);
    if (space.tag != WK_J_SPACE)
        return wk_j_fail(vm, "set wants a namespace before the '.', not a %s", wk_j_type(space));
    return wk_j_dict_put(vm, space.u.dict, vm->t->name[o->c], v);
}
OP(UNPACK) {
    wk_jv list;
    if (!wk_j_to_list(vm, pop(vm), WK_J_AS_LIST, &list)) return false;
    const size_t n = list.u.list->n;
    if (n != o->a) return wk_j_fail(vm, "%zu values for %d names", n, o->a);
    for (size_t i = n; i > 0; i--)
        if (!push(vm, list.u.list->v[i - 1])) return false;
    return true;
}
OP(ATTR) {
    wk_jv v;
    if (!wk_j_attr(vm, *top(vm), vm->t->name[o->c], &v)) return false;
    *top(vm) = v;
    return true;
}
OP(ITEM) {
    const wk_jv key = pop(vm);
    wk_jv v;
    (void)o;
    if (!wk_j_item(vm, *top(vm), key, &v)) return false;
    *top(vm) = v;
    return true;
}
OP(SLICE) {
    wk_jv at[3] = {wk_j_none(), wk_j_none(), wk_j_none()}, v;
    for (int i = 2; i >= 0; i--)
        if (o->a & (1 << i)) at[i] = pop(vm);
    if (!wk_j_part(vm, *top(vm), at, &v)) return false;
    *top(vm) = v;
    return true;
}

/* ---- operations: operators ---------------------------------------------------------------------- */

OP(NOT) {
    (void)o;
    *top(vm) = wk_j_bool(!wk_j_truth(*top(vm)));
    return true;
}
OP(SIGN) {
    const wk_jv v = *top(vm);
    if (v.tag == WK_J_REAL) {
        if (o->a) top(vm)->u.d = -v.u.d;
        return true;
    }
    return wk_j_math(vm, o->a ? WK_J_SUB : WK_J_ADD, wk_j_int(0), v, top(vm));
}
OP(MATH) {
    const wk_jv y = pop(vm), x = *top(vm);
    return wk_j_math(vm, o->a, x, y, top(vm));
}
OP(CONCAT) {
    const wk_jv y = pop(vm), x = *top(vm);
    const wk_jstr *a, *b;
    (void)o;
    return wk_j_to_str(vm, x, &a) && wk_j_to_str(vm, y, &b) && wk_j_concat(vm, a, b, top(vm));
}
OP(COMPARE) {
    const wk_jv y = pop(vm), x = *top(vm);
    bool holds;
    if (!wk_j_compare(vm, o->a, x, y, &holds)) return false;
    *top(vm) = wk_j_bool(holds);
    return true;
}
OP(CHAIN) {
    const wk_jv y = pop(vm), x = *top(vm);
    bool holds;
    if (!wk_j_compare(vm, o->a, x, y, &holds)) return false;
    *top(vm) = holds ? y : wk_j_bool(false);
    if (!holds) jump(vm, o);
    return true;
}
OP(JUMP) {
    jump(vm, o);
    return true;
}
OP(JUMP_NOT) {
    if (!wk_j_truth(pop(vm))) jump(vm, o);
    return true;
}
OP(AND) {
    if (!wk_j_truth(*top(vm)))
        jump(vm, o);
    else
        vm->n_stack--;
    return true;
}
OP(OR) {
    if (wk_j_truth(*top(vm)))
        jump(vm, o);
    else
        vm->n_stack--;
    return true;
}

/* ---- operations: lists and dicts ---------------------------------------------------------------- */

OP(LIST) {
    wk_jv v;
    (void)o;
    return wk_j_list(vm, WK_J_AS_LIST, &v) && push(vm, v);
}
OP(TUPLE) {
    wk_jv v;
    if (!wk_j_list(vm, WK_J_AS_TUPLE, &v)) return false;
    return (o->a == 0 || wk_j_append(vm, v.u.list, pop(vm))) && push(vm, v);
}
OP(APPEND) {
    const wk_jv v = pop(vm);
    (void)o;
    return wk_j_append(vm, top(vm)->u.list, v);
}
OP(DICT) {
    wk_jv v;
    (void)o;
    return wk_j_dict(vm, &v) && push(vm, v);
}
OP(PUT) {
    const wk_jv v = pop(vm), key = pop(vm);
    (void)o;
    return wk_j_dict_put(vm, top(vm)->u.dict, key, v);
}

/* ---- operations: calls -------------------------------------------------------------------------- */

static const char *macro_name(const wk_jvm *vm, const wk_jmacro *m, char text[100]) {
    const wk_shown shown = wk_show(wk_j_text(vm->t->name[m->name].u.s));
    memcpy(text, shown.text, sizeof(shown.text));
    return text;
}

/* Binds the arguments; what is not given stays missing until its default is computed. */
static bool bind_params(wk_jvm *vm, wk_jframe *f, const wk_jmacro *m, const wk_jcall *c) {
    const uint32_t *param = m->n_param ? vm->t->param + m->first_param : NULL;
    char text[100];
    if (c->n - 1 > m->n_param)
        return wk_j_fail(vm, "macro %s takes %u arguments, not %zu", macro_name(vm, m, text),
                         m->n_param, c->n - 1);
    for (uint32_t i = 0; i < m->n_param; i++)
        if (!bind(vm, f, param[i], i + 1 < c->n ? c->v[i + 1] : (wk_jv){.tag = WK_J_MISSING}))
            return false;
    for (size_t i = 0; i < c->n_kw; i++) {
        struct wk_jbind *b = frame_find(f, c->kw_name[i]);
        if (!b || b->v.tag != WK_J_MISSING)
            return wk_j_fail(vm, "macro %s cannot take the argument '%s'", macro_name(vm, m, text),
                             wk_show(wk_j_text(vm->t->name[c->kw_name[i]].u.s)).text);
        b->v = c->kw[i];
    }
    return true;
}

static bool enter_macro(wk_jvm *vm, const wk_jclosure *macro, const wk_jcall *c, size_t base) {
    if (vm->n_back >= (size_t)vm->budget->depth)
        return wk_j_fail(vm, "its macros are nested deeper than %d", vm->budget->depth);
    wk_jframe *f = frame_new(vm, macro->frame);
    if (!f || !bind_params(vm, f, macro->macro, c)) return false;
    if (!wk_j_grow(&vm->back, &vm->room_back, vm->n_back, sizeof(wk_jreturn))) return no_memory(vm);
    vm->back[vm->n_back++] = (wk_jreturn){.pc = vm->pc, .n_loop = vm->n_loop, .frame = vm->frame};
    vm->n_stack = base;
    vm->frame = f;
    vm->pc = macro->macro->entry;
    return capture(vm);
}

static wk_jcall call_of(const wk_jvm *vm, const wk_jop *o, size_t *base) {
    *base = vm->n_stack - o->a - o->b - 1;
    const wk_jv *v = vm->stack + *base;
    wk_jcall c = {.v = v, .n = 1u + o->a, .kw = v + 1 + o->a, .n_kw = o->b};
    if (o->b) c.kw_name = vm->t->keyword + o->c;
    return c;
}

static bool run_row(wk_jvm *vm, const wk_jrow *row, const wk_jop *o) {
    size_t base;
    const wk_jcall c = call_of(vm, o, &base);
    wk_jv out = wk_j_undef();
    if (!wk_j_call_row(vm, row, &c, &out)) return false;
    vm->n_stack = base;
    return push(vm, out);
}

/* A method; those of safe strings give safe strings, or lists of them. */
static bool run_method(wk_jvm *vm, const wk_jrow *row, const wk_jop *o) {
    const bool safe = wk_j_is_safe(vm->stack[vm->n_stack - o->a - o->b - 1]);
    if (!run_row(vm, row, o)) return false;
    wk_jv *out = top(vm);
    if (safe && out->tag == WK_J_STR) out->kind = WK_J_SAFE;
    for (size_t i = 0; safe && out->tag == WK_J_LIST && i < out->u.list->n; i++)
        out->u.list->v[i].kind = WK_J_SAFE;
    return true;
}

OP(CALL) {
    size_t base;
    const wk_jcall c = call_of(vm, o, &base);
    const wk_jv f = vm->stack[base];
    if (f.tag == WK_J_MACRO) return enter_macro(vm, f.u.macro, &c, base);
    if (f.tag == WK_J_FN) return run_row(vm, f.u.fn, o);
    if (f.tag == WK_J_UNDEF) return wk_j_undefined(vm, f);
    if (f.tag != WK_J_BOUND) return wk_j_fail(vm, "a %s cannot be called", wk_j_type(f));
    vm->stack[base] = f.u.bound->self;
    return run_method(vm, f.u.bound->row, o);
}
OP(METHOD) {
    const size_t base = vm->n_stack - o->a - o->b - 1;
    const wk_jv self = vm->stack[base], name = vm->t->name[o->d];
    const wk_jrow *row = wk_j_find_method(self, wk_j_text(name.u.s));
    if (row) return run_method(vm, row, o);
    wk_jv f;
    if (!wk_j_attr(vm, self, name, &f)) return false;
    vm->stack[base] = f;
    return do_CALL(vm, o);
}
OP(FILTER) { return run_row(vm, wk_j_find_filter(WK_STR("")) + o->d, o); }
OP(TEST) { return run_row(vm, wk_j_find_test(WK_STR("")) + o->d, o); }

OP(MACRO) {
    wk_jclosure *c = (wk_jclosure *)wk_j_get(vm, sizeof(*c));
    if (!c) return false;
    *c = (wk_jclosure){vm->t->macro + o->c, vm->frame};
    return push(vm, (wk_jv){.tag = WK_J_MACRO, .u.macro = c});
}
OP(PARAM) {
    const struct wk_jbind *b = frame_find(vm->frame, (uint32_t)o->d);
    if (b && b->v.tag != WK_J_MISSING) jump(vm, o);
    return true;
}
OP(RETURN) {
    const wk_jreturn back = vm->back[--vm->n_back];
    wk_jv text;
    (void)o;
    vm->pc = back.pc;
    vm->n_loop = back.n_loop;
    vm->frame = back.frame;
    return capture_end(vm, &text) && push(vm, text);
}

/* ---- operations: loops and scopes --------------------------------------------------------------- */

static int64_t loop_length(wk_jvm *vm, wk_jv v) {
    int64_t n = 0;
    if (v.tag == WK_J_LIST && v.kind == WK_J_AS_GENERATOR)
        return (int64_t)(v.u.list->n - v.u.list->at);
    (void)wk_j_length(vm, v, &n); /* what can be iterated over has a length; a budget shows later */
    return n;
}

OP(FOR) {
    const wk_jv v = pop(vm);
    wk_jloop *l = (wk_jloop *)wk_j_get(vm, sizeof(*l));
    if (!l || !wk_j_iter(vm, &l->it, v)) return false;
    l->index0 = -1;
    l->length = loop_length(vm, v);
    l->outer = vm->frame;
    l->frame = frame_new(vm, vm->frame);
    l->n_pad = vm->n_pad;
    l->n_capture = vm->n_capture;
    wk_jv keep;
    if (o->a && !wk_j_list(vm, WK_J_AS_LIST, &keep)) return false;
    if (o->a) l->keep = keep.u.list;
    if (!l->frame || vm->rc) return false;
    if (!wk_j_grow(&vm->loop, &vm->room_loop, vm->n_loop, sizeof(wk_jloop *))) return no_memory(vm);
    vm->loop[vm->n_loop++] = l;
    return true;
}

/* A break or continue may come from inside scopes and captures: drop them. */
static wk_jloop *innermost(wk_jvm *vm) {
    wk_jloop *l = vm->loop[vm->n_loop - 1];
    vm->n_pad = l->n_pad;
    vm->n_capture = l->n_capture;
    return l;
}

OP(NEXT) {
    wk_jloop *l = innermost(vm);
    bool more = l->has_after;
    wk_jv v = l->after;
    l->has_after = false;
    if (!more && !wk_j_next(vm, &l->it, &v, &more)) return false;
    if (!more) {
        jump(vm, o);
        return true;
    }
    l->has_before = l->index0++ >= 0;
    l->before = l->now;
    l->now = v;
    vm->frame = l->frame;
    l->frame->n = 0;
    if (!l->keep && !bind(vm, l->frame, WK_J_LOOP_NAME, (wk_jv){.tag = WK_J_LOOP, .u.loop = l}))
        return false;
    return push(vm, v);
}
OP(KEEP) {
    wk_jloop *l = vm->loop[vm->n_loop - 1];
    (void)o;
    return wk_j_append(vm, l->keep, l->now);
}
OP(END_FOR) {
    wk_jloop *l = innermost(vm);
    vm->frame = l->outer;
    vm->n_loop--;
    return !o->a || push(vm, (wk_jv){.tag = WK_J_LIST, .u.list = l->keep});
}
OP(SCOPE) {
    wk_jframe *f = frame_new(vm, vm->frame);
    (void)o;
    if (!f) return false;
    vm->frame = f;
    return true;
}
OP(END_SCOPE) {
    (void)o;
    vm->frame = vm->frame->parent;
    return true;
}
OP(CAPTURE) { return capture(vm) && do_SCOPE(vm, o); }
OP(END_CAPTURE) {
    wk_jv text;
    return do_END_SCOPE(vm, o) && capture_end(vm, &text) && push(vm, text);
}

/* ---- render ------------------------------------------------------------------------------------ */

static bool run(wk_jvm *vm) {
    static bool (*const table[WK_JOP_COUNT])(wk_jvm *, const wk_jop *) = {
#define X(name) [WK_JOP_##name] = do_##name,
        WK_JOP_MAP(X)
#undef X
    };
    for (;;) {
        const wk_jop *o = &vm->t->op[vm->pc++];
        vm->line = o->line;
        if (o->op == WK_JOP_HALT) return true;
        if (!wk_j_charge(vm, 0) || !table[o->op](vm, o)) return false;
    }
}

static void fini(wk_jvm *vm) {
    wk_arena_fini(&vm->arena);
    for (size_t i = 0; i < vm->have_pad; i++) {
        wk_free(vm->pad[i]->p);
        wk_free(vm->pad[i]->mask);
        wk_free(vm->pad[i]);
    }
    wk_free(vm->pad);
    wk_free(vm->stack);
    wk_free(vm->loop);
    wk_free(vm->back);
    wk_free(vm->capture);
}

void wk_jinja_out_fini(wk_jinja_out *o) {
    wk_buf_fini(&o->text);
    wk_free(o->run);
    *o = (wk_jinja_out){0};
}

int wk_jinja_render(const wk_jinja *j, const wk_json *ctx, const char *const *trusted,
                    const wk_jinja_budget *b, wk_jinja_out *out, wk_err *err) {
    wk_jvm vm = {.t = j, .budget = b, .err = err, .out = out, .line = 1};
    *out = (wk_jinja_out){0};
    wk_buf_init(&out->text, b->out_bytes);
    wk_arena_init(&vm.arena, 0); /* wk_j_get holds the limit */
    vm.seed = wk_os_now_ns();    /* nothing that can be seen depends on it */
    bool ok = wk_json_type(ctx) == WK_JSON_OBJECT;
    if (!ok) vm.rc = wk_fail(err, WICK_E_ARG, "the variables of a template are not a JSON object");
    ok = ok && wk_j_import(&vm, ctx, trusted, false, true, &vm.vars);
    ok = ok && (vm.frame = frame_new(&vm, NULL)) != NULL;
    ok = ok && run(&vm);
    fini(&vm);
    if (ok) return WICK_OK;
    wk_jinja_out_fini(out);
    return vm.rc ? vm.rc : wk_fail(err, WICK_E_TEMPLATE, "the template failed without a reason");
}
