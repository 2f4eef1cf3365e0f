#!/usr/bin/env python3
"""wick eval: every task against numbers reckoned here from the library's own log-probabilities, and files that are refused.

usage: test_eval.py WICK-BINARY [LIBWICK.so]     (run from the repository root; standard library only)"""
import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile

WICK = os.path.abspath(sys.argv[1])
LIB = sys.argv[2] if len(sys.argv) > 2 and not os.environ.get("WICK_SANITIZED") else ""
TINY, OTHER = "tests/golden/tiny/llama.gguf", "tests/golden/tiny/qwen3.gguf"
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {str(detail)[:1500]}")


def run(args, timeout=120):
    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    e["HOME"] = "/nonexistent"
    p = subprocess.run([WICK, "eval"] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=e, timeout=timeout)
    return p.returncode, p.stdout.decode(), p.stderr.decode("utf-8", "replace")


def results(args):
    rc, out, err = run(args + ["--json"])
    check("runs: " + " ".join(args), rc == 0 and out.count("\n") == 1, f"{rc} {out} {err}")
    o = json.loads(out)
    check("schema", o["schema"] == "wick.eval/1" and isinstance(o["warnings"], list), o)
    return {(r["task"], r["metric"]): r for r in o["results"]}, o


def refused(name, args, code, words):
    rc, out, err = run(args)
    lines = [l for l in err.split("\n") if l.startswith("wick: ")]
    check(name, (rc == code if code is not None else rc not in (0, 134, 139)) and out == "" and len(lines) == 1 and all(w in lines[0] for w in words), f"exit {rc} (wanted {code}), {err!r}, {words}")


def near(a, b, bound=1e-5):
    return abs(a - b) <= bound * max(1, abs(b))


class Lib:
    """Tokens and logits through the library, without eval's own arithmetic."""

    def __init__(self, path, max_seqs=8):
        self.l = ctypes.CDLL(LIB)
        self.m, self.e, self.err = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.create_string_buffer(260)
        assert self.l.wick_model_open(path.encode(), None, ctypes.byref(self.m), self.err) == 0, self.err.raw
        assert self.l.wick_engine_open(self.m, None, ctypes.byref(self.e), self.err) == 0, self.err.raw

    def close(self):
        self.l.wick_engine_close(self.e)
        self.l.wick_model_close(self.m)

    def tokens(self, text):
        data = text.encode()
        t, n = (ctypes.c_int32 * (len(data) + 8))(), ctypes.c_size_t()
        assert self.l.wick_tokenize(self.m, data, ctypes.c_size_t(len(data)), 1, t, ctypes.c_size_t(len(data) + 8), ctypes.byref(n)) == 0
        return list(t[: n.value])

    def bytes_of(self, ids):
        buf, n = ctypes.create_string_buffer(65536), ctypes.c_size_t()
        t = (ctypes.c_int32 * len(ids))(*ids)
        assert self.l.wick_detokenize(self.m, t, ctypes.c_size_t(len(ids)), 0, buf, ctypes.c_size_t(65536), ctypes.byref(n)) == 0
        return n.value

    def logits(self, ids):
        rows = {}

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_float), ctypes.c_int32)
        def on_row(_, pos, p, n):
            rows[pos] = p[:n]

        t = (ctypes.c_int32 * len(ids))(*ids)
        assert self.l.wick_x_logits(self.e, t, ctypes.c_size_t(len(ids)), on_row, None, self.err) == 0, self.err.raw
        return [rows[i] for i in range(len(ids))]

    def log_p(self, ids):
        """Of ids[i] behind those before it, i from 1; and whether it is the likeliest."""
        out, top = [0.0], [False]
        for i, row in enumerate(self.logits(ids)[:-1]):
            most = max(row)
            out.append(row[ids[i + 1]] - most - math.log(sum(math.exp(x - most) for x in row)))
            top.append(row.index(most) == ids[i + 1])
        return out, top


TEXT = ("The world is wide and old; in it are cats, dogs, and some trees. " * 9)[:512]


def ppl(tmp, lib):
    path = os.path.join(tmp, "text.txt")
    open(path, "w").write(TEXT)
    got, o = results([TINY, "--data", path, "-c", "64"])
    same, _ = results([TINY, "--data", path, "-c", "64", "-t", "1", "--batch", "7", "--cpu", "ref"])
    check("threads, batch and level do not show", [r["value"] for r in got.values()] == [r["value"] for r in same.values()], (got, same))
    two, _ = results([TINY, "--data", path, "-c", "64", "--limit", "2"])
    check("--limit", two["ppl", "windows"]["value"] == 2 and got["ppl", "windows"]["value"] > 2, two)
    if not lib:
        return
    ids = lib.tokens(TEXT)
    half = total = nbytes = 0
    n_half = n_all = 0
    for w in range(len(ids) // 64):
        one = ids[w * 64 : w * 64 + 64]
        nll = [-x for x in lib.log_p(one)[0]]
        half += sum(nll[33:])
        n_half += len(nll[33:])
        total += sum(nll[1:])
        n_all += 63
        nbytes += lib.bytes_of(one[1:])
    check("perplexity", near(got["ppl", "perplexity"]["value"], math.exp(half / n_half)) and got["ppl", "perplexity"]["n"] == n_half, (got, math.exp(half / n_half)))
    check("loss of all tokens", near(got["ppl", "loss of all tokens"]["value"], total / n_all), (got, total / n_all))
    check("bits per byte", near(got["ppl", "bits per byte"]["value"], total / math.log(2) / nbytes) and got["ppl", "bits per byte"]["n"] == nbytes, (got, nbytes))
    check("interval holds the value", got["ppl", "perplexity"]["low"] < got["ppl", "perplexity"]["value"] < got["ppl", "perplexity"]["high"], got)


def kl(tmp, lib):
    path = os.path.join(tmp, "text.txt")
    zero, _ = results([TINY, "--data", path, "-c", "64", "--kl", TINY])
    check("no distance to itself", zero["kl", "mean KL"]["value"] == 0 and zero["kl", "same top token"]["value"] == 1, zero)
    args = [TINY, "--data", path, "-c", "64", "--kl", OTHER, "--limit", "2"]
    got, _ = results(args)
    rc, out, err = run(args + ["--max-kl", "1e-6"])
    check("--max-kl", rc == 7 and "| kl " in out and "--max-kl" in err, f"{rc} {out} {err}")
    check("--max-kl kept", run(args + ["--max-kl", "1000"])[0] == 0, "")
    if not lib:
        return
    other, ids, all_kl, same = Lib(OTHER), lib.tokens(TEXT), [], 0
    for w in range(2):
        one = ids[w * 64 : w * 64 + 64]
        for p, q in list(zip(other.logits(one), lib.logits(one)))[32:63]:
            lse = [max(r) + math.log(sum(math.exp(x - max(r)) for x in r)) for r in (p, q)]
            all_kl.append(sum(math.exp(x - lse[0]) * (x - lse[0] - y + lse[1]) for x, y in zip(p, q)))
            same += p.index(max(p)) == q.index(max(q))
    other.close()
    check("mean KL", near(got["kl", "mean KL"]["value"], sum(all_kl) / len(all_kl)) and got["kl", "mean KL"]["n"] == 62, (got, sum(all_kl) / len(all_kl)))
    check("largest KL", near(got["kl", "largest KL"]["value"], max(all_kl)), (got, max(all_kl)))
    s = sorted(all_kl)
    check("p99", near(got["kl", "KL p99"]["value"], s[60] + 0.39 * (s[61] - s[60])), (got, s[60:]))
    check("same top", near(got["kl", "same top token"]["value"], same / 62), (got, same))


def train_adapter(tmp):
    """An adapter that says something, and the model with it worked in; None where training is not built."""
    data, lora, merged = (os.path.join(tmp, n) for n in ("learn.txt", "my.lora.gguf", "merged.gguf"))
    open(data, "w").write("\n<|endoftext|>\n".join(["a cat is a cat and a dog is a dog, " * 6] * 40))
    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    p = subprocess.run([WICK, "tune", TINY, "--data", data, "--steps", "12", "--lr", "0.02", "--rank", "4", "--batch", "4", "--ctx", "32", "-t", "1", "--sample-every", "0",
                        "--gemm", "wick", "-o", lora, "--merge", merged], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=e, timeout=120)
    if p.returncode and b"no command" in p.stderr:
        print("skipped: adapters (this build has no training)")
        return None
    check("an adapter to judge", p.returncode == 0, p.stderr[-500:])
    return lora, merged


def adapters(tmp, lib):
    made = train_adapter(tmp)
    if not made:
        return
    lora, merged = made
    data = ["--data", os.path.join(tmp, "text.txt"), "-c", "64"]
    loss = {}
    for name, args in (("base", [TINY]), ("adapter", [TINY, "--lora", lora]), ("half", [TINY, "--lora", lora + ":0.5"]), ("none", [TINY, "--lora", lora + ":0"]),
                       ("two", [TINY, "--lora", lora + ":0.25", "--lora", lora + ":0.75"]), ("merged", [merged])):
        got, o = results(args + data)
        loss[name] = got["ppl", "loss"]["value"]
        check(f"{name}: the adapters are named", o.get("lora", []) == [a for a in args if ".lora." in a], o)
    check("an adapter changes the loss", abs(loss["adapter"] - loss["base"]) > 1e-3 and len({loss["base"], loss["half"], loss["adapter"]}) == 3, loss)
    check("scale 0 is the base", loss["none"] == loss["base"], loss)
    check("adapter = merged, two that add up to one = one", near(loss["adapter"], loss["merged"], 1e-4) and near(loss["two"], loss["adapter"], 1e-4), loss)
    far, _ = results([TINY, "--lora", lora, "--kl", TINY] + data)
    same, _ = results([merged, "--kl", TINY] + data)
    check("distance of an adapter to its base", far["kl", "mean KL"]["value"] > 1e-4 and near(far["kl", "mean KL"]["value"] / same["kl", "mean KL"]["value"], 1, 1e-2), (far, same))
    picks, _ = items(tmp, [TINY, "--task", "hellaswag", "--data", os.path.join(tmp, "swag.txt"), "--lora", lora])
    plain, _ = items(tmp, [TINY, "--task", "hellaswag", "--data", os.path.join(tmp, "swag.txt")])
    check("tasks see the adapter", [p["log_p"] for p in picks] != [p["log_p"] for p in plain], picks)
    refused("--lora: no file", [TINY, "--lora", tmp + "/none.gguf"] + data, 1, ["none.gguf"])
    refused("--lora: not an adapter", [TINY, "--lora", OTHER] + data, None, ["qwen3.gguf"])
    refused("--lora: scale", [TINY, "--lora", lora + ":5000"] + data, 2, ["5000"])


def rivals(tmp):
    """Two models on the same items: the difference is that of their numbers, its interval narrower than either's."""
    text, swag, last = (os.path.join(tmp, n) for n in ("text.txt", "swag.txt", "last.jsonl"))
    args = ["--task", "ppl,hellaswag,lastword", "--data", "ppl=" + text, "--data", "hellaswag=" + swag, "--data", "lastword=" + last, "-c", "64"]
    one, _ = results([TINY] + args)
    two, _ = results([OTHER] + args)
    both, o = results([TINY, "--against", OTHER] + args)
    check("the rival is named", o["against"] == OTHER, o)
    check("the first model's numbers stay", all(both[k]["value"] == r["value"] for k, r in one.items()) and len(both) == len(one) + 3, both)
    for task, metric in (("ppl", "loss"), ("hellaswag", "acc_norm"), ("lastword", "greedy match")):
        d = both[task, metric + ", difference"]
        check(f"{task}: the difference", near(d["value"], one[task, metric]["value"] - two[task, metric]["value"], 1e-9), (d, one, two))
        check(f"{task}: the interval holds it", d.get("low", d["value"]) <= d["value"] <= d.get("high", d["value"]), d)
    d = both["ppl", "loss, difference"]
    check("windows are what is drawn", d["n"] == both["ppl", "windows"]["n"] and d["low"] < d["high"], d)
    again, _ = results([TINY, "--against", OTHER, "-t", "1", "--batch", "7"] + args)
    check("the same again", again == both, again)
    seeds = [results([TINY, "--against", OTHER, "--seed", str(i)] + args)[0]["ppl", "loss, difference"] for i in range(2, 6)]
    check("--seed draws others", any((s["low"], s["high"]) != (d["low"], d["high"]) for s in seeds) and all(s["value"] == d["value"] for s in seeds), seeds)
    back, _ = results([OTHER, "--against", TINY] + args)
    check("the other way round", near(back["ppl", "loss, difference"]["value"], -d["value"], 1e-9), back)
    zero, _ = results([TINY, "--against", TINY] + args)
    check("no difference from itself", zero["ppl", "loss, difference"]["value"] == 0 and "low" not in zero["ppl", "loss, difference"], zero)
    events, _ = items(tmp, [TINY, "--task", "hellaswag", "--data", swag, "--against", OTHER])
    check("events are the first model's", len(events) == len(SWAG), events)
    refused("--against: no file", [TINY, "--against", tmp + "/none.gguf", "--data", text], 1, ["none.gguf"])
    made = os.path.join(tmp, "learn.run")  # a model with a tokenizer of its own
    p = subprocess.run([WICK, "train", "--preset", "260k", "--data", os.path.join(tmp, "learn.txt"), "--steps", "1", "--ctx", "64", "--batch", "1", "-t", "1", "--gemm", "wick",
                        "--sample-every", "0", "--val-share", "0", "-o", made], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    if p.returncode == 0:
        refused("--against: another tokenizer", [TINY, "--against", made + "/latest/model.gguf", "--data", text, "-c", "64", "-q"], 2, ["learn.run", "tokenizer"])
    else:
        check("a model of another tokenizer", not os.path.exists(os.path.join(tmp, "learn.txt")), p.stderr)


def argmax(v):
    return v.index(max(v))


def shared(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


SWAG = [("a cat sits", ["on a mat", "in the", "well", "the world ends"]), ("it was", ["old", "cold and old", "a", "bold"]),
        ("the dog", ["ran", "ran on", "ran in the sun", "slept"])]


def items(tmp, args):
    rc, out, err = run(args + ["--jsonl"])
    events = [json.loads(l) for l in out.splitlines()]
    check("jsonl " + args[2], rc == 0 and events[-1]["type"] == "done", f"{rc} {out} {err}")
    return [e for e in events if e["type"] == "item"], {r["metric"]: r for r in events[-1]["results"]}


def hellaswag(tmp, lib):
    path, labels = os.path.join(tmp, "swag.txt"), [1, 3, 0]
    with open(path, "w") as f:
        for (context, endings), label in zip(SWAG, labels):
            f.write("\n".join([context, str(label)] + endings) + "\n")
    got, res = items(tmp, [TINY, "--task", "hellaswag", "--data", path])
    check("hellaswag items", len(got) == 3 and [g["label"] for g in got] == labels, got)
    if not lib:
        return
    hits = 0
    for g, (context, endings), label in zip(got, SWAG, labels):
        ids = [lib.tokens(context + " " + e) for e in endings]
        common = min(shared(ids[0], i) for i in ids[1:])
        sums = [sum(lib.log_p(i)[0][common:]) for i in ids]
        check("hellaswag sums", all(near(a, b) for a, b in zip(g["log_p"], sums)), (g, sums))
        hits += argmax([s / (len(i) - common) for s, i in zip(sums, ids)]) == label
    check("acc_norm", res["acc_norm"]["n"] == 3 and near(res["acc_norm"]["value"], hits / 3), (res, hits))
    p, n, z = hits / 3, 3, 1.959963984540054
    mid, half = (p + z * z / 6) / (1 + z * z / 3), z * math.sqrt(p * (1 - p) / n + z * z / 36) / (1 + z * z / 3)
    check("Wilson interval", near(res["acc_norm"]["low"], mid - half) and near(res["acc_norm"]["high"], mid + half), res)


def choice(tmp, lib):
    path, table = os.path.join(tmp, "choice.jsonl"), os.path.join(tmp, "choice.csv")
    rows = [("the cat is", ["old", "a, b \"c\"", "red", "on the mat"], 2), ("two\nlines", ["a", "bb", "ccc", "dd dd"], 3)]
    with open(path, "w") as f:
        for c, e, l in rows:
            f.write(json.dumps({"context": c, "choices": e, "label": l}) + "\n\n")
        f.write(json.dumps({"context": "x", "choices": ["y", "zz"], "label": 1}) + "\n")
    with open(table, "w", newline="") as f:
        f.write("question,A,B,C,D,answer\r\n")
        f.write('the cat is,old,"a, b ""c""",red,on the mat,C\r\n"two\nlines",a,bb,ccc,dd dd,D\r\n')
    got, res = items(tmp, [TINY, "--task", "choice", "--data", path])
    from_table, _ = items(tmp, [TINY, "--task", "choice", "--data", table])
    check("CSV = jsonl", [g["log_p"] for g in from_table] == [g["log_p"] for g in got[:2]], (got, from_table))
    check("three ways", set(res) == {"acc", "acc per token", "acc per byte"} and res["acc"]["n"] == 3, res)
    if not lib:
        return
    hits = [0, 0, 0]
    for g, (c, endings, l) in zip(got, rows + [("x", ["y", "zz"], 1)]):
        ids, ctx = [lib.tokens(c + " " + e) for e in endings], lib.tokens(c)
        at = [max(1, min(shared(ctx, i), len(i) - 1)) for i in ids]
        sums = [sum(lib.log_p(i)[0][a:]) for i, a in zip(ids, at)]
        check("choice sums", all(near(a, b) for a, b in zip(g["log_p"], sums)), (g, sums))
        for k, by in enumerate(([1] * len(ids), [len(i) - a for i, a in zip(ids, at)], [len(e.encode()) for e in endings])):
            hits[k] += argmax([s / b for s, b in zip(sums, by)]) == l
    check("choice accuracies", [round(res[m]["value"] * 3, 9) for m in ("acc", "acc per token", "acc per byte")] == hits, (res, hits))


def lastword(tmp, lib):
    path, texts = os.path.join(tmp, "last.jsonl"), ["the cat sat on the mat", "one two three", "x y"]
    with open(path, "w") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    got, res = items(tmp, [TINY, "--task", "lastword", "--data", path])
    if not lib:
        return
    total, hits = 0, 0
    for g, t in zip(got, texts):
        ids, ctx = lib.tokens(t), lib.tokens(t.rsplit(" ", 1)[0])
        at = max(1, min(shared(ids, ctx), len(ids) - 1))
        lp, top = lib.log_p(ids)
        check("lastword sum", near(g["log_p"][0], sum(lp[at:])), (g, sum(lp[at:])))
        total += sum(lp[at:])
        hits += all(top[at:])
    check("lastword", near(res["perplexity of the word"]["value"], math.exp(-total / 3)) and near(res["greedy match"]["value"], hits / 3), (res, total, hits))


def generation(tmp):
    path = os.path.join(tmp, "exact.jsonl")
    said = run([TINY, "--task", "samples", "-n", "8", "--json"])
    o = json.loads(said[1])
    check("samples", said[0] == 0 and len(o["samples"]) == 3 and all(s["prompt"] and s["text"] for s in o["samples"]), said)
    rc, out, err = run([TINY, "--task", "samples", "-n", "8", "-q"])
    check("samples as text", rc == 0 and "> Once upon a time" in out, f"{rc} {out}")
    with open(path, "w") as f:
        f.write(json.dumps({"question": "How many?", "answer": "I count.\n#### 1,234"}) + "\n")
    got, _ = results([TINY, "--task", "exact", "--data", path, "-n", "8"])
    check("exact", got["exact", "exact behind ####"]["n"] == 1 and got["exact", "exact behind ####"]["value"] == 0, got)


def refusals(tmp):
    def make(name, data):
        path = os.path.join(tmp, name)
        open(path, "wb").write(data if isinstance(data, bytes) else data.encode())
        return path

    for task in ("ppl", "hellaswag", "choice", "lastword", "exact", "samples"):
        args = [TINY, "--task", task, "--data"]
        refused(f"{task}: no file", args + [tmp + "/none"], 1, ["none"])
        refused(f"{task}: folder", args + [tmp], 1, [tmp])
        refused(f"{task}: empty", args + [make("empty", "")], 6, ["empty"])
        refused(f"{task}: bzip2", args + [make("x.bz2", b"BZh91AY&SY")], 6, ["bzip2", "bunzip2"])
        refused(f"{task}: gzip", args + [make("x.gz", b"\x1f\x8b\x08")], 6, ["gzip"])
        refused(f"{task}: not UTF-8", args + [make("latin", b"abc\nd\xe4\n")], 6, ["latin:2", "UTF-8"])
        refused(f"{task}: NUL", args + [make("nul", b"abc\nd\0\n")], 6, ["nul:2"])
    refused("ppl: short", [TINY, "--data", make("short", "abc"), "-c", "64"], 2, ["short", "64"])
    swag = [TINY, "--task", "hellaswag", "--data"]
    refused("hellaswag: index", swag + [make("h1", "a\n4\nb\nc\nd\ne\n")], 6, ["h1:2", "\"4\""])
    refused("hellaswag: cut", swag + [make("h2", "a\n1\nb\nc\nd\n")], 6, ["h2:5", "six lines"])
    refused("hellaswag: empty ending", swag + [make("h3", "a\n1\nb\n\nd\ne\n")], 6, ["h3:4", "empty"])
    pick = [TINY, "--task", "choice", "--data"]
    good = '{"context":"a","choices":["b","c"],"label":0}\n'
    refused("choice: JSON", pick + [make("c1", good + "{")], 6, ["c1:2"])
    refused("choice: label", pick + [make("c2", good + good.replace("0", "2"))], 6, ["c2:2", "label"])
    refused("choice: choices", pick + [make("c3", '{"context":"a","choices":["b"],"label":0}')], 6, ["c3:1", "choices"])
    refused("choice: context", pick + [make("c4", '{"choices":["b","c"],"label":0}')], 6, ["c4:1", "context"])
    refused("choice: depth", pick + [make("c5", "{\"context\":" + "[" * 5000)], 6, ["c5:1"])
    refused("choice: no head", pick + [make("c6", "q,A,B,C,D,answer\n")], 6, ["c6:1", "question"])
    head = "question,A,B,C,D,answer\n"
    refused("choice: cells", pick + [make("c7", head + "q,a,b,c,d\n")], 6, ["c7:2", "six"])
    refused("choice: answer", pick + [make("c8", head + "q,a,b,c,d,E\n")], 6, ["c8:2"])
    refused("choice: open quote", pick + [make("c9", head + 'q,a,b,c,d,A\n"q,a\n')], 6, ["c9:3", "quote"])
    refused("choice: behind a quote", pick + [make("c10", head + '"q"x,a,b,c,d,A\n')], 6, ["c10:2"])
    refused("lastword: one word", [TINY, "--task", "lastword", "--data", make("l1", '{"text":"word"}')], 6, ["l1:1"])
    refused("lastword: member", [TINY, "--task", "lastword", "--data", make("l2", '{"txt":"word"}')], 6, ["l2:1", "text"])
    refused("exact: member", [TINY, "--task", "exact", "--data", make("e1", '{"question":"q"}')], 6, ["e1:1", "answer"])
    refused("too long", [TINY, "--task", "lastword", "--data", make("long", json.dumps({"text": "ab " * 500}))], 1, ["long:1", "context"])
    refused("unknown task", [TINY, "--task", "ppl,foo", "--data", "x"], 2, ["foo", "hellaswag"])
    refused("task twice", [TINY, "--task", "ppl,ppl", "--data", "x"], 2, ["twice"])
    refused("no data", [TINY], 2, ["--data"])
    refused("kl without a model", [TINY, "--task", "kl", "--data", "x"], 2, ["--kl"])
    refused("--max-kl alone", [TINY, "--data", "x", "--max-kl", "1"], 2, ["--max-kl"])
    refused("two models", [TINY, TINY, "--data", "x"], 2, ["one model"])


with tempfile.TemporaryDirectory() as folder:
    one = Lib(TINY) if LIB else None
    if not one:
        print("note: no library to compare with (sanitized build): numbers are not recomputed")
    ppl(folder, one)
    kl(folder, one)
    hellaswag(folder, one)
    adapters(folder, one)
    choice(folder, one)
    lastword(folder, one)
    rivals(folder)
    generation(folder)
    refusals(folder)
    if one:
        one.close()
print(f"test_eval: {passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
