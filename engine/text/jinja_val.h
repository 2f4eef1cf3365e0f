/* jinja_val.h: what the files jinja*.c share: values, the parsed template, the machine that runs it.
 *
 * A template is flat code, not a tree with pointers: an expression is stored in postfix order, a statement
 * as jumps. The machine has stacks of its own, so that neither nested templates nor macros that call
 * themselves use the C stack. Rejected: walking a tree by recursion; 100 macros of 12 levels each
 * do not fit a thread of 256 KiB.
 *
 * All values of a render live in one arena with a cap and die together. Text under construction
 * (captures, join, tojson) grows in pads on the heap, which count against the same cap. */
#ifndef WK_JINJA_VAL_H
#define WK_JINJA_VAL_H

#include "engine/base/arena.h"
#include "engine/text/jinja.h"

/* ---- values ------------------------------------------------------------------------------------ */

enum {
    WK_J_UNDEF, /* name in s (may be NULL), owner's tag + 1 in kind */
    WK_J_NONE,
    WK_J_BOOL,
    WK_J_INT,
    WK_J_REAL,
    WK_J_STR,
    WK_J_LIST, /* kind: a wk_jkind, the same as in the list */
    WK_J_DICT,
    WK_J_RANGE,
    WK_J_MACRO,
    WK_J_FN,    /* a builtin function */
    WK_J_BOUND, /* a method of a value, not called yet */
    WK_J_SPACE, /* namespace() */
    WK_J_LOOP,
    WK_J_MISSING, /* an argument that was not given; never seen by templates */
    WK_J_TAG_COUNT
};

/* What kind of sequence a list stands for: it decides printing, tests and what may be done with it. */
#define WK_J_SAFE 1u /* kind of a string that went through |safe */
enum {
    WK_J_AS_LIST,
    WK_J_AS_TUPLE,
    WK_J_AS_ITEMS,
    WK_J_AS_KEYS,
    WK_J_AS_VALUES,
    WK_J_AS_GENERATOR
};

/* Text with provenance: mask[i] is 1 where byte i is user text; without a mask all of it is `user`.
 * A mask beside the bytes makes every slice, join and replace a matter of copying both alike. */
typedef struct wk_jstr {
    const char *p;
    const uint8_t *mask;
    size_t n;
    struct wk_jroom *room; /* free space behind the text, if it was made by concatenation */
    bool user;
} wk_jstr;

struct wk_jvm;
typedef struct wk_jlist wk_jlist;
typedef struct wk_jdict wk_jdict;
typedef struct wk_jrange {
    int64_t begin, step, n;
} wk_jrange;

typedef struct wk_jv {
    uint8_t tag, kind;
    union {
        bool b;
        int64_t i;
        double d;
        const wk_jstr *s;
        wk_jlist *list;
        wk_jdict *dict; /* also of a namespace */
        const wk_jrange *range;
        const struct wk_jclosure *macro;
        const struct wk_jrow *fn;
        const struct wk_jbound *bound;
        struct wk_jloop *loop;
    } u;
} wk_jv;

struct wk_jlist {
    wk_jv *v;
    size_t n, room;
    size_t at; /* generators: the next element */
};

typedef struct wk_jslot {
    wk_jv key, value; /* key.tag WK_J_MISSING: removed */
    uint64_t hash;
} wk_jslot;
struct wk_jdict {
    wk_jslot *slot;  /* in order of insertion */
    uint32_t *index; /* open addressing over slots + 1, once there are more than 8 */
    uint32_t n, live, room, mask;
};

typedef struct wk_jbound {
    wk_jv self;
    const struct wk_jrow *row;
} wk_jbound;

/* ---- the parsed template ----------------------------------------------------------------------- */

/* name, then what it does to the stack: before -> after. */
#define WK_JOP_MAP(X)                                                                              \
    X(HALT)     /* ends the render */                                                              \
    X(TEXT)     /* writes text constant c */                                                       \
    X(EMIT)     /* v -> ; writes it */                                                             \
    X(CONST)    /* -> constant c */                                                                \
    X(LOAD)     /* -> variable c */                                                                \
    X(STORE)    /* v -> ; variable c */                                                            \
    X(SET_ATTR) /* v, namespace -> ; attribute c */                                                \
    X(UNPACK)   /* v -> a values, the first on top */                                              \
    X(ATTR)     /* v -> v.c */                                                                     \
    X(ITEM)     /* v, key -> v[key] */                                                             \
    X(SLICE)    /* v, bounds of mask a -> part of v */                                             \
    X(NOT)      /* v -> bool */                                                                    \
    X(SIGN)     /* v -> -v (a = 1) or +v */                                                        \
    X(MATH)     /* x, y -> x a y */                                                                \
    X(CONCAT)   /* x, y -> text */                                                                 \
    X(COMPARE)  /* x, y -> x a y */                                                                \
    X(CHAIN)    /* x, y -> y, or false and a jump by c */                                          \
    X(JUMP)     /* jump by c */                                                                    \
    X(JUMP_NOT) /* v -> ; jump if false */                                                         \
    X(AND)      /* v -> v and a jump, or nothing */                                                \
    X(OR)       /* the same for true */                                                            \
    X(LIST)     /* -> [] */                                                                        \
    X(TUPLE)    /* v -> (v,) or, a = 0, -> () */                                                   \
    X(APPEND)   /* list, v -> list */                                                              \
    X(DICT)     /* -> {} */                                                                        \
    X(PUT)      /* dict, key, v -> dict */                                                         \
    X(CALL)     /* f, a values, b keyword values (names from c) -> result */                       \
    X(METHOD)   /* self, ... like CALL; name is constant d */                                      \
    X(FILTER)   /* v, ... like CALL; row d */                                                      \
    X(TEST)     /* v, a values -> bool; row d */                                                   \
    X(FOR)      /* v -> ; opens a loop, a = 1: one that only selects */                            \
    X(NEXT)     /* -> item, or a jump by c at the end */                                           \
    X(KEEP)     /* puts the item of a selecting loop into its result */                            \
    X(END_FOR)  /* closes the loop; a selecting one -> list */                                     \
    X(SCOPE)    /* opens a scope */                                                                \
    X(END_SCOPE)                                                                                   \
    X(CAPTURE)     /* output goes to a string from here, in a scope */                             \
    X(END_CAPTURE) /* -> the string */                                                             \
    X(MACRO)       /* -> macro c */                                                                \
    X(PARAM)       /* jump by c if variable d of the running macro is bound */                     \
    X(RETURN)      /* -> the macro's text, at the call */

enum {
#define X(name) WK_JOP_##name,
    WK_JOP_MAP(X)
#undef X
        WK_JOP_COUNT
};

enum { WK_J_ADD, WK_J_SUB, WK_J_MUL, WK_J_DIV, WK_J_FLOORDIV, WK_J_MOD, WK_J_POW };
enum { WK_J_EQ, WK_J_NE, WK_J_LT, WK_J_LE, WK_J_GT, WK_J_GE, WK_J_IN, WK_J_NOT_IN };

typedef struct wk_jop {
    uint8_t op, a, b;
    int32_t c, d;
    uint32_t line;
} wk_jop;

typedef struct wk_jmacro {
    uint32_t name, first_param, n_param; /* ids of names; params in wk_jinja.param */
    uint32_t entry;
} wk_jmacro;

struct wk_jinja {
    wk_arena arena; /* text of constants */
    char *src;
    wk_jop *op;
    wk_jv *constant;
    wk_jv *name;       /* variables, attributes and keywords: strings, each once */
    uint32_t *keyword; /* ids of names for calls */
    uint32_t *param;   /* ids of names */
    wk_jmacro *macro;
    size_t n_op, room_op, n_constant, room_constant, n_name, room_name, n_keyword, room_keyword,
        n_param, room_param, n_macro, room_macro;
};

#define WK_J_LOOP_NAME 0u /* the id of the name "loop" in every template */
#define WK_J_NEST 100     /* nested statements and brackets, nested values */

/* ---- the machine ------------------------------------------------------------------------------- */

/* A growing text with its mask (made when the first byte of the other kind arrives). */
typedef struct wk_jpad {
    char *p;
    uint8_t *mask;
    size_t n, room;
    bool user, masked;
} wk_jpad;

typedef struct wk_jframe {
    struct wk_jframe *parent; /* looked in next; NULL: the variables of the request */
    struct wk_jbind {
        uint32_t name;
        wk_jv v;
    } * bind;
    size_t n, room;
} wk_jframe;

typedef struct wk_jclosure {
    const wk_jmacro *macro;
    wk_jframe *frame; /* where it was defined */
} wk_jclosure;

typedef struct wk_jiter {
    wk_jv of;
    size_t i;
} wk_jiter;

typedef struct wk_jloop {
    wk_jiter it;
    wk_jv before, now, after;
    bool has_after, has_before; /* after is read ahead only when it is asked for */
    int64_t index0, length;     /* length -1: unknown yet */
    wk_jframe *outer, *frame;
    wk_jlist *keep;          /* a selecting loop */
    size_t n_pad, n_capture; /* what a break or continue goes back to */
} wk_jloop;

typedef struct wk_jreturn {
    size_t pc, n_loop;
    wk_jframe *frame;
} wk_jreturn;

typedef struct wk_jvm {
    const wk_jinja *t;
    const wk_jinja_budget *budget;
    wk_err *err;
    int rc;
    wk_arena arena;
    uint64_t steps;
    size_t pc;
    uint32_t line;
    int nest;   /* C functions that call each other over nested values */
    wk_jv vars; /* dict: the request */
    wk_jframe *frame;
    wk_jinja_out *out;
    uint64_t seed; /* of dict hashes */
    wk_jv *stack;
    wk_jloop **loop;
    wk_jreturn *back;
    wk_jpad **pad;
    size_t *capture; /* pads that capture output */
    size_t n_stack, room_stack, n_loop, room_loop, n_back, room_back, n_pad, room_pad, n_capture,
        room_capture;
    size_t have_pad, pad_bytes;
} wk_jvm;

/* A call's arguments: v[0] is the value itself for filters, tests and methods. */
typedef struct wk_jcall {
    const wk_jv *v;
    size_t n;
    const wk_jv *kw;
    const uint32_t *kw_name;
    size_t n_kw;
} wk_jcall;
/* a: the value, then the parameters in order (WK_J_MISSING where not given); rows with any arguments
 * get c as it was written. */
typedef bool wk_jfn(wk_jvm *vm, const wk_jv *a, const wk_jcall *c, wk_jv *out);
#define WK_J_MAX_PARAM 5
typedef struct wk_jrow {
    const char *name;
    wk_jfn *fn;
    uint8_t n_need; /* arguments that must be there */
    bool any;       /* takes any arguments */
    const char *param[WK_J_MAX_PARAM];
} wk_jrow;

/* jinja_val.c */
bool wk_j_fail(wk_jvm *vm, const char *fmt, ...)
    WK_PRINTF(2, 3);                  /* E_TEMPLATE with the line; false */
void *wk_j_get(wk_jvm *vm, size_t n); /* NULL: failed and said */
void *wk_j_get_n(wk_jvm *vm, size_t n, size_t size);
bool wk_j_charge(wk_jvm *vm, size_t bytes); /* steps for work over so many bytes */
/* The same for work that looks at each code point. */
bool wk_j_charge_each(wk_jvm *vm, size_t bytes);
bool wk_j_enter(wk_jvm *vm); /* one level of nested values more; wk_j_leave takes it back */
void wk_j_leave(wk_jvm *vm);
const char *wk_j_type(wk_jv v); /* for messages */

static inline wk_jv wk_j_undef(void) { return (wk_jv){.tag = WK_J_UNDEF}; }
static inline wk_jv wk_j_none(void) { return (wk_jv){.tag = WK_J_NONE}; }
static inline wk_jv wk_j_bool(bool b) { return (wk_jv){.tag = WK_J_BOOL, .u.b = b}; }
static inline wk_jv wk_j_int(int64_t i) { return (wk_jv){.tag = WK_J_INT, .u.i = i}; }
static inline wk_jv wk_j_real(double d) { return (wk_jv){.tag = WK_J_REAL, .u.d = d}; }
static inline wk_jv wk_j_strv(const wk_jstr *s) { return (wk_jv){.tag = WK_J_STR, .u.s = s}; }
static inline wk_str wk_j_text(const wk_jstr *s) { return (wk_str){s->p, s->n}; }
static inline bool wk_j_is_safe(wk_jv v) { return v.tag == WK_J_STR && v.kind == WK_J_SAFE; }
static inline bool wk_j_is_list(wk_jv v, int kind) { return v.tag == WK_J_LIST && v.kind == kind; }

bool wk_j_str_new(wk_jvm *vm, wk_str text, bool user, wk_jv *out);                   /* copies */
bool wk_j_str_view(wk_jvm *vm, wk_str text, bool user, wk_jv *out);                  /* borrows */
bool wk_j_slice(wk_jvm *vm, const wk_jstr *s, size_t begin, size_t end, wk_jv *out); /* bytes */
bool wk_j_concat(wk_jvm *vm, const wk_jstr *a, const wk_jstr *b, wk_jv *out);

/* Pads are used in the order of a stack. */
wk_jpad *wk_j_pad(wk_jvm *vm);
bool wk_j_pad_done(wk_jvm *vm, wk_jpad *p, wk_jv *out);
void wk_j_pad_drop(wk_jvm *vm, wk_jpad *p);
bool wk_j_put(wk_jvm *vm, wk_jpad *p, wk_str text, bool user);
bool wk_j_put_part(wk_jvm *vm, wk_jpad *p, const wk_jstr *s, size_t begin, size_t end);
static inline bool wk_j_put_str(wk_jvm *vm, wk_jpad *p, const wk_jstr *s) {
    return wk_j_put_part(vm, p, s, 0, s->n);
}

bool wk_j_list(wk_jvm *vm, int kind, wk_jv *out);
bool wk_j_append(wk_jvm *vm, wk_jlist *l, wk_jv v);
bool wk_j_pair(wk_jvm *vm, wk_jv a, wk_jv b, wk_jv *out); /* a tuple of two */

bool wk_j_truth(wk_jv v);
bool wk_j_number(wk_jv v, int64_t *i, double *d, bool *is_real); /* bool, int, real */
bool wk_j_index(wk_jv v, int64_t *i);                            /* bool, int */

/* jinja_dict.c: dicts, equality, order, iteration */
bool wk_j_dict(wk_jvm *vm, wk_jv *out);
bool wk_j_dict_put(wk_jvm *vm, wk_jdict *d, wk_jv key, wk_jv value);
bool wk_j_dict_get(wk_jvm *vm, const wk_jdict *d, wk_jv key,
                   wk_jv *value); /* false: absent, or key no key */
bool wk_j_dict_pop(wk_jvm *vm, wk_jdict *d, wk_jv key, wk_jv *value);
bool wk_j_can_be_key(wk_jv v);
bool wk_j_equal(wk_jvm *vm, wk_jv a, wk_jv b, bool *equal);
bool wk_j_order(wk_jvm *vm, wk_jv a, wk_jv b, int *order); /* -1 0 1; fails where Python would */
bool wk_j_contains(wk_jvm *vm, wk_jv where, wk_jv what, bool *found);
bool wk_j_iter(wk_jvm *vm, wk_jiter *it, wk_jv v);              /* fails if v is not iterable */
bool wk_j_next(wk_jvm *vm, wk_jiter *it, wk_jv *v, bool *more); /* false: failed */
bool wk_j_length(wk_jvm *vm, wk_jv v, int64_t *n);              /* fails where len() would */
bool wk_j_to_list(wk_jvm *vm, wk_jv v, int kind,
                  wk_jv *out); /* a new list of what v iterates over */
bool wk_j_sort(wk_jvm *vm, wk_jlist *l, const wk_jv *key,
               bool reverse); /* stable; key[i] belongs to v[i] */

/* jinja_text.c: values as text */
bool wk_j_put_value(wk_jvm *vm, wk_jpad *p, wk_jv v);     /* str(v) */
bool wk_j_put_repr(wk_jvm *vm, wk_jpad *p, wk_jv v);      /* repr(v) */
bool wk_j_to_str(wk_jvm *vm, wk_jv v, const wk_jstr **s); /* str(v) */
size_t wk_j_real_text(char out[40], double d);            /* float.__repr__ */
bool wk_j_parse_real(wk_str s, double *d);                /* independent of the locale */
bool wk_j_tojson(wk_jvm *vm, const wk_jv *a, const wk_jcall *c, wk_jv *out);
bool wk_j_from_json(wk_jvm *vm, const wk_jv *a, const wk_jcall *c, wk_jv *out);

/* jinja_ctx.c: JSON to values */
bool wk_j_import(wk_jvm *vm, const wk_json *v, const char *const *trusted, bool copy, bool user,
                 wk_jv *out);

bool wk_j_escape(wk_jvm *vm, const wk_jstr *s, wk_jv *out); /* & < > ' " as entities */
/* Appends now (unix time, UTC) in the format of strftime; false for a conversion that is not known. */
bool wk_j_time(wk_buf *out, wk_str format, int64_t now);
/* jinja_filter.c: filters, calls of rows; jinja_fn.c: tests, functions, methods; jinja_str.c: those of strings */
bool wk_j_pairs(wk_jvm *vm, wk_jv dict, int kind,
                wk_jv *out); /* its items, as a list of that kind */
extern const wk_jrow wk_j_str_rows[];
const wk_jrow *wk_j_find_filter(wk_str name);
const wk_jrow *wk_j_find_test(wk_str name);
const wk_jrow *wk_j_find_global(wk_str name);
const wk_jrow *wk_j_find_method(wk_jv self, wk_str name);
const wk_jrow *wk_j_find_row(const wk_jrow *rows, wk_str name);
bool wk_j_call_row(wk_jvm *vm, const wk_jrow *row, const wk_jcall *c, wk_jv *out);
bool wk_j_is_space(uint32_t cp); /* str.isspace of Python */
bool wk_j_strip(wk_jvm *vm, const wk_jstr *s, const wk_jstr *set, int sides,
                wk_jv *out); /* 1 left, 2 right */
bool wk_j_replace(wk_jvm *vm, const wk_jstr *s, const wk_jstr *from, const wk_jstr *to, int64_t max,
                  wk_jv *out);
bool wk_j_case(wk_jvm *vm, const wk_jstr *s, int how,
               wk_jv *out); /* 'l' lower, 'u' upper, 'c' capital, 't' title */
bool wk_j_lines(wk_jvm *vm, const wk_jstr *s, bool keep_ends, wk_jv *out);

/* jinja_ops.c: access and operators */
bool wk_j_undefined(wk_jvm *vm, wk_jv v); /* fails: v is undefined, by its name */
bool wk_j_compare(wk_jvm *vm, int op, wk_jv x, wk_jv y, bool *holds);
bool wk_j_attr(wk_jvm *vm, wk_jv v, wk_jv name, wk_jv *out);
bool wk_j_item(wk_jvm *vm, wk_jv v, wk_jv key, wk_jv *out);
bool wk_j_math(wk_jvm *vm, int op, wk_jv x, wk_jv y, wk_jv *out);
bool wk_j_part(wk_jvm *vm, wk_jv v, const wk_jv bound[3], wk_jv *out); /* v[a:b:c] */

/* Appends room for one element to a heap array. */
bool wk_j_grow(void *array, size_t *room, size_t n, size_t size);

#endif
