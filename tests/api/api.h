/* api.h: helpers of the tests that see nothing of wick but its public headers. */
#ifndef WICK_TEST_API_H
#define WICK_TEST_API_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/wick.h"

#define TINY_LLAMA "tests/golden/tiny/llama.gguf"
#define TINY_QWEN3 "tests/golden/tiny/qwen3.gguf"
#define TINY_GEMMA3 "tests/golden/tiny/gemma3.gguf"
enum { TINY_VOCAB = 288, ANSWER_MAX = 1 << 16 };

/* What a request said until its last event. */
typedef struct answer {
    char text[ANSWER_MAX];
    size_t n;
    int n_text, n_progress, n_admitted;
    int32_t n_prompt, n_cached, last_done;
    int32_t last_type; /* WICK_EV_DONE or WICK_EV_ERROR */
    wick_error error;  /* of the event */
    wick_result result;
} answer;

wick_model *api_model(const char *path);
/* One sequence of n_ctx tokens, one thread; change may alter the options (NULL: nothing). */
wick_engine *api_engine(wick_model *m, int32_t n_ctx, void (*change)(wick_engine_options *o));
/* Options for n ids (or, with tokens NULL, none yet): greedy, max_tokens, end tokens ignored. */
wick_request_options api_ids(const wick_token *t, size_t n, int32_t max_tokens);
wick_request *api_submit(wick_engine *e, const wick_request_options *o);
/* Reads to the last event; checks the order of events and that every text is whole characters. */
void api_read(wick_request *r, answer *a);
/* The rest of one whose ADMITTED was read already; a is zeroed by the caller. */
void api_read_on(wick_request *r, answer *a);
/* submit, read, free. */
void api_run(wick_engine *e, const wick_request_options *o, answer *a);
wick_token api_token_of(const wick_model *m, const char *text);
/* Ids 2 .. 257 in a fixed order. */
void api_fill(wick_token *t, size_t n, uint64_t seed);
uint64_t api_next(uint64_t *state); /* splitmix64 */
bool api_utf8(const char *p, size_t n);
void api_sleep_ms(int ms);
/* Waits until nothing runs or waits; every page must be available then. */
void api_idle(const wick_engine *e);

#endif
