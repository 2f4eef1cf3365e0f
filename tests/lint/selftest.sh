#!/bin/sh
# Plants one violation of each rule in a tree of its own; lint.sh must name each, and nothing else.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
bad=0

# plant FILE SENTENCE: the file (its text on stdin) must give exactly one finding, with that sentence;
# SENTENCE "" means that the file is fine.
plant() {
    rm -rf "$tmp/tree"
    mkdir -p "$tmp/tree/tests/lint" "$tmp/tree/$(dirname "$1")" "$tmp/tree/engine/base"
    cp "$here"/lint.sh "$here"/lint.awk "$here"/layers.txt "$tmp/tree/tests/lint/"
    echo 'int wk_ok;' >"$tmp/tree/engine/base/ok.h"
    cat >"$tmp/tree/$1"
    out=$("$tmp/tree/tests/lint/lint.sh" 2>&1)
    rc=$?
    if [ -z "$2" ]; then
        [ $rc -eq 0 ] && return
    elif [ $rc -eq 1 ] && echo "$out" | grep -qF "$1:" && echo "$out" | grep -qF -- "$2" &&
        echo "$out" | grep -q ' 1 findings'; then
        return
    fi
    echo "planted in $1, wanted \"$2\", got:"
    echo "$out"
    bad=1
}
line() { printf '%s\n' "$1"; }

line '#include "engine/graph/plan.h"' | plant engine/base/a.c "may not include engine/graph/plan.h"
line '#include "engine/base/buf.h"' | plant simd/ref/a.c "may not include engine/base/buf.h"
line '#include "engine/base/half.h"' | plant simd/ref/a.c ""
line '#include "engine/run/kv.h"' | plant engine/cpu/a.c "may not include engine/run/kv.h"
line '#include "engine/base/buf.h"' | plant models/a.c "may not include"
line '#include <jansson.h>' | plant engine/run/a.c "<jansson.h> belongs to engine/base/json.c"
line '#include <jansson.h>' | plant engine/base/json.c ""
line '#include <omp.h>' | plant engine/cpu/a.c "<omp.h> belongs to"
line 'x = malloc(3);' | plant engine/base/a.c "memory comes from"
line 'x = malloc(3);' | plant engine/base/arena.c ""
line 'hooks.free(x); // malloc(1)' | plant engine/base/a.c ""
line 'y = "malloc(3)"; /* printf( */' | plant engine/base/a.c ""
line 'printf("x");' | plant engine/run/a.c "never prints"
line 'snprintf(a, 3, "x");' | plant engine/run/a.c ""
line 'printf("x");' | plant engine/app/a.c ""
line 'abort();' | plant simd/a.c "never ends the process"
line 'p = getenv("HOME");' | plant engine/app/run.c "environment is read"
line 'sprintf(a, "x");' | plant tests/unit/a.c "banned call"
line 'y = expf(x);' | plant simd/ref/a.c "libm beyond"
line 'y = fmaf(x, x, x) + sqrtf(x) + poly.exp(x);' | plant simd/ref/a.c ""
line '#pragma omp parallel' | plant engine/cpu/a.c "threads are made in"
line 'return 1;' | plant models/a.c "no statements"
line 'return 1;' | plant models/models.c ""
line '.ffn = { .kind = WK_FFN_GATED }, /* if for while */' | plant models/a.c ""
line 'a = &wk_arch_qwen3;' | plant engine/graph/a.c "named outside models/"
line 'a = wk_arch_of_name(n);' | plant engine/graph/a.c ""
line 'if (p->arch->name[0]) x();' | plant engine/run/a.c "arch->name"
line 'int n_grad;' | plant engine/cpu/a.c "training words"
line 'int n_grad; int gradual;' | plant engine/train/a.c ""
line 'int gradual; /* train */' | plant engine/cpu/a.c ""
printf 'int\tx;\n' | plant engine/base/a.c "tab"
printf 'int x; \n' | plant engine/base/a.c "trailing blank"
printf 'int x;' | plant engine/base/a.c "no final newline"
printf 'x = "\303\274";\n' | plant engine/base/a.c "non-ASCII"
printf '/* \303\274\n \303\274 */ // \303\274\n' | plant engine/base/a.c ""
line '#define WK_Z -ffp-contract=fast' | plant engine/base/a.c "fast math"

[ $bad -eq 0 ] && echo "lint: every planted violation was found"
exit $bad
