#!/bin/sh
# The house rules that a script can hold. Usage: tests/lint/lint.sh [BUILD_FOLDER], from anywhere.
#
# Fails on: includes against layers.txt, libraries outside their one file, banned calls, fast math,
# statements in models/, architecture names outside models/, training words in forward code, tabs,
# trailing blanks, missing final newlines, non-ASCII code; with a build folder also on foreign symbols,
# unexpected exports and mutable globals. Functions and files that are too long are printed only.
set -u
export LC_ALL=C
build=${1:-}
[ -n "$build" ] && build=$(cd "$build" && pwd)
cd "$(dirname "$0")/../.." || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT

find engine simd models gpu tests bench -type f \( -name '*.c' -o -name '*.h' -o -name '*.def' -o -name '*.cu' \) \
    ! -path '*/corpus/*' 2>/dev/null | sort >"$tmp/files"
[ -s "$tmp/files" ] || { echo "lint: no sources found"; exit 2; }
: >"$tmp/notes"
xargs awk -v LAYERS=tests/lint/layers.txt -v NOTES="$tmp/notes" -f tests/lint/lint.awk <"$tmp/files" >"$tmp/found"

# A missing final newline: the last byte of each file, all at once; the slow loop only where one is wrong.
if [ -n "$(xargs tail -qc1 <"$tmp/files" | tr -d '\n')" ]; then
    while read -r f; do
        [ -z "$(tail -c1 "$f")" ] || echo "$f: no final newline"
    done <"$tmp/files" >>"$tmp/found"
fi

# Fast math anywhere in the build; this file names the flags and is left out.
find . \( -path './build*' -o -path ./.git -o -path ./shared -o -path ./tests/lint \) -prune -o -type f \
    \( -name 'CMakeLists.txt' -o -name '*.cmake' -o -name '*.[ch]' -o -name '*.sh' -o -name check \) -print |
    xargs grep -nE -e '-(ffast-math|Ofast|funsafe-math|fassociative-math|ffp-contract=(fast|on))' |
    sed 's/$/: fast math/' >>"$tmp/found"

# Objects: names, exports, globals that can change, functions that the library must not call.
if [ -n "$build" ] && [ -f "$build/libwick.a" ] && ! nm "$build/libwick.a" 2>/dev/null | grep -q '__[at]san_'; then
    nm -g --defined-only "$build/libwick.a" 2>/dev/null |
        awk 'NF == 3 && $3 !~ /^(wk|wick)_/ { print "libwick.a: global symbol " $3 " starts with neither wk_ nor wick_" }' \
            >>"$tmp/found"
    # Process-wide settings, written before any engine exists; each says at its place why it is one.
    nm -f sysv --defined-only "$build/libwick.a" 2>/dev/null | tr -d ' ' |
        awk -F'|' '($7 == ".bss" || $7 == ".data") && $4 == "OBJECT" && $1 !~ /^(mem|sink|hook|setup_cpu_mask)$/ {
            print "libwick.a: " $1 " is a mutable global" }' >>"$tmp/found"
    nm -A -u "$build/libwick.a" 2>/dev/null |
        awk '$NF ~ /^(exit|_exit|abort|getenv|secure_getenv|printf|puts|putchar|__printf_chk|__fprintf_chk|stdout|stderr)$/ ||
             ($NF ~ /^(malloc|calloc|realloc|free)$/ && $0 !~ /arena\.c/) { print $0 ": the library may not use it" }' \
            >>"$tmp/found"
    if [ -f "$build/libwick.so" ]; then
        nm -D --defined-only "$build/libwick.so" |
            awk 'NF == 3 && $3 !~ /^wick_/ { print "libwick.so exports " $3 }' >>"$tmp/found"
    fi
fi

sort -u "$tmp/notes"
sort -u "$tmp/found"
n=$(sort -u "$tmp/found" | wc -l)
echo "lint: $(wc -l <"$tmp/files") files, $n findings, $(wc -l <"$tmp/notes") notes"
[ "$n" -eq 0 ]
