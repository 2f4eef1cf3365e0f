/* err.c: fills the caller's error record. A message that does not fit is cut between code points. */
#include "engine/base/err.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/utf8.h"

enum { ROOM = sizeof(((wk_err *)0)->message) };

/* vsnprintf may have cut a code point in two: what is left of it goes too. */
static void cut_clean(char *s) {
    const size_t n = strlen(s);
    if (n < ROOM - 1) return;
    size_t i = n;
    while (i > 0 && n - i < 4 && ((uint8_t)s[i - 1] & 0xc0u) == 0x80u) i--;
    if (i == 0 || (uint8_t)s[i - 1] < 0x80u) return;
    uint32_t cp;
    if (!wk_utf8_decode(s + i - 1, n - (i - 1), &cp)) s[i - 1] = '\0';
}

int wk_fail(wk_err *err, int code, const char *fmt, ...) {
    if (!err) return code;
    char text[ROOM]; /* apart, so that the arguments may point into the old message */
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0) text[0] = '\0';
    cut_clean(text);
    err->code = code;
    memcpy(err->message, text, strlen(text) + 1);
    return code;
}

int wk_fail_at(wk_err *err, const char *fmt, ...) {
    if (!err) return WICK_E_ARG; /* the caller has lost the code; never report success */
    char text[2 * ROOM];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(text, ROOM, fmt, ap);
    va_end(ap);
    if (n < 0) text[0] = '\0';
    const size_t at = strlen(text);
    if (strncmp(err->message, text, at) == 0 && err->message[at] == ':') return err->code; /* it is there */
    (void)snprintf(text + at, sizeof(text) - at, ": %s", err->message); /* cut on purpose, below */
    text[ROOM - 1] = '\0';
    cut_clean(text);
    memcpy(err->message, text, strlen(text) + 1);
    return err->code;
}
