#!/usr/bin/env python3
"""Peak resident memory of `wick train` and `wick tune` against what they plan: within 10 %, layers kept and recomputed.

usage: test_train_rss.py WICK-BINARY     (from the repository root; standard library only; WICK_SMOLLM2, WICK_GEMMA3: LoRA
runs too, with samples by the engine and without)"""
import os
import re
import subprocess
import sys
import tempfile

WICK = os.path.abspath(sys.argv[1])
UNITS = {"MiB": 2**20, "GiB": 2**30}
passed = failed = 0


def run(name, cmd):
    """The plan line's peak against the process's."""
    global passed, failed
    p = subprocess.Popen([WICK] + cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out = p.stdout.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    m = re.search(r"peak ([\d.]+) (\w+) of", out)
    planned = float(m.group(1)) * UNITS[m.group(2)] if m else 0
    ratio = usage.ru_maxrss * 1024 / planned if planned else 0
    print(f"{name}: {usage.ru_maxrss / 1024:.0f} MiB, {ratio:.3f} of the plan")
    if p.returncode == 0 and 0.9 <= ratio <= 1.1:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: exit {p.returncode}, {ratio:.3f} of the plan: {out[-800:]}")


with tempfile.TemporaryDirectory() as tmp:
    text = os.path.join(tmp, "a.txt")
    with open(text, "w", encoding="utf-8") as f:
        for i in range(20000):
            f.write(f"{i} boats and {i * 7 % 13} birds went to the {'sea' if i % 3 else 'hill'}; {i % 11} came back.\n")
    common = ["--steps", "2", "--sample-every", "0", "--data", text]
    for preset, vocab, ctx, batch in (("260k", 512, 256, 8), ("1m", 800, 128, 16), ("5m", 1000, 256, 8)):
        for recompute in ("off", "on"):
            run(f"{preset}, recompute {recompute}", ["train", "--preset", preset, "--tok", f"auto:{vocab}", "--ctx", str(ctx), "--batch",
                str(batch), "--recompute", recompute, "-o", os.path.join(tmp, preset + recompute)] + common)
    for name, ctx in (("WICK_SMOLLM2", 128), ("WICK_GEMMA3", 256)):
        base = os.environ.get(name)
        if not base:
            print(f"skipped: LoRA: {name} names no file")
            continue
        for samples in ("0", "2"):
            run(f"LoRA of {name[5:]}, samples every {samples}", ["tune", base, "--ctx", str(ctx), "--batch", "2", "-o",
                os.path.join(tmp, name + samples + ".lora.gguf")] + common[:3] + [samples] + common[4:])
print(f"test_train_rss: {passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
