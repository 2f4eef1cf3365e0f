/* wick_status.h: every status code and the error record, shared by wick.h and by the engine. */
#ifndef WICK_STATUS_H
#define WICK_STATUS_H

#include <stdint.h>

/* One list, three consumers: the enum, wick_strerror() and the exit code of the program.
 *   name          value  exit  text */
#define WICK_STATUS_MAP(X)                                                                         \
    X(OK,            0,    0, "done")                                                              \
    X(E_ARG,        -1,    2, "bad argument or option")                                            \
    X(E_CONTEXT,    -2,    1, "prompt longer than the context")                                    \
    X(E_TEMPLATE,   -3,    1, "the chat template raised an error")                                 \
    X(E_GRAMMAR,    -4,    1, "the constraint does not compile")                                   \
    X(E_UNSUPPORTED,-5,    6, "valid, but not implemented here")                                   \
    X(E_ARCH,       -6,    6, "unknown architecture")                                              \
    X(E_FORMAT,     -7,    6, "damaged file")                                                      \
    X(E_BOUNDS,     -8,    6, "file points outside itself")                                        \
    X(E_SHAPE,      -9,    6, "tensor of a wrong shape")                                           \
    X(E_FIT,       -10,    4, "does not fit in memory")                                            \
    X(E_BUSY,      -11,    1, "refused: too many requests")                                        \
    X(E_TIMEOUT,   -12,    1, "no event in time")                                                  \
    X(E_CANCELED,  -13,  130, "stopped by the caller")                                             \
    X(E_NOMEM,     -14,    1, "out of memory")                                                     \
    X(E_IO,        -15,    1, "input or output failed")                                            \
    X(E_DEVICE,    -16,    1, "the device failed")                                                 \
    X(E_NUMERIC,   -17,    1, "a number became infinite or undefined")                             \
    X(E_ABI,       -18,    1, "library, header and module do not match")

typedef int32_t wick_status;

enum {
#define X(name, value, exit_code, text) WICK_##name = (value),
    WICK_STATUS_MAP(X)
#undef X
};

/* Filled by the failing call; owned by the caller. message is one sentence, NUL-terminated UTF-8:
 * what was found, what was wanted, where. */
typedef struct wick_error {
    int32_t code;
    char message[256];
} wick_error;

#endif
