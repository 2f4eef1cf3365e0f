#!/usr/bin/env python3
"""Two ranks of `wick train` on one host against one rank with the same global batch: the weights agree.

usage: test_ranks.py WICK-BINARY     (from the repository root; standard library only; exit 77: no mpirun)"""
import array
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile

WICK = os.path.abspath(sys.argv[1])
MPIRUN = shutil.which("mpirun")
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {str(detail)[:1500]}")


def weights(path):
    """All F32 tensors of a GGUF file by name."""
    data = open(path, "rb").read()
    at = 8

    def take(fmt):
        nonlocal at
        v = struct.unpack_from("<" + fmt, data, at)[0]
        at += struct.calcsize("<" + fmt)
        return v

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n : at].decode()

    def skip(kind):
        nonlocal at
        if kind == 8:
            text()
        elif kind == 9:
            inner, n = take("I"), take("Q")
            for _ in range(n):
                skip(inner)
        else:
            at += [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][kind]

    n_tensor, n_meta = take("Q"), take("Q")
    for _ in range(n_meta):
        text()
        skip(take("I"))
    rows = []
    for _ in range(n_tensor):
        name, n = text(), 1
        for _ in range(take("I")):
            n *= take("Q")
        rows.append((name, n, take("I"), take("Q")))
    start = (at + 31) // 32 * 32
    return {name: array.array("f", data[start + off : start + off + 4 * n]) for name, n, kind, off in rows if kind == 0}


def distance(a, b):
    d = sum((x - y) ** 2 for x, y in zip(a, b))
    n = sum(y * y for y in b)
    return math.sqrt(d / n) if n else math.sqrt(d)


def losses(run):
    return [r["loss"] for r in map(json.loads, open(os.path.join(run, "log.jsonl"))) if r.get("loss") is not None]


def main():
    with tempfile.TemporaryDirectory() as tmp:
        text = os.path.join(tmp, "a.txt")
        with open(text, "w", encoding="utf-8") as f:
            for i in range(3000):
                f.write(f"{i} boats and {i * 7 % 13} birds went to the {'sea' if i % 3 else 'hill'}; {i % 11} came back.\n")
        common = ["--preset", "260k", "--data", text, "--tok", "auto:300", "--steps", "6", "--ctx", "64", "--gemm", "wick", "-t", "1",
                  "--batch", "8", "--micro", "128", "-q"]
        mpi = [MPIRUN, "-n", "2", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
        env = dict(os.environ, OMPI_MCA_btl_base_warn_component_unused="0")
        one, two = os.path.join(tmp, "one"), os.path.join(tmp, "two")
        for name, cmd in (("one rank", [WICK, "train"] + common + ["-o", one]), ("two ranks", mpi + [WICK, "train"] + common + ["--ranks", "-o", two])):
            p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=300, check=False)
            check(name, p.returncode == 0, f"{p.returncode} {p.stderr.decode('utf-8', 'replace')[-600:]}")
            if p.returncode:
                return
        a, b = (weights(os.path.join(r, "latest", "model.gguf")) for r in (one, two))
        check("the same tensors", a.keys() == b.keys() and len(a) > 40, f"{len(a)} {len(b)}")
        worst = max((distance(b[n], a[n]), n) for n in a)
        check("weights after 6 steps", worst[0] <= 1e-6, worst)
        la, lb = losses(one), losses(two)
        check("losses", len(la) == 6 and len(lb) == 6 and all(abs(x - y) <= 1e-6 * x for x, y in zip(la, lb)), f"{la} {lb}")
        print(f"largest distance {worst[0]:.1e} ({worst[1]})")


if not MPIRUN:
    print("skipped: there is no mpirun")
    sys.exit(77)
main()
print(f"test_ranks: {passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
