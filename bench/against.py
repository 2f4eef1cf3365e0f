#!/usr/bin/env python3
"""wick and llama.cpp in turn on the same files: medians of per-round ratios, with a bootstrap interval.

usage: bench/against.py BENCH_MODEL LLAMA_BENCH MODEL.gguf... [--threads 2] [--rounds 7] [--pp 512] [--tg 128]

Each round runs both programs as fresh processes in random order. llama.cpp loads without mmap, with repack on for decode
and, for prompts, the better of repack on and off. Standard library only; prints Markdown rows."""
import argparse
import json
import os
import random
import re
import statistics
import subprocess

ap = argparse.ArgumentParser()
ap.add_argument("bench_model")
ap.add_argument("llama_bench")
ap.add_argument("models", nargs="+")
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--rounds", type=int, default=7)
ap.add_argument("--pp", type=int, default=512)
ap.add_argument("--tg", type=int, default=128)
ap.add_argument("--repack", default="1")
a = ap.parse_args()


def wick(model):
    out = subprocess.run([a.bench_model, model, "--threads", str(a.threads), "--pp", str(a.pp), "--tg", str(a.tg), "--reps", "1"],
                         capture_output=True, text=True, check=True).stdout
    r = json.loads(out.splitlines()[-1])
    return r["pp_tok_s"], r["tg_tok_s"]


def llama(model):
    help_text = subprocess.run([a.llama_bench, "--help"], capture_output=True, text=True).stdout
    load = ["-lm", "none"] if "-lm" in help_text else ["-mmp", "0"]
    out = subprocess.run([a.llama_bench, "-m", model, "-t", str(a.threads), "-p", str(a.pp), "-n", str(a.tg), "-r", "1", "-o", "json"]
                         + load, capture_output=True, text=True, check=True).stdout
    pp = tg = 0.0
    for row in json.loads(out):
        if row["n_gen"] == 0:
            pp = row["avg_ts"]
        elif row["n_prompt"] == 0:
            tg = row["avg_ts"]
    return pp, tg


def interval(ratios):
    rng = random.Random(1)
    meds = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(2000))
    return meds[50], meds[1949]


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown CPU")
print(f"{cpu}, {os.cpu_count()} CPUs, {a.threads} threads, {a.rounds} rounds\n")
print("| model | work | wick tok/s | llama.cpp tok/s | ratio (95 %) |\n|---|---|---|---|---|")
for model in a.models:
    rows = []
    for i in range(a.rounds):
        pair = [("w", wick), ("l", llama)]
        random.shuffle(pair)
        got = {k: f(model) for k, f in pair}
        rows.append((got["w"], got["l"]))
    for j, work in ((0, f"prompt {a.pp}"), (1, f"decode {a.tg}")):
        ratios = [w[j] / l[j] for w, l in rows]
        low, high = interval(ratios)
        name = re.sub(r"\.gguf$", "", os.path.basename(model))
        print(f"| {name} | {work} | {statistics.median(w[j] for w, _ in rows):.1f} | {statistics.median(l[j] for _, l in rows):.1f} "
              f"| {statistics.median(ratios):.2f} ({low:.2f} - {high:.2f}) |", flush=True)
