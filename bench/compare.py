#!/usr/bin/env python3
"""Two results of `wick bench` (-o json or -o jsonl) row by row.

usage: bench/compare.py OLD NEW

A change is only called better or worse when it is larger than 2 % and larger than both spreads (p10 .. p90 over the
median); a single value has no spread, so nothing is claimed of it. Results of different machines, models or
arithmetics are compared with a warning. Standard library only."""
import json
import sys

LEAST = 0.02


def fail(text):
    print(f"compare.py: {text}", file=sys.stderr)
    sys.exit(2)


def load(path):
    """Rows by (kind, name, who, device) and the machine block."""
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    except (OSError, UnicodeDecodeError) as e:
        fail(f"{path} cannot be read: {e}")
    try:
        try:
            objects = [json.loads(text)]
        except json.JSONDecodeError:
            objects = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as e:
        fail(f"{path} holds neither a JSON object nor lines of JSON: {e}")
    rows, machine = {}, {}
    for o in objects:
        if not isinstance(o, dict) or o.get("schema") != "wick.bench/1":
            fail(f"{path}: an object of the schema wick.bench/1 is wanted")
        machine = o.get("machine", machine)
        for r in o.get("rows", [o] if o.get("type") == "row" else []):
            if r.get("n", 0) > 0 and r.get("median", 0) > 0:
                rows[r["kind"], r["name"], r.get("who", ""), r.get("device", "cpu")] = r
    if not rows:
        fail(f"{path} holds no measured row")
    return rows, machine


def spread(r):
    return (r["p90"] - r["p10"]) / r["median"] if r["n"] > 1 else 0


def verdict(old, new):
    change = new["median"] / old["median"] - 1
    if old["n"] < 2 or new["n"] < 2 or abs(change) <= max(LEAST, spread(old), spread(new)):
        return "no difference"
    return "better" if (change > 0) != bool(new.get("less_is_better")) else "WORSE"


def table(lines):
    width = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for n, line in enumerate(lines):
        print("| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, width))) + " |")
        if n == 0:
            print("|" + "|".join((":" if i == 0 else "-") + "-" * w + ("-" if i == 0 else ":") for i, w in enumerate(width)) + "|")


def main():
    if len(sys.argv) != 3:
        fail("usage: bench/compare.py OLD NEW")
    (old, machine), (new, machine_now) = load(sys.argv[1]), load(sys.argv[2])
    for key, what in (("cpu", "CPUs"), ("level", "levels"), ("threads", "threads"), ("model_xxh3", "model files"), ("kv", "KV types"),
                      ("arith", "arithmetics"), ("logits", "logits")):
        if machine.get(key) != machine_now.get(key):
            print(f"different {what}: {machine.get(key)} and {machine_now.get(key)}\n")
    lines = [("row", "old", "new", "unit", "change", "spread", "verdict")]
    for key, r in new.items():
        if key not in old:
            continue
        o = old[key]
        lines.append((" ".join(k for k in key[1:] if k), f"{o['median']:.4g}", f"{r['median']:.4g}", r.get("unit", ""),
                      f"{100 * (r['median'] / o['median'] - 1):+.1f} %", f"{100 * max(spread(o), spread(r)):.1f} %", verdict(o, r)))
    if len(lines) == 1:
        fail("the two results have no row in common")
    table(lines)
    for key in sorted(set(old) ^ set(new)):
        print(f"only in the {'old' if key in old else 'new'} one: {' '.join(k for k in key if k)}")


main()
