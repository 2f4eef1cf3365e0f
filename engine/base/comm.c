/* comm.c: ranks by MPI, loaded at run time: linked in, it would cost every start of the program 0.7 ms and 2 MB, and keep
 * it from starting where MPI is not installed. The header gives the types. What the header of Open MPI says by the
 * address of its own data (MPI_FLOAT is &ompi_mpi_float) is looked up like a function; elsewhere they are numbers. */
#include "engine/base/comm.h"

#include <dlfcn.h>
#include <string.h>

#include "engine/base/arena.h"

#if WK_WITH_MPI
#include <mpi.h>

enum { MOST = 64, MAX_COUNT = 1 << 30 }; /* sums at a time; values that a call of MPI gets (its counts are int) */

#define CALLS(X)                                                                                   \
    X(Init_thread) X(Initialized) X(Finalize) X(Comm_rank) X(Comm_size) X(Comm_set_errhandler) X(Error_string)      \
    X(Allreduce) X(Iallreduce) X(Wait) X(Waitall) X(Bcast) X(Barrier)

struct wk_comm {
#define FIELD(name) __typeof__(&MPI_##name) name;
    CALLS(FIELD)
#undef FIELD
    MPI_Comm world;
    MPI_Datatype f32, f64, byte;
    MPI_Op sum;
    MPI_Errhandler returns;
    int rank, size;
    bool failed; /* a rank may be gone: no good-bye that all must say */
    int n_begun, oldest;
    MPI_Request begun[MOST];
};

bool wk_comm_built_in(void) { return true; }

/* ---- the library ------------------------------------------------------------------------------- */

#ifdef OPEN_MPI
static const char *const names[] = {"libmpi.so.40", "libmpi.so"};
#define DATA(c, field, symbol, value) ((c)->field = (__typeof__((c)->field))dlsym(lib, symbol)) != NULL
#else
static const char *const names[] = {"libmpi.so.12", "libmpi.so"};
#define DATA(c, field, symbol, value) ((c)->field = (value), true)
#endif

/* Its plug-ins want its symbols to be global. Never closed: it does not survive that. */
static void *library(void) {
    void *lib = NULL;
    for (size_t i = 0; i < WK_COUNT(names) && !lib; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
    return lib;
}

static bool resolve(wk_comm *c, void *lib) {
    void *p;
#define GET(name)                                                                                  \
    p = dlsym(lib, "MPI_" #name);                                                                  \
    if (!p) return false;                                                                          \
    memcpy(&c->name, &p, sizeof(p)); /* ISO C has no cast from an object to a function */
    CALLS(GET)
#undef GET
    return DATA(c, world, "ompi_mpi_comm_world", MPI_COMM_WORLD) && DATA(c, f32, "ompi_mpi_float", MPI_FLOAT) &&
           DATA(c, f64, "ompi_mpi_double", MPI_DOUBLE) && DATA(c, byte, "ompi_mpi_byte", MPI_BYTE) &&
           DATA(c, sum, "ompi_mpi_op_sum", MPI_SUM) && DATA(c, returns, "ompi_mpi_errors_return", MPI_ERRORS_RETURN);
}

static int load(wk_comm *c, wk_err *err) {
    void *lib = library();
    if (lib && resolve(c, lib)) return WICK_OK;
    const char *why = dlerror();
    return wk_fail(err, WICK_E_DEVICE, "MPI was asked for: %s", why ? why : "its library lacks a function");
}

/* ---- the job ----------------------------------------------------------------------------------- */

static int fail(wk_comm *c, int code, const char *what, wk_err *err) {
    char text[MPI_MAX_ERROR_STRING + 1] = "";
    int n = 0;
    c->failed = true;
    if (c->Error_string(code, text, &n)) text[0] = '\0';
    return wk_fail(err, WICK_E_DEVICE, "%s on rank %d of %d: MPI says %s (error %d)", what, c->rank, c->size, text,
                   code);
}

static int init(wk_comm *c, wk_err *err) {
    int before = 0, level = 0, code;
    if ((code = c->Initialized(&before))) return fail(c, code, "looking for MPI", err);
    if (before) return wk_fail(err, WICK_E_DEVICE, "MPI was begun before in this process, and begins once");
    if ((code = c->Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level))) return fail(c, code, "beginning", err);
    if ((code = c->Comm_set_errhandler(c->world, c->returns))) return fail(c, code, "asking for errors", err);
    if ((code = c->Comm_rank(c->world, &c->rank))) return fail(c, code, "asking for the rank", err);
    if ((code = c->Comm_size(c->world, &c->size))) return fail(c, code, "asking for the ranks", err);
    if (level >= MPI_THREAD_FUNNELED) return WICK_OK;
    return wk_fail(err, WICK_E_DEVICE, "this MPI allows no threads beside the one that calls it");
}

int wk_comm_open(wk_comm **out, wk_err *err) {
    wk_comm *c = wk_new(wk_comm);
    *out = NULL;
    if (!c) return wk_fail(err, WICK_E_NOMEM, "no memory for the ranks");
    int rc = load(c, err);
    if (!rc) rc = init(c, err);
    if (rc) {
        wk_free(c);
        return rc;
    }
    *out = c;
    return WICK_OK;
}

void wk_comm_close(wk_comm *c) {
    if (!c) return;
    if (!c->failed) (void)c->Finalize(); /* nobody is left to hear of it */
    wk_free(c);
}

int wk_comm_rank(const wk_comm *c) { return c ? c->rank : 0; }
int wk_comm_size(const wk_comm *c) { return c ? c->size : 1; }

static int sum(wk_comm *c, void *x, size_t n, size_t size, MPI_Datatype type, wk_err *err) {
    for (size_t i = 0; i < n && wk_comm_size(c) > 1; i += MAX_COUNT) {
        const int count = n - i < MAX_COUNT ? (int)(n - i) : MAX_COUNT;
        const int code = c->Allreduce(MPI_IN_PLACE, (char *)x + i * size, count, type, c->sum, c->world);
        if (code) return fail(c, code, "summing over the ranks", err);
    }
    return WICK_OK;
}
int wk_comm_sum_f32(wk_comm *c, float *x, size_t n, wk_err *err) {
    return c ? sum(c, x, n, sizeof(*x), c->f32, err) : WICK_OK;
}
int wk_comm_sum_f64(wk_comm *c, double *x, size_t n, wk_err *err) {
    return c ? sum(c, x, n, sizeof(*x), c->f64, err) : WICK_OK;
}

/* A free place among those begun: the oldest is waited for if there is none. */
static int place(wk_comm *c, int *at, wk_err *err) {
    if (c->n_begun == MOST) {
        const int code = c->Wait(&c->begun[c->oldest], MPI_STATUS_IGNORE);
        if (code) return fail(c, code, "waiting for a sum", err);
        c->oldest = (c->oldest + 1) % MOST;
        c->n_begun--;
    }
    *at = (c->oldest + c->n_begun) % MOST;
    return WICK_OK;
}

int wk_comm_begin_sum_f32(wk_comm *c, float *x, size_t n, wk_err *err) {
    for (size_t i = 0; i < n && wk_comm_size(c) > 1; i += MAX_COUNT) {
        const int count = n - i < MAX_COUNT ? (int)(n - i) : MAX_COUNT;
        int at = 0;
        WK_TRY(place(c, &at, err));
        const int code = c->Iallreduce(MPI_IN_PLACE, x + i, count, c->f32, c->sum, c->world, &c->begun[at]);
        if (code) return fail(c, code, "beginning a sum over the ranks", err);
        c->n_begun++;
    }
    return WICK_OK;
}

int wk_comm_wait(wk_comm *c, wk_err *err) {
    if (!c || !c->n_begun) return WICK_OK;
    MPI_Request all[MOST];
    const int n = c->n_begun;
    for (int i = 0; i < n; i++) all[i] = c->begun[(c->oldest + i) % MOST];
    c->n_begun = c->oldest = 0;
    const int code = c->Waitall(n, all, MPI_STATUSES_IGNORE);
    return code ? fail(c, code, "waiting for sums over the ranks", err) : WICK_OK;
}

int wk_comm_bcast(wk_comm *c, void *p, size_t n, wk_err *err) {
    for (size_t i = 0; i < n && wk_comm_size(c) > 1; i += MAX_COUNT) {
        const int count = n - i < MAX_COUNT ? (int)(n - i) : MAX_COUNT;
        const int code = c->Bcast((char *)p + i, count, c->byte, 0, c->world);
        if (code) return fail(c, code, "sending to all ranks", err);
    }
    return WICK_OK;
}

int wk_comm_barrier(wk_comm *c, wk_err *err) {
    if (wk_comm_size(c) == 1) return WICK_OK;
    const int code = c->Barrier(c->world);
    return code ? fail(c, code, "waiting for all ranks", err) : WICK_OK;
}

#else /* one rank */

struct wk_comm {
    int rank, size;
};

bool wk_comm_built_in(void) { return false; }
int wk_comm_open(wk_comm **out, wk_err *err) {
    *out = wk_new(wk_comm);
    if (!*out) return wk_fail(err, WICK_E_NOMEM, "no memory for the ranks");
    (*out)->size = 1;
    return WICK_OK;
}
void wk_comm_close(wk_comm *c) { wk_free(c); }
int wk_comm_rank(const wk_comm *c) { return c ? c->rank : 0; }
int wk_comm_size(const wk_comm *c) { return c ? c->size : 1; }

/* Alone, every sum is what it was. */
#define NOTHING(name, type)                                                                        \
    int name(wk_comm *c, type *x, size_t n, wk_err *err) {                                         \
        (void)c, (void)x, (void)n, (void)err;                                                      \
        return WICK_OK;                                                                            \
    }
NOTHING(wk_comm_sum_f32, float)
NOTHING(wk_comm_sum_f64, double)
NOTHING(wk_comm_begin_sum_f32, float)
NOTHING(wk_comm_bcast, void)
int wk_comm_wait(wk_comm *c, wk_err *err) {
    (void)c, (void)err;
    return WICK_OK;
}
int wk_comm_barrier(wk_comm *c, wk_err *err) {
    (void)c, (void)err;
    return WICK_OK;
}

#endif
