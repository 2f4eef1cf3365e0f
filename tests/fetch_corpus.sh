#!/bin/sh
# Fetches what tests compare with but must not be kept in the tree: real vocabularies with expected ids, and real chat
# templates with the texts that python jinja2 renders. Both come from the source package of llama-cpp-python.
# Usage: tests/fetch_corpus.sh [FOLDER]    (default ${WICK_CACHE:-~/.cache/wick}/corpus)
# Leaves FOLDER/vocabs, FOLDER/templates and, where ../shared/data/jinja/oracle.py is, FOLDER/templates.jsonl.
# Exit 0: all there; 3: something is missing, which is said.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-${WICK_CACHE:-$HOME/.cache/wick}/corpus}
oracle=$here/../shared/data/jinja/oracle.py
mkdir -p "$out" || exit 3

if [ ! -d "$out/vocabs" ] || [ ! -d "$out/templates" ]; then
    tmp=$(mktemp -d "$out/fetch.XXXXXX") || exit 3
    echo "fetch_corpus: llama-cpp-python 0.3.36 (source package)"
    if ! python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: -d "$tmp" \
        llama-cpp-python==0.3.36 >"$tmp/pip.log" 2>&1; then
        echo "fetch_corpus: pip: $(tail -n 1 "$tmp/pip.log")" >&2
        rm -rf "$tmp"
        exit 3
    fi
    mkdir -p "$tmp/x" "$tmp/vocabs" "$tmp/templates"
    tar xzf "$tmp"/llama_cpp_python-*.tar.gz -C "$tmp/x" --wildcards '*/vendor/llama.cpp/models/*' || exit 3
    mv "$tmp"/x/*/vendor/llama.cpp/models/ggml-vocab-* "$tmp/vocabs/"
    mv "$tmp"/x/*/vendor/llama.cpp/models/templates/*.jinja "$tmp/templates/"
    rm -rf "$out/vocabs" "$out/templates"
    mv "$tmp/vocabs" "$tmp/templates" "$out/"
    rm -rf "$tmp"
fi

[ -f "$out/templates.jsonl" ] && exit 0
if [ ! -f "$oracle" ]; then
    echo "fetch_corpus: $oracle is not there: no texts to compare the templates with" >&2
    exit 3
fi
if ! python3 -m venv "$out/venv" || ! "$out/venv/bin/pip" install -q --disable-pip-version-check jinja2==3.1.6; then
    echo "fetch_corpus: python jinja2 could not be installed" >&2
    exit 3
fi
"$out/venv/bin/python" "$oracle" "$out/templates" --mutable --out "$out/templates.jsonl.new" >/dev/null || exit 3
mv "$out/templates.jsonl.new" "$out/templates.jsonl"
