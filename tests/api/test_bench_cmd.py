#!/usr/bin/env python3
"""wick bench: rows, every output parsed, refusals, the gate, and peers that answer, crash, hang and print garbage.

usage: test_bench_cmd.py WICK-BINARY     (run from the repository root; standard library only)"""
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

WICK = os.path.abspath(sys.argv[1])
TINY = "tests/golden/tiny/llama.gguf"
SMALL = ["--pp", "1,16", "--tg", "8", "--depth", "0,64", "--clients", "1,2", "--reps", "2"]
passed = failed = 0


def run(args, env=None, timeout=300):
    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    e.update({"HOME": "/nonexistent", **(env or {})})
    p = subprocess.run([WICK, "bench"] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=e, timeout=timeout)
    return p.returncode, p.stdout.decode(), p.stderr.decode("utf-8", "replace")


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {str(detail)[:1500]}")


def refused(name, args, code, words, **kw):
    rc, out, err = run(args, **kw)
    lines = [l for l in err.split("\n") if l.startswith("wick: ")]
    check(name, rc == code and out == "" and len(lines) == 1 and all(w in lines[0] for w in words), f"exit {rc} (wanted {code}), {err!r}, {words}")


def rows_of(o):
    return {(r["kind"], r["name"]): r for r in o["rows"]}


def full(tmp):
    """One full run as JSON: the rows that the table of the command promises, with their shares and hashes."""
    rc, out, err = run([TINY, "-o", "json", "--trace"] + SMALL)
    check("bench -o json", rc == 0 and out.count("\n") == 1, f"{rc} {err}")
    o = json.loads(out)
    rows = rows_of(o)
    engine = [n for k, n in rows if k == "engine"]
    check("engine rows", engine == ["prefill 1", "prefill 16", "decode", "decode @64", "batch 1", "batch 2"], engine)
    end = {n for k, n in rows if k == "end-to-end"}
    check("end-to-end rows", end >= {"load", "load and first token", "answer", "first token", "token gap p50", "token gap p95", "token gap p99",
                                     "token gap max"}, end)
    check("two kinds, no name in both", not set(engine) & end, "")
    for (kind, name), r in rows.items():
        ok = r["n"] >= 1 and len(r["values"]) == r["n"] and min(r["values"]) <= r["p10"] <= r["median"] <= r["p90"] <= max(r["values"])
        check(f"statistics of {name}", ok and r["median"] > 0, r)
    for name in ("prefill 1", "prefill 16"):
        r = rows["engine", name]
        check(f"share of {name}", 0 < r["share"] < 1.05 and r["share_of"] == "f32" and r["probe"] > 1, r)
        check(f"time of {name}", abs(r["ms_per_pass"] - 1e3 * int(name.split()[1]) / r["median"]) < 1e-3 * r["ms_per_pass"], r)
    check("what lies in the cache has no share of memory", "cache" in rows["engine", "decode"]["note"] and "share" not in rows["engine", "decode"],
          rows["engine", "decode"])
    gaps = [rows["end-to-end", f"token gap {p}"]["median"] for p in ("p50", "p95", "p99", "max")]
    check("gaps in order", gaps == sorted(gaps), gaps)
    check("nothing is read alone that lies in the cache", ("end-to-end", "reading alone p50") not in rows, sorted(rows))
    m = o["machine"]
    check("machine block", m["arith"] >= 1 and m["threads"] >= 1 and m["model"] == "llama.gguf" and m["model_bytes"] == os.path.getsize(TINY) and
          re.fullmatch("[0-9a-f]{32}", m["model_xxh3"]) and re.fullmatch("[0-9a-f]{16}", m["logits"]) and m["read_gb_s"] > 0.1 and
          "physical cores" in m["threads_why"] and m["kernel"] and m["governor"] and "load" in m and m["build"].startswith("wick ") and
          m["format"] == "F32" and m["kv"] == "f16" and m["energy"], m)
    check("complete", o["complete"] is True and o["schema"] == "wick.bench/1" and isinstance(o["warnings"], list), o.keys())
    work = {w["work"]: w for w in o["trace"]}
    check("--trace", "wall" in work and abs(work["wall"]["decode_share"] - 1) < 0.01 and work["matmul"]["decode_ms"] > 0 and
          work["matmul"]["prefill_ms"] > 0, o["trace"])
    again = rows_of(json.loads(run([TINY, "-o", "json", "--only", "decode,prefill", "--cpu", "ref", "-t", "1"] + SMALL)[1]))
    for name in engine[:4]:
        check(f"same logits by plain C and one thread: {name}", again["engine", name]["logits"] == rows["engine", name]["logits"], "")
    check("--only", not any(k == "end-to-end" or n.startswith("batch") for k, n in again), list(again))
    path = os.path.join(tmp, "old.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(o, f)
    return path, o


def outputs():
    rc, out, err = run([TINY, "-q"] + SMALL)
    lines = out.split("\n")
    check("markdown", rc == 0 and err == "" and "| decode @64 " in out and "| token gap p99 " in out and "| energy " in out, f"{rc} {out} {err}")
    block = []
    for l in lines + [""]:
        if l.startswith("|"):
            block.append(l)
        elif block:
            check("columns stand in line", len({len(x) for x in block}) == 1 and len({x.count("|") for x in block}) == 1, "\n".join(block))
            block = []
    check("engine and end-to-end rows stand apart", out.index("| engine") < out.index("| batch 2") < out.index("| end to end") < out.index("| answer"), out)
    rc, out, err = run([TINY, "-o", "csv"] + SMALL)
    table = list(csv.reader(io.StringIO(out)))
    check("csv", rc == 0 and len({len(r) for r in table}) == 1 and table[0][:4] == ["kind", "name", "who", "unit"], f"{rc} {out[:600]}")
    at = {n: i for i, n in enumerate(table[0])}
    check("csv: machine in every row", all(r[at["model"]] == "llama.gguf" and r[at["cpu"]] and r[at["logits"]] for r in table[1:]), out[:600])
    check("csv: numbers", all(float(r[at["median"]]) > 0 and int(r[at["n"]]) >= 1 for r in table[1:]), out[:600])
    rc, out, err = run([TINY, "--jsonl"] + SMALL)
    events = [json.loads(l) for l in out.splitlines()]
    check("jsonl", rc == 0 and events[-1]["type"] == "done" and all(e["schema"] == "wick.bench/1" for e in events) and
          {e["type"] for e in events} <= {"row", "done", "warning"} and "machine" in events[-1], out[:600])
    check("warnings once", sum(e["type"] == "warning" for e in events) == 1, out[:600])
    rc, out, err = run([TINY, "-o", "svg"] + SMALL)
    tree = xml.etree.ElementTree.fromstring(out)
    text = "".join(tree.itertext())
    check("svg", rc == 0 and len(out) < 60000 and tree.tag.endswith("}svg") and "tok/s" in text and "reading speed" in text and
          "xxh3" in text and "tokens of the prompt" in text, f"{rc} {out[:400]}")
    rc, out, err = run([TINY, "--watts", "30", "--only", "decode", "--depth", "0", "--tg", "8", "--reps", "1"])
    check("--watts is labelled", rc == 0 and "est." in out and "estimated with 30.0 W, not measured" in out, out)
    rc, out, err = run([TINY, "--json", "--only", "answer", "--noise", "2", "--tg", "8", "--reps", "1"])
    check("--noise", rc == 0 and any("2 busy neighbours" in r.get("note", "") for r in json.loads(out)["rows"]), out)
    rc, out, err = run([TINY, "--soak", "1s", "--only", "decode", "--depth", "0", "--tg", "8", "--reps", "1", "--json"])
    soak = [r for r in json.loads(out)["rows"] if r["name"].startswith("soak")]
    check("--soak", rc == 0 and len(soak) == 1 and soak[0]["n"] >= 8 and "last quarter" in soak[0]["note"], out)
    rc, out, err = run(["--peaks", "--json", "--reps", "1"])
    names = {r["name"]: r for r in json.loads(out)["rows"]}
    check("--peaks", rc == 0 and any(n.startswith("i8 peak") for n in names) and any(n.startswith("read") for n in names) and
          all(r["kind"] == "probe" for r in names.values()), out)


def with_model():
    """A model that does not lie in the cache: shares of memory bandwidth and of the peak."""
    path = os.environ.get("WICK_SMOLLM2", "")
    if not os.path.exists(path):
        print("skipped: WICK_SMOLLM2 names no file")
        return
    rc, out, err = run([path, "--json", "--only", "prefill,decode,answer", "--pp", "64", "--tg", "16", "--depth", "0,1k", "--reps", "2"])
    rows = rows_of(json.loads(out))
    alone = [rows["end-to-end", f"reading alone {p}"] for p in ("p50", "p99")]
    check("the bytes of a token read alone", 0 < alone[0]["median"] <= alone[1]["median"] and alone[0]["n"] == 2 and
          " MB by " in alone[0]["note"], alone)
    for name, of in (("prefill 64", "i8"), ("decode", "read"), ("decode @1024", "read")):
        r = rows["engine", name]
        check(f"share of {name}", 0.005 < r["share"] < 1.5 and r["share_of"] == of and r["probe"] > 1, r)
    probes = [r for k, r in rows.items() if k[0] == "probe"]
    check("probes of the same footprints in every round", len(probes) >= 2 and all(r["n"] == 2 for r in probes), probes)


def refusals(tmp):
    for name in ("pp", "depth", "clients"):
        for bad in ("", "x", "1,", ",1", "1,,2", "-1", "1 2", "99999999999999999999", "2000k", "1x", "0x10", ",".join(["1"] * 17)):
            refused(f"--{name}={bad}", [TINY, f"--{name}={bad}"], 2, [f"--{name}"])
    refused("--pp 0", [TINY, "--pp", "0"], 2, ["--pp", "1 .. "])
    refused("--clients 65", [TINY, "--clients", "65"], 2, ["--clients", "64"])
    for bad in ("", "10", "m", "1x", "-5s", "0s", "nans", "inf", "1e9h"):
        refused(f"--soak={bad}", [TINY, f"--soak={bad}"], 2, ["--soak"])
    refused("--only nonsense", [TINY, "--only", "decode,nonsense"], 2, ["--only", "nonsense"])
    refused("two models", [TINY, "extra"], 2, ["extra"])
    refused("no such file", ["/nothing/here.gguf"], 1, ["here.gguf"])
    refused("no model", [], 1, ["./start"], env={"HOME": tmp, "XDG_DATA_HOME": tmp})
    rc, out, err = run([TINY, "--device", "cpu,cuda", "--only", "decode", "--depth", "0", "--tg", "4", "--reps", "1", "--json"])
    rows = rows_of(json.loads(out))
    check("a device that is not there", rc == 1 and rows["engine", "decode"]["n"] == 1 and rows["engine", "cuda"]["note"].startswith("not measured: ")
          if rc else rows["engine", "decode"]["n"] == 1, f"{rc} {out}")
    rc, out, err = run([TINY, "--ctx", "128", "--only", "decode", "--depth", "0,4k", "--tg", "4", "--reps", "1", "--json"])
    rows = rows_of(json.loads(out))
    check("a depth beyond --ctx", rc == 1 and rows["engine", "decode"]["n"] == 1 and rows["engine", "decode @4096"]["n"] == 0 and
          "4099" in rows["engine", "decode @4096"]["note"], f"{rc} {out}")
    p = subprocess.run([WICK, "bench", TINY] + SMALL, stdout=open("/dev/full", "wb"), stderr=subprocess.PIPE)
    check("bench > /dev/full", p.returncode == 1 and b"written" in p.stderr, p.stderr)


def gate(tmp, path, old):
    narrow = ["--only", "prefill", "--pp", "16", "--reps", "2"]

    def scaled(factor, spread=0.0, name="gate.json", lines=False):
        rows = []
        for r in old["rows"]:
            r = dict(r, median=r["median"] * factor)
            # A spread of 1000: no run on a busy machine lies outside.
            r["p10"], r["p90"] = r["median"] * max(0, 1 - spread / 2), r["median"] * (1 + spread / 2)
            rows.append(r)
        target = os.path.join(tmp, name)
        with open(target, "w", encoding="utf-8") as f:
            if lines:
                for r in rows:
                    f.write(json.dumps({"schema": "wick.bench/1", "type": "row", **r}) + "\n")
                f.write(json.dumps({"schema": "wick.bench/1", "type": "done", "machine": old["machine"]}) + "\n")
            else:
                json.dump(dict(old, rows=rows), f, indent=1)
        return target

    rc, out, err = run([TINY, "--gate", scaled(1000)] + narrow)
    check("--gate: a loss", rc == 7 and "LOSS" in out, f"{rc} {out} {err}")
    rc, out, err = run([TINY, "--gate", scaled(1000, lines=True)] + narrow)
    check("--gate: a loss, jsonl", rc == 7 and "LOSS" in out, f"{rc} {out} {err}")
    rc, out, err = run([TINY, "--gate", scaled(0.001)] + narrow)
    check("--gate: better", rc == 0 and "better" in out, f"{rc} {out} {err}")
    rc, out, err = run([TINY, "--gate", scaled(1, spread=1000)] + narrow + ["--json"])
    check("--gate: within the spread", rc == 0 and "no difference" in err, f"{rc} {out} {err}")
    rc, out, err = run(["tests/golden/tiny/qwen3.gguf", "--gate", scaled(0.001)] + narrow)
    check("--gate: another model", rc == 0 and "another model" in err, f"{rc} {err}")
    for name, text, words in (("empty", "", ["gate", "0 bytes"]), ("garbage", "\x00\x01garbage", ["gate"]), ("array", "[" * 100, ["gate"]),
                              ("other", '{"schema":"wick.run/1"}', ["wick.bench/1"]), ("no rows", '{"schema":"wick.bench/1","rows":[]}', ["nothing"]),
                              ("odd rows", '{"schema":"wick.bench/1","rows":[1,null,{"kind":"engine"},{"kind":"engine","name":"prefill 16","n":"x"}]}', ["nothing"])):
        target = os.path.join(tmp, "bad.json")
        with open(target, "w", encoding="utf-8") as f:
            f.write(text)
        refused(f"--gate {name}", [TINY, "--gate", target] + narrow, 6 if name not in ("garbage", "array") else 2, words)
    refused("--gate missing", [TINY, "--gate", tmp + "/none.json"] + narrow, 1, ["none.json"])
    for a, b, words in ((scaled(1, name="a.json"), scaled(1.5, name="b.json", lines=True), ["better", "WORSE"]),
                        (scaled(1, name="c.json"), scaled(1.01, name="d.json"), ["no difference"]),
                        (scaled(1, spread=0.9, name="e.json"), scaled(1.5, name="f.json"), ["no difference"])):
        p = subprocess.run([sys.executable, "bench/compare.py", a, b], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(f"compare.py: {words}", p.returncode == 0 and all(w in p.stdout for w in words) and ("better" in words or "better" not in p.stdout), p.stdout + p.stderr)
    for args in ([path], [path, tmp + "/none"], [path, "README.md"]):
        p = subprocess.run([sys.executable, "bench/compare.py"] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(f"compare.py refuses {args[1:]}", p.returncode == 2 and p.stderr.startswith("compare.py: ") and "Traceback" not in p.stderr, p.stderr)


PEER = '''#!{python}
import json, os, sys, time
a = sys.argv[1:]
if "--help" in a:
    if {mode!r} == "ik": print("  -mmp, --mmap <0|1>\\n  -gp <pp,tg>   (default: )\\n  -rtr, --run-time-repack <0|1>  (default: 0)")
    elif {mode!r} == "bare": print("usage: none")
    else: print("  -lm, --load-mode <auto|none>\\n  -d, --n-depth <n>\\n  --repack <0|1>   (default: 1)")
    sys.exit(0)
with open({log!r}, "a") as f:
    f.write(" ".join(a) + "\\n")
opt = dict(zip(a[::1], a[1:] + [""]))
n_prompt, n_gen, depth = int(opt["-p"]), int(opt["-n"]), int(opt.get("-d", 0))
if "-gp" in opt: n_prompt, n_gen = map(int, opt["-gp"].split(","))
rate = 5.0 if n_gen else (50.0 if opt.get("--repack") == "0" else 40.0)
mode = {mode!r}
if mode == "crash": os.abort()
if mode == "exit": sys.stderr.write("loading\\nfailed to load \\x1b[31mmodel\\n"); sys.exit(3)
if mode == "hang": os.system("sleep 60")
if mode == "garbage": print("\\x00{{]" * 1000); sys.exit(0)
if mode == "flood":
    while True: print("x" * 4096)
if mode == "zero": rate = 0
if mode == "infinite": print('[{{"n_prompt":%d,"n_gen":%d,"avg_ts":1e999}}]' % (n_prompt, n_gen)); sys.exit(0)
if mode == "other": n_prompt += 1
print(json.dumps([{{"n_prompt": n_prompt, "n_gen": n_gen, "n_depth": depth, "avg_ts": rate, "build_commit": "abc1234"}}]))
'''


def peers(tmp):
    def fake(mode):
        path, log = os.path.join(tmp, "llama-bench-" + mode), os.path.join(tmp, mode + ".log")
        with open(path, "w", encoding="utf-8") as f:
            f.write(PEER.format(python=sys.executable, mode=mode, log=log))
        os.chmod(path, 0o755)
        return path, log

    base = [TINY, "--pp", "16", "--tg", "8", "--depth", "0,64", "-t", "1"]
    good, log = fake("good")
    ik, ik_log = fake("ik")
    rc, out, err = run(base + ["--rounds", "3", "--against", "llama-bench=" + good, "--against", "ik=" + ik, "--json"])
    check("--against", rc == 0, f"{rc} {out} {err}")
    o = json.loads(out)
    rows = {(r["name"], r["who"]): r for r in o["rows"]}
    want = {(n, w) for n in ("prefill 16", "decode", "decode @64") for w in ("wick", "llama-bench", "ik")}
    check("--against: rows", set(rows) == want and all(r["kind"] == "against" and r["n"] == 3 for r in rows.values()), out)
    r = rows["decode", "llama-bench"]
    check("--against: ratio", r["median"] == 5 and r["verdict"] == "faster" and r["ratio_low"] <= r["ratio"] <= r["ratio_high"] and
          abs(r["ratio"] * 5 / rows["decode", "wick"]["median"] - 1) < 0.5 and "commit abc1234" in r["note"], r)
    check("--against: the better way for prompts is kept", "--repack 0" in rows["prefill 16", "llama-bench"]["note"] and
          "-mmp 0 -rtr 1" in rows["decode", "ik"]["note"], rows)
    with open(log, encoding="utf-8") as f:
        calls = f.read().splitlines()
    check("--against: processes", len(calls) == 2 + 3 * 3 and all("-lm none" in c and "-r 1" in c and "-t 1" in c for c in calls) and
          sum("-d 64" in c for c in calls) == 3, calls)
    with open(ik_log, encoding="utf-8") as f:
        calls = f.read().splitlines()
    check("--against ik: processes", len(calls) == 2 + 3 * 3 and all("-mmp 0" in c for c in calls) and
          sum("-p 0 -n 0 -gp 64,8" in c and "-rtr 1" in c for c in calls) == 3, calls)
    refused("a peer without depths", base + ["--rounds", "1", "--against", "ik=" + fake("bare")[0]], 1, ["context", "--depth 0"])
    rc, out, err = run(base + ["--rounds", "1", "--against", "llama-bench=" + good, "-q", "--depth", "0"])
    check("--against, markdown", rc == 0 and "| prefill 16 " in out and "llama-bench, decode: 1 of 1 rounds" in out and "wick is" in out, out)
    rc, out, err = run(base + ["--rounds", "1", "--against", "llama-bench=" + good, "-o", "svg"])
    check("--against, svg", rc == 0 and "llama-bench" in "".join(xml.etree.ElementTree.fromstring(out).itertext()), out[:300])
    for mode, words in (("crash", ["signal 6"]), ("exit", ["exit code 3", "failed to load", "\\x1b"]), ("garbage", ["no row", "prompt 16"]),
                        ("flood", ["1 MiB"]), ("zero", ["no row"]), ("infinite", ["no row"]), ("other", ["no row"])):
        refused(f"a peer with {mode}", base + ["--rounds", "1", "--against", "llama-bench=" + fake(mode)[0]], 1, ["llama-bench-" + mode] + words)
    began = time.monotonic()
    refused("a peer that hangs", base + ["--rounds", "1", "--peer-limit", "2", "--against", "llama-bench=" + fake("hang")[0]], 1, ["2 s"])
    check("and is stopped, its children too", time.monotonic() - began < 20, "")
    refused("no such peer", base + ["--against", "llama-bench=/nothing"], 1, ["/nothing", "cannot be run"])
    for bad in ("llama-bench", "llama-bench=", "other=/bin/true", "=x"):
        refused(f"--against {bad}", base + ["--against", bad], 2, ["--against", "PATH"])
    p = subprocess.Popen([WICK, "bench"] + base + ["--against", "llama-bench=" + fake("hang")[0]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.5)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=30)
    check("Ctrl-C", p.returncode == 130, p.returncode)


with tempfile.TemporaryDirectory() as tmp:
    path, old = full(tmp)
    outputs()
    with_model()
    refusals(tmp)
    gate(tmp, path, old)
    peers(tmp)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
