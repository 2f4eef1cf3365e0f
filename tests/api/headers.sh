#!/bin/sh
# headers.sh CC ROOT [LIBRARY]: every public header compiles alone, as C99, C11 and C++; installed side by side they
# find each other; the shared library exports exactly the functions that they declare.
set -eu
cc=$1 root=$2 lib=${3-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$root"/engine/wick.h "$root"/engine/wick_x.h "$root"/engine/wick_status.h "$dir"
for h in wick.h wick_x.h wick_status.h; do
    printf '#include <%s>\n#include <%s>\nextern int nothing;\n' $h $h >"$dir/one.c"
    for std in c99 c11; do
        "$cc" -std=$std -pedantic -Wall -Wextra -Wundef -Wstrict-prototypes -Werror -I"$dir" -fsyntax-only "$dir/one.c"
    done
done
cat >"$dir/use.cc" <<'END'
#include <wick.h>
#include <wick_x.h>
int main() {
    wick_setup_options s = WICK_SETUP_OPTIONS_INIT;
    wick_model_options m = WICK_MODEL_OPTIONS_INIT;
    wick_engine_options e = WICK_ENGINE_OPTIONS_INIT;
    wick_request_options r = WICK_REQUEST_OPTIONS_INIT;
    wick_event v = WICK_EVENT_INIT;
    wick_result t = WICK_RESULT_INIT;
    wick_stats a = WICK_STATS_INIT;
    wick_fit_result f = WICK_FIT_RESULT_INIT;
    return s.size && m.size && e.size && r.size && v.size && t.size && a.size && f.size ? 0 : (int)wick_version_number();
}
END
cxx=
for c in "${CXX-}" g++ c++ clang++; do
    [ -n "$c" ] && command -v "$c" >/dev/null && cxx=$c && break
done
if [ -n "$cxx" ]; then
    for std in c++11 c++17; do "$cxx" -std=$std -pedantic -Wall -Wextra -Werror -I"$dir" -fsyntax-only "$dir/use.cc"; done
else
    echo "no C++ compiler: the headers were not compiled as C++"
fi
sed 's/use.cc/use.c/' "$dir/use.cc" | sed 's/int main()/int main(void)/' >"$dir/use.c"
"$cc" -std=c11 -pedantic -Wall -Wextra -Werror -I"$dir" -fsyntax-only "$dir/use.c"
if [ -n "$lib" ]; then
    # Prototypes may run over lines; the name stands before the first bracket.
    cat "$dir"/wick.h "$dir"/wick_x.h | tr '\n' ' ' | sed 's/WICK_API/\n&/g' |
        sed -n 's/^WICK_API [^(]*[ *]\(wick_[a-z_]*\)(.*/\1/p' | sort >"$dir/declared"
    nm -D --defined-only "$lib" | awk '$2 ~ /[TDBR]/ {print $3}' | sed 's/@.*//' | sort >"$dir/exported"
    diff "$dir/declared" "$dir/exported" || { echo "declared (<) and exported (>) functions differ"; exit 1; }
    [ "$(grep -c '^WICK_API' "$root/engine/wick.h")" -eq 25 ] || { echo "wick.h does not have 25 functions"; exit 1; }
fi
[ -n "$cxx" ] || exit 77
