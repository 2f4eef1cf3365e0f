#!/usr/bin/env python3
"""wick train and wick tune: from text to a model that runs, resumed bit for bit after a kill, signals, full disks, plans.

usage: test_train.py WICK-BINARY     (run from the repository root; standard library only)
WICK_LONG=1: 100 kills instead of 20, and --for 60s."""
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

WICK = os.path.abspath(sys.argv[1])
TINY = os.path.abspath("tests/golden/tiny/llama.gguf")
LONG = bool(os.environ.get("WICK_LONG"))
SLOW = "asan" in WICK or bool(os.environ.get("WICK_SANITIZED"))
SMALL = ["--preset", "260k", "--ctx", "32", "--batch", "4", "--gemm", "wick", "--sample-every", "0", "-t", "1"]
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {str(detail)[-1800:]}")


def environment():
    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    e["HOME"] = "/nonexistent"
    return e


def run(args, cwd, timeout=300, file_limit=None):
    def limit():
        if file_limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    p = subprocess.run([WICK] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), timeout=timeout, cwd=cwd, preexec_fn=limit)
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")


def refused(name, args, cwd, code, words):
    rc, out, err = run(args, cwd)
    lines = [l for l in err.split("\n") if l.startswith("wick: ")]
    check(name, rc == code and len(lines) == 1 and all(w in lines[0] for w in words), f"exit {rc} (wanted {code}), {err!r}, {words}")


def story(rng):
    who, what, where = rng.choice(["the fox", "a child", "my aunt", "the baker", "one sailor"]), rng.choice(["found", "lost", "painted", "carried", "sold"]), \
        rng.choice(["by the river", "in the attic", "near the mill", "at the fair", "on the roof"])
    thing = rng.choice(["a red kite", "an old key", "three plums", "a tin drum", "the blue lamp"])
    return f"{who.capitalize()} {what} {thing} {where}. It was {rng.choice(['late', 'early', 'cold', 'warm', 'raining'])}, and {rng.choice(['nobody', 'everybody', 'only the cat'])} saw it."


def texts(tmp):
    """About 50 KB of text, and 60 lines of each kind of jsonl."""
    rng = random.Random(1)
    with open(os.path.join(tmp, "a.txt"), "w", encoding="utf-8") as f:
        for _ in range(110):
            f.write(" ".join(story(rng) for _ in range(5)) + "\n<|endoftext|>\n")
    with open(os.path.join(tmp, "chat.jsonl"), "w", encoding="utf-8") as f:
        for i in range(60):
            f.write(json.dumps({"messages": [{"role": "user", "content": f"Tell {i}."}, {"role": "assistant", "content": story(rng)}]}) + "\n")
    with open(os.path.join(tmp, "pair.jsonl"), "w", encoding="utf-8") as f:
        for i in range(60):
            f.write(json.dumps({"text": f"Say number {i}. " + story(rng)}) + "\n")


def log(folder):
    with open(os.path.join(folder, "log.jsonl"), encoding="utf-8") as f:
        return [json.loads(l) for l in f]


def same(a, b, name):
    with open(os.path.join(a, name), "rb") as f, open(os.path.join(b, name), "rb") as g:
        return f.read() == g.read()


FIELDS = {"step", "tokens", "loss", "counted", "val", "bpb", "lr", "gnorm", "z", "tok_s", "flops", "share", "t_fwd", "t_bwd", "t_upd", "t_comm",
          "t_data", "rss", "j_cpu"}


def scratch(tmp):
    """From scratch: loss falls, everything is there, the model runs."""
    rc, out, err = run(["train", "--preset", "260k", "--data", "a.txt", "--ctx", "32", "--batch", "8", "--steps", "60", "--sample-every", "30", "-o", "r", "-t", "1",
                        "--jsonl"], tmp)
    check("train", rc == 0, f"{rc} {err}")
    events = [json.loads(l) for l in out.splitlines()]
    kinds = {e["type"] for e in events}
    check("events", {"step", "save", "sample", "done"} <= kinds and events[-1]["type"] == "done" and events[-1]["finish"] == "done" and
          all(e["schema"] == "wick.train/1" for e in events), kinds)
    r = os.path.join(tmp, "r")
    rows = log(r)
    losses = [x["loss"] for x in rows if x["loss"] is not None]
    check("loss falls", len(losses) == 60 and sum(losses[-10:]) / 10 < losses[0] - 1.5, f"{losses[:3]} {losses[-3:]}")
    vals = [x["val"] for x in rows if x["val"] is not None]
    check("held-out loss falls, bits a byte stand beside it", len(vals) >= 10 and vals[-1] < vals[0] - 1 and all(x["bpb"] > 0 for x in rows if x["val"] is not None), vals)
    check("fields of the log", all(FIELDS <= set(x) for x in rows), rows[0].keys())
    check("steps in order", [x["step"] for x in rows] == list(range(61)), "")
    check("first lines", " k parameters" in err and "held out" in err and "memory" in err and "GiB" in err and "lr 0.003" in err and "60 steps" in err and
          "energy:" in err and "Ctrl-C" in err, err)
    check("the last line says how to use it", f"wick run {os.path.realpath(r)}/best/model.gguf" in err, err[-600:])
    samples = open(os.path.join(r, "samples.txt"), encoding="utf-8", errors="replace").read()
    check("samples", re.findall(r"^== step (\d+) ==$", samples, re.M) == ["0", "30", "60"], samples)
    check("no file of a sample stays", not os.path.exists(os.path.join(r, "sample.gguf")), os.listdir(r))
    page = open(os.path.join(r, "report.html"), encoding="utf-8").read()
    svg = page[page.index("<svg"):page.index("</svg>") + 6]
    tree = xml.etree.ElementTree.fromstring(svg)
    words = "".join(tree.itertext())
    check("report", all(w in page for w in ("<h2>Samples</h2>", "<h2>Options and hashes</h2>", "data_hash", "step 60 of 60")) and "held out" in words and
          "http" not in page.replace("http://www.w3.org/2000/svg", "") and "<script" not in page, page[:400])
    rc, out, err = run(["run", os.path.join(r, "best", "model.gguf"), "--raw", "-q", "-n", "8", "The fox"], tmp)
    check("the model runs", rc == 0 and len(out) > 1, f"{rc} {out!r} {err}")
    rc, out, err = run(["tokenize", os.path.join(r, "tokenizer.gguf"), "--check", "The fox sold plums."], tmp)
    check("the tokenizer is a model's", rc == 0, f"{rc} {err}")
    refused("a folder that holds a run", ["train", "--preset", "260k", "--data", "a.txt", "--steps", "2", "-o", "r"], tmp, 2, ["holds a run", "--resume"])
    rc, out, err = run(["train", "--resume", "r"], tmp)
    check("a run at its end", rc == 0 and "60 of 60 steps" in err, f"{rc} {err}")


def resume(tmp):
    """40 steps = 20, kill, resume; from a named checkpoint too; the same command leaves the same bytes."""
    args = ["train", "--data", "a.txt", "--steps", "40", "--save-every", "10", "--keep", "0", "--eval-every", "8"] + SMALL
    rc, _, err = run(args + ["-o", "whole"], tmp)
    check("uninterrupted", rc == 0, err)
    p = subprocess.Popen([WICK] + args + ["-o", "cut", "--jsonl"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), cwd=tmp)
    for line in p.stdout:
        e = json.loads(line)
        if e["type"] == "step" and e["step"] == 23:
            break
    p.kill()
    p.wait()
    p.stdout.close()
    cut, whole = os.path.join(tmp, "cut"), os.path.join(tmp, "whole")
    check("killed between checkpoints", os.path.basename(os.path.realpath(os.path.join(cut, "latest"))) == "step-000020", os.listdir(cut))
    rc, _, err = run(["train", "--resume", "cut"], tmp)
    check("resumed", rc == 0 and "40 of 40 steps" in err, f"{rc} {err}")
    for name in ("model.gguf", "state.gguf"):
        check(f"resumed = uninterrupted: {name}", same(os.path.join(cut, "step-000040"), os.path.join(whole, "step-000040"), name), "")
    key = [(x["step"], x["loss"], x["val"], x["gnorm"]) for x in log(whole)]
    check("the log too", [(x["step"], x["loss"], x["val"], x["gnorm"]) for x in log(cut)] == key, "")
    shutil.rmtree(os.path.join(cut, "step-000040"))
    state = os.path.join(cut, "step-000010", "run.json")
    with open(state, encoding="utf-8") as f:
        text = f.read()
    with open(state, "w", encoding="utf-8") as f:
        f.write(re.sub(r'"arith": \d+', '"arith": 99', text))
    rc, _, err = run(["train", "--resume", "cut/step-000010", "-t", "2"], tmp)
    check("another arithmetic is said", "arithmetic 99" in err, err)
    check("from a named checkpoint, with two threads", rc == 0 and same(os.path.join(cut, "step-000040"), os.path.join(whole, "step-000040"), "model.gguf"), f"{rc} {err}")
    for name, extra, words in (("steps", ["--steps", "50"], ["--steps", "cannot change"]), ("lr", ["--lr", "1"], ["--lr"]), ("data", ["--data", "a.txt"], ["--data"])):
        refused(f"resume with --{name}", ["train", "--resume", "cut"] + extra, tmp, 2, words)
    refused("resume of nothing", ["train", "--resume", "nowhere"], tmp, 1, ["nowhere"])
    refused("resume by the other command", ["tune", "--resume", "cut"], tmp, 2, ["wick train"])


def mixture(tmp):
    """Shares of two files: kept, said, and the same again after a kill."""
    args = ["train", "--mix", "a.txt:7,pair.jsonl:3", "--steps", "60", "--save-every", "10", "--keep", "0", "--eval-every", "0"] + SMALL
    rc, _, err = run(args + ["-o", "mix"], tmp)
    check("mixture", rc == 0 and "a.txt:7, pair.jsonl:3" in err and "of 0.7000, 0." in err and "of 0.3000" in err, f"{rc} {err[-600:]}")
    rows = [x for x in log(os.path.join(tmp, "mix")) if x["loss"] is not None]
    check("the share drawn is logged", all(abs(sum(x["mix"]) - 1) < 1e-6 for x in rows) and abs(rows[-1]["mix"][0] - 0.7) < 0.09, rows[-1])
    p = subprocess.Popen([WICK] + args + ["-o", "mixcut", "--jsonl"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), cwd=tmp)
    for line in p.stdout:
        e = json.loads(line)
        if e["type"] == "step" and e["step"] == 33:
            break
    p.kill()
    p.wait()
    p.stdout.close()
    rc, _, err = run(["train", "--resume", "mixcut"], tmp)
    check("a mixture resumed", rc == 0 and "60 of 60 steps" in err and "of 0.7000" in err, f"{rc} {err}")
    for name in ("model.gguf", "state.gguf"):
        check(f"a mixture resumed = uninterrupted: {name}", same(os.path.join(tmp, "mixcut", "step-000060"), os.path.join(tmp, "mix", "step-000060"), name), "")
    key = [(x["step"], x["loss"], x.get("mix")) for x in log(os.path.join(tmp, "mix"))]
    check("the log of a mixture too", [(x["step"], x["loss"], x.get("mix")) for x in log(os.path.join(tmp, "mixcut"))] == key, "")
    base = ["train", "--preset", "260k", "--steps", "2", "-o", "mx"]
    with open(os.path.join(tmp, "hardly.txt"), "w", encoding="utf-8") as f:
        f.write("Hardly anything.")
    for name, mix, code, words in (("no share", "a.txt", 2, ["FILE:SHARE", "a.txt"]), ("share 0", "a.txt:1,pair.jsonl:0", 2, ["pair.jsonl:0"]),
                                   ("no number", "a.txt:x", 2, ["a.txt:x"]), ("17 files", ",".join(["a.txt:1"] * 17), 2, ["17", "16"]),
                                   ("a packed file", os.path.join("mix", "data.wtok") + ":1", 2, ["packed", "mixture"])):
        refused(f"--mix: {name}", base + ["--tok", TINY, "--mix", mix], tmp, code, words)
    refused("--mix: and --data", base + ["--mix", "a.txt:1", "--data", "a.txt"], tmp, 2, ["--mix"])
    refused("--mix: a part without a sample", base + ["--tok", TINY, "--mix", "a.txt:1,hardly.txt:1"], tmp, 2, ["part 2", "no whole sample"])
    refused("--mix: resumed", ["train", "--resume", "mix", "--mix", "a.txt:1"], tmp, 2, ["--mix", "cannot change"])


def foreign(tmp):
    """Ids that another program packed: the same steps as from the text that they stand for."""
    tok = os.path.join(tmp, "r", "tokenizer.gguf")
    docs = open(os.path.join(tmp, "a.txt"), encoding="utf-8").read().split("\n<|endoftext|>\n")[:30]
    with open(os.path.join(tmp, "r", "tokenizer.json"), encoding="utf-8") as f:
        eos = min(x["id"] for x in json.load(f)["added_tokens"])  # the first of three control tokens
    ids = []
    for d in docs:
        ids += [int(x) for x in run(["tokenize", tok, "--ids", d], tmp)[1].replace(",", " ").split()] + [eos]
    with open(os.path.join(tmp, "few.txt"), "w", encoding="utf-8") as f:
        f.write("\n<|endoftext|>\n".join(docs))
    with open(os.path.join(tmp, "nano.bin"), "wb") as f:
        f.write(struct.pack(f"<{len(ids)}H", *ids))
    with open(os.path.join(tmp, "wide.bin"), "wb") as f:
        f.write(struct.pack(f"<{len(ids)}I", *ids))
    args = ["train", "--tok", tok, "--steps", "5", "--val-share", "0", "--eval-every", "0"] + SMALL
    runs = {}
    for name, extra in (("text", ["--data", "few.txt"]), ("u16", ["--data", "nano.bin", "--data-format", "u16"]), ("u32", ["--data", "wide.bin", "--data-format", "u32"])):
        rc, _, err = run(args + extra + ["-o", "ids" + name], tmp)
        check(f"train on {name}", rc == 0, f"{rc} {err}")
        runs[name] = [x["loss"] for x in log(os.path.join(tmp, "ids" + name))] if rc == 0 else name
    check("raw ids = their text", runs["u16"] == runs["text"] and runs["u32"] == runs["text"], runs)
    with open(os.path.join(tmp, "llmc.bin"), "wb") as f:
        f.write(struct.pack("<256i", 20240520, 1, len(ids), *[0] * 253) + struct.pack(f"<{len(ids)}H", *ids))
    base = ["train", "--preset", "260k", "--steps", "2", "-o", "fx"]
    refused("ids of llm.c by another tokenizer", base + ["--tok", tok, "--data", "llmc.bin"], tmp, 2, ["llmc.bin", "GPT-2", "50256"])
    refused("ids without a tokenizer", base + ["--data", "llmc.bin"], tmp, 2, ["llmc.bin", "--tok"])
    refused("raw ids without a tokenizer", base + ["--data", "nano.bin", "--data-format", "u16"], tmp, 2, ["nano.bin", "--tok"])
    with open(os.path.join(tmp, "llmc.bin"), "r+b") as f:
        f.truncate(2000)
    refused("a cut file of ids", base + ["--tok", tok, "--data", "llmc.bin"], tmp, 6, ["llmc.bin", "976 bytes"])
    with open(os.path.join(tmp, "far.bin"), "wb") as f:
        f.write(struct.pack("<3H", 1, 512, 2))
    refused("an id beyond the vocabulary", base + ["--tok", tok, "--data", "far.bin", "--data-format", "u16"], tmp, 6, ["far.bin", "id 1 of 3 is 512"])
    rc, out, err = run(["train", "--preset", "260k", "--tok", tok, "--data", "nano.bin", "--data-format", "u16", "--steps", "2", "--plan", "--json"], tmp)
    check("--plan on ids counts them", rc == 0 and abs(json.loads(out)["train_tokens"] / 0.95 / len(ids) - 1) < 0.01, f"{rc} {out} {err}")


def optimizers(tmp):
    """Each learns, goes on bit for bit, and takes the memory that the plan says."""
    moments = {}
    for name in ("adamw", "adamw-v16", "sgd"):
        args = ["train", "--data", "a.txt", "--optimizer", name, "--steps", "40", "--save-every", "10", "--keep", "0", "--eval-every", "0"] + SMALL
        rc, out, err = run(args + ["--plan", "--json"], tmp)
        o = json.loads(out)
        moments[name] = o["moments"] / (o["weights"] / 4)
        rc, _, err = run(args + ["-o", "o" + name], tmp)
        folder = os.path.join(tmp, "o" + name)
        losses = [x["loss"] for x in log(folder) if x["loss"] is not None]
        check(f"{name} learns", rc == 0 and sum(losses[-5:]) / 5 < losses[0] - 0.5, f"{rc} {err[-300:]} {losses}")
        shutil.copytree(os.path.join(folder, "step-000040"), folder + ".whole")
        shutil.rmtree(os.path.join(folder, "step-000040"))
        rc, _, err = run(["train", "--resume", os.path.join("o" + name, "step-000020")], tmp)
        for f in ("model.gguf", "state.gguf"):
            check(f"{name} resumed: {f}", rc == 0 and same(os.path.join(folder, "step-000040"), folder + ".whole", f), f"{rc} {err}")
    check("bytes of moments a parameter", all(abs(moments[n] - b) < 0.01 for n, b in (("adamw", 8), ("adamw-v16", 6), ("sgd", 4))), moments)
    sizes = [os.path.getsize(os.path.join(tmp, "o" + n, "step-000040", "state.gguf")) for n in moments]
    check("bytes of the checkpoint too", abs(sizes[1] / sizes[0] - 6 / 8) < 0.02 and abs(sizes[2] / sizes[0] - 4 / 8) < 0.02, sizes)
    for file in (os.path.join(tmp, "oadamw", "step-000020", "run.json"), os.path.join(tmp, "oadamw", "options.json")):  # as before there was a choice
        text = open(file, encoding="utf-8").read()
        check("the choice is kept", '"optimizer":' in text, text)
        with open(file, "w", encoding="utf-8") as f:
            f.write(re.sub(r',\s*"optimizer": ?0', "", text))
    shutil.rmtree(os.path.join(tmp, "oadamw", "step-000040"))
    rc, _, err = run(["train", "--resume", "oadamw/step-000020"], tmp)
    check("a run from before the choice", rc == 0 and same(os.path.join(tmp, "oadamw", "step-000040"), os.path.join(tmp, "oadamw.whole"), "model.gguf"), f"{rc} {err}")
    refused("--optimizer when resumed", ["train", "--resume", "oadamw", "--optimizer", "sgd"], tmp, 2, ["--optimizer", "cannot change"])


def half_products(tmp):
    """--bf16: refused where the CPU has it not, else the same bits after a resume and for any threads, and near f32."""
    args = ["train", "--data", "a.txt", "--steps", "40", "--save-every", "10", "--keep", "0", "--eval-every", "0"] + SMALL
    refused("--bf16 beside onednn", args + ["--bf16", "on", "--gemm", "onednn", "-o", "bf"], tmp, 2, ["bf16", "onednn"])
    refused("--bf16 by another word", args + ["--bf16", "maybe", "-o", "bf"], tmp, 2, ["maybe"])
    rc, _, err = run(args + ["--bf16", "on", "-o", "bf"], tmp)
    if rc == 2:
        check("--bf16 on a CPU without it", "AVX512_BF16" in err and err.count("wick: ") == 1, err)
        rc, _, err = run(args + ["--bf16", "auto", "-o", "bf"], tmp)
        check("--bf16 auto on a CPU without it", rc == 0 and "products wick" in err, err)
        print("  skipped: --bf16 on, this CPU has no AVX512_BF16")
        return
    check("--bf16 on", rc == 0 and "products bf16" in err, f"{rc} {err}")
    rc, _, err = run(args + ["-o", "bf32"], tmp)
    loss = [[x["loss"] for x in log(os.path.join(tmp, r)) if x["loss"] is not None] for r in ("bf", "bf32")]
    check("--bf16 near f32", rc == 0 and loss[0] != loss[1] and all(abs(a - b) < 0.05 for a, b in zip(*loss)), loss)
    folder = os.path.join(tmp, "bf")
    shutil.copytree(os.path.join(folder, "step-000040"), folder + ".whole")
    for more, said in (([], False), (["-t", "2"], False), (["--bf16", "auto"], False), (["--bf16", "off"], True)):
        shutil.rmtree(os.path.join(folder, "step-000040"))
        rc, _, err = run(["train", "--resume", "bf/step-000020"] + more, tmp)
        check(f"--bf16 resumed {more}", rc == 0 and same(os.path.join(folder, "step-000040"), folder + ".whole", "model.gguf") != said
              and ("begun with products in bf16" in err) == said, f"{rc} {err}")


def stopped(tmp):
    for sig, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        name = f"s{code}"
        p = subprocess.Popen([WICK, "train", "--data", "a.txt", "--steps", "100000", "-o", name, "--jsonl"] + SMALL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment(), cwd=tmp)
        for line in p.stdout:
            if json.loads(line)["type"] == "step" and json.loads(line)["step"] >= 5:
                break
        p.send_signal(sig)
        out, err = p.communicate(timeout=60)
        err = err.decode()
        last = json.loads(out.splitlines()[-1])
        check(f"signal {sig}", p.returncode == code and "go on with: wick train --resume " in err and last["finish"] == "interrupted", f"{p.returncode} {err[-500:]}")
        check(f"signal {sig}: saved where it stopped", last["saved"] == last["step"] and os.path.basename(os.path.realpath(os.path.join(tmp, name, "latest"))) ==
              f"step-{last['step']:06d}" and log(os.path.join(tmp, name))[-1]["step"] == last["step"], last)
    p = subprocess.Popen([WICK, "train", "--data", "a.txt", "--steps", "100000", "-o", "busy", "--jsonl"] + SMALL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env=environment(), cwd=tmp)
    p.stdout.readline()
    refused("two programs in one folder", ["train", "--data", "a.txt", "--steps", "2", "-o", "busy"] + SMALL, tmp, 1, ["another program"])
    p.kill()
    p.communicate()


def signal_inside_a_product(tmp):
    """oneDNN computes with the stack register in the heap: a handler that ran there wrote over it in 1 of 5 runs."""
    rng = random.Random(3)
    env = environment()
    if SLOW:  # the leak checker dies in the threads of the oneDNN library
        env["ASAN_OPTIONS"] = "detect_leaks=0"
    for i in range(40 if LONG else 12):
        shutil.rmtree(os.path.join(tmp, "sp"), ignore_errors=True)
        p = subprocess.Popen([WICK, "train", "--preset", "260k", "--data", "a.txt", "--steps", "2000", "--ctx", "64", "--batch", "64", "-t", "1", "--sample-every", "3",
                              "-o", "sp"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, cwd=tmp)
        time.sleep(rng.uniform(0.2, 1.5))
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=120)
        check(f"signal inside a product {i}", p.returncode == 130, f"{p.returncode} {err[-300:]!r}")


def kills(tmp):
    """Killed again and again while it does little but write checkpoints; what comes out is what comes out without."""
    args = ["train", "--data", "a.txt", "--steps", "300", "--save-every", "1", "--keep", "2", "--eval-every", "0"] + SMALL
    whole = ["train", "--data", "a.txt", "--steps", "300", "--eval-every", "0"] + SMALL
    rc, _, err = run(whole + ["-o", "k0"], tmp)
    check("kills: uninterrupted", rc == 0, err)
    rng = random.Random(7)
    folder, n, steps = os.path.join(tmp, "k1"), 100 if LONG else 20, []
    for i in range(n):
        begun = os.path.exists(os.path.join(folder, "latest"))
        p = subprocess.Popen([WICK] + (["train", "--resume", "k1"] if begun else args + ["-o", "k1"]) + ["--jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment(), cwd=tmp)
        for line in p.stdout if i % 5 else ():  # each fifth while it begins
            if json.loads(line)["type"] == "save":
                break
        time.sleep(rng.uniform(0, 0.1 if i % 5 else 0.4))
        p.kill()
        _, err = p.communicate()
        check(f"kill {i}: nothing but the kill ended it", p.returncode == -9 or (p.returncode == 0 and b"300 of 300" in err), f"{p.returncode} {err[-300:]!r}")
        if os.path.exists(os.path.join(folder, "latest")):
            latest = os.path.realpath(os.path.join(folder, "latest"))
            steps.append(int(latest[-6:]))
            check(f"kill {i}: the checkpoint is whole", set(os.listdir(latest)) == {"model.gguf", "state.gguf", "run.json"}, os.listdir(latest))
    check("kills: never back", steps == sorted(steps) and len(set(steps)) > n // 2, steps)
    rc, _, err = run(["train", "--resume", "k1", "--save-every", "1000"], tmp)
    check("kills: the end", rc == 0, f"{rc} {err}")
    check("kills: nothing lost", same(os.path.join(folder, "latest"), os.path.join(tmp, "k0", "latest"), "model.gguf"), steps)
    left = [x for x in os.listdir(folder) if x.endswith(".part") or x == "unfinished"]
    check("kills: nothing left lying", not left, left)


def plans(tmp):
    rc, out, err = run(["train", "--preset", "260k", "--data", "a.txt", "--steps", "10", "--plan", "-o", "p"], tmp)
    check("--plan fits", rc == 0 and "verdict    fits" in out and "memory" in out and "ends first" in out and "vocabulary" in out, f"{rc} {out} {err}")
    check("--plan leaves nothing", not os.path.exists(os.path.join(tmp, "p")), "")
    rc, out, err = run(["train", "--preset", "260k", "--data", "a.txt", "--for", "2h", "--plan", "--json"], tmp)
    o = json.loads(out)
    check("--plan --json", rc == 0 and o["verdict"] == "fits" and o["seconds"] == 7200 and o["need"] > o["activations"] > 0 and o["params"] == o["trainable"], o)
    rc, out, err = run(["tune", TINY, "--data", "pair.jsonl", "--plan", "--json"], tmp)
    o = json.loads(out)
    check("tune --plan", rc == 0 and 0 < o["trainable"] < o["params"] and o["base"] > 0, f"{rc} {err} {o}")
    free = int(re.search(r"MemAvailable: +(\d+)", open("/proc/meminfo", encoding="ascii").read())[1]) << 10
    base = ["train", "--preset", "5m", "--data", "a.txt", "--steps", "10", "--plan", "--json", "--ctx", "1024", "--recompute", "off"]
    o = json.loads(run(base + ["--batch", "1024", "--micro", str(1 << 14)], tmp)[1])
    per_token = o["activations"] / (1 << 14)
    micro = int(1.3 * o["available"] / per_token) & ~1023
    if micro > 1048576:
        print("skipped: this machine has too much memory for --plan to end on it")
        return
    rc, out, err = run(base + ["--batch", "1024", "--micro", str(micro)], tmp)
    check("--plan does not fit", rc == 4 and json.loads(out)["verdict"] == "does not fit", f"{rc} {out[:300]} {err} {free}")
    rc, out, err = run(base + ["--batch", "1024", "--micro", str(int(0.95 * o["available"] / per_token) & ~1023)], tmp)
    check("--plan tight", rc == 3 and json.loads(out)["verdict"] == "tight", f"{rc} {out[:300]} {err}")
    args = [x for x in base if x not in ("--plan", "--json")]
    refused("a run that does not fit", args + ["--batch", "4", "--micro", str(micro), "-o", "nofit", "-q"], tmp, 4, ["GB"])


def mistakes(tmp):
    with open(os.path.join(tmp, "bad.jsonl"), "w", encoding="utf-8") as f:
        f.write('{"text": "fine"}\n' * 40 + '{"text": oops}\n' + '{"text": "fine"}\n' * 40)
    with open(os.path.join(tmp, "short.txt"), "w", encoding="utf-8") as f:
        f.write("Hardly anything.")
    open(os.path.join(tmp, "empty.txt"), "w", encoding="utf-8").close()
    t = ["train", "--preset", "260k", "--steps", "2", "-o", "m"]
    refused("a bad line", t + ["--tok", TINY, "--data", "bad.jsonl"], tmp, 6, ["bad.jsonl", "line 41"])
    rc, _, err = run(t + ["--tok", TINY, "--data", "bad.jsonl", "--skip-bad", "--until", "pack"], tmp)
    check("--skip-bad counts", rc == 0 and "1 lines" in err, f"{rc} {err}")
    refused("less than a batch", t + ["--tok", TINY, "--data", "a.txt", "--batch", "100000"], tmp, 2, ["100000", "samples"])
    refused("less than a sample", t + ["--tok", TINY, "--data", "short.txt"], tmp, 2, ["samples"])
    for name, args, code, words in (
            ("no data", ["train", "--preset", "260k"], 2, ["--data"]), ("no model", ["train", "--data", "a.txt"], 2, ["--preset"]),
            ("two models", ["train", "--preset", "260k", "--like", TINY, "--data", "a.txt"], 2, ["one of"]),
            ("missing data", t + ["--data", "nothing.txt"], 1, ["nothing.txt"]), ("empty data", t + ["--data", "empty.txt"], None, []),
            ("two lengths", t + ["--data", "a.txt", "--for", "5m"], 2, ["--steps"]), ("no time", ["train", "--preset", "260k", "--data", "a.txt", "--for", "soon"], 2, ["soon"]),
            ("no vocabulary", t + ["--data", "a.txt", "--tok", "auto:12"], 2, ["259"]), ("a missing model", ["tune", "-m", "no.gguf", "--data", "a.txt"], 1, ["no.gguf"]),
            ("no such matrix", ["tune", TINY, "--data", "pair.jsonl", "--on", "q,nose", "-o", "m2.gguf"], 2, ["nose"]),
            ("--type alone", ["tune", TINY, "--data", "pair.jsonl", "--type", "q8_0"], 2, ["--merge"]), ("an empty name", t + ["--data", "a.txt,,a.txt"], 2, ["empty"])):
        rc, out, err = run(args, tmp)
        ok = (rc == code if code is not None else rc not in (0, 139, 134)) and sum(l.startswith("wick: ") for l in err.split("\n")) == 1
        check(f"refused: {name}", ok and all(w in err for w in words), f"{rc} {err!r} {words}")


def stages(tmp):
    args = ["train", "--preset", "260k", "--data", "a.txt", "--steps", "2", "--ctx", "32", "--batch", "4", "-o", "st", "--sample-every", "0", "-t", "1"]
    rc, _, err = run(args + ["--until", "tok"], tmp)
    st = os.path.join(tmp, "st")
    check("--until tok", rc == 0 and os.path.exists(st + "/tokenizer.gguf") and os.path.exists(st + "/tokenizer.json") and not os.path.exists(st + "/data.wtok"), os.listdir(st))
    rc, _, err = run(args + ["--until", "pack"], tmp)
    before = os.stat(st + "/tokenizer.gguf").st_mtime_ns, os.stat(st + "/data.wtok").st_mtime_ns
    check("--until pack", rc == 0 and "tokenizer" not in err.replace("tokenizer.", ""), err)
    rc, _, err = run(args, tmp)
    check("what is there is taken", rc == 0 and (os.stat(st + "/tokenizer.gguf").st_mtime_ns, os.stat(st + "/data.wtok").st_mtime_ns) == before, err)
    with open(os.path.join(tmp, "grown.txt"), "w", encoding="utf-8") as f:
        f.write(open(os.path.join(tmp, "a.txt"), encoding="utf-8").read())
    more = [x if x != "a.txt" else "grown.txt" for x in args]
    more[more.index("st")] = "st2"
    run(more + ["--until", "pack"], tmp)
    old = os.stat(os.path.join(tmp, "st2", "data.wtok")).st_mtime_ns
    with open(os.path.join(tmp, "grown.txt"), "a", encoding="utf-8") as f:
        f.write("One more story.\n")
    rc, _, err = run(more + ["--until", "pack"], tmp)
    check("what has changed is made anew", rc == 0 and os.stat(os.path.join(tmp, "st2", "data.wtok")).st_mtime_ns != old, err)
    rc, _, err = run(["train", "--model", os.path.join(st, "latest", "model.gguf"), "--data", os.path.join(st, "data.wtok"), "--steps", "3", "--ctx", "32", "--batch", "4",
                      "-o", "more", "--sample-every", "0", "-t", "1"], tmp)
    check("--model and packed data", rc == 0 and "3 of 3 steps" in err, f"{rc} {err}")
    rc, _, err = run(["train", "--like", TINY, "--data", "a.txt", "--steps", "3", "--ctx", "32", "--batch", "4", "-o", "like", "--sample-every", "0", "-t", "1"], tmp)
    check("--like", rc == 0 and "llama like" in err, f"{rc} {err}")


def budget(tmp):
    for seconds in (10, 60) if LONG else (10,):
        begun = time.monotonic()
        rc, _, err = run(["train", "--preset", "260k", "--data", "a.txt", "--for", f"{seconds}s", "--ctx", "64", "-t", "1", "-o", f"f{seconds}"], tmp)
        s = time.monotonic() - begun
        rows = log(os.path.join(tmp, f"f{seconds}")) if rc == 0 else [{"step": 0, "lr": 1}]
        check(f"--for {seconds}s ends in time", rc == 0 and abs(s - seconds) <= 0.1 * seconds + 1, f"{rc} {s:.2f} s {err[-500:]}")
        check(f"--for {seconds}s: the schedule is at its end", rows[-1]["lr"] < 1e-4 and f"{rows[-1]['step']} of {rows[-1]['step']} steps" in err, rows[-1])


def tune(tmp):
    rc, _, err = run(["tune", TINY, "--data", "pair.jsonl", "--steps", "30", "--rank", "4", "--lr", "0.01", "--batch", "8", "--sample-every", "15", "-t", "1", "-o", "my.lora.gguf",
                      "--merge", "merged.gguf"], tmp)
    lora, merged = os.path.join(tmp, "my.lora.gguf"), os.path.join(tmp, "merged.gguf")
    check("tune", rc == 0 and os.path.exists(lora) and os.path.exists(merged) and f"--lora {os.path.realpath(lora)}" in err, f"{rc} {err}")
    losses = [x["loss"] for x in log(os.path.join(tmp, "my.lora.run")) if x["loss"] is not None]
    check("tune: loss falls", len(losses) == 30 and sum(losses[-5:]) < sum(losses[:5]) - 0.25, losses)
    args = ["--raw", "-q", "-n", "12", "--temp", "0", "Say number"]
    a = run(["run", TINY, "--lora", lora] + args, tmp)
    b = run(["run", merged] + args, tmp)
    c = run(["run", TINY] + args, tmp)
    check("the adapter runs", a[0] == 0 and a[1] != c[1], f"{a} {c}")
    check("merged = adapter", b[0] == 0 and b[1] == a[1], f"{a} {b}")
    rc, _, err = run(["tune", TINY, "--data", "chat.jsonl", "--steps", "2", "-o", "x.gguf"], tmp)
    check("messages without a template are refused with the line", rc != 0 and "chat.jsonl, line 1" in err, f"{rc} {err}")


def tune_trained(tmp):
    """Messages, by the template of a model that train has made."""
    model = os.path.join(tmp, "r", "best", "model.gguf")
    rc, _, err = run(["tune", model, "--data", "chat.jsonl", "--steps", "6", "--batch", "4", "--sample-every", "3", "-o", "talk.gguf", "--ctx", "32", "-t", "1"], tmp)
    check("tune on messages", rc == 0 and "Tell" in err, f"{rc} {err}")
    rc, out, err = run(["run", model, "--lora", os.path.join(tmp, "talk.gguf"), "-q", "-n", "4", "Tell 3."], tmp)
    check("it answers", rc == 0, f"{rc} {err}")


def full(tmp):
    """A disk that takes no more: the last good checkpoint stays, the line says how to go on."""
    args = ["train", "--data", "a.txt", "--steps", "400", "--save-every", "5", "--eval-every", "0", "-o", "full"] + SMALL
    rc, _, err = run(args + ["--until", "pack"], tmp)
    rc, _, err = run(args, tmp, file_limit=1 << 20)
    check("no room for the first model", rc == 1 and err.count("wick: ") == 1, f"{rc} {err}")
    shutil.rmtree(os.path.join(tmp, "full"))
    # The log grows to its limit after some steps; checkpoints are below it at first.
    rc, _, err = run(args, tmp, file_limit=2300000)
    size = os.path.getsize(os.path.join(tmp, "full", "latest", "state.gguf")) if rc == 0 else 0
    check("room enough: done", rc == 0 and size < 2300000, f"{rc} {err[-400:]}")
    p = subprocess.Popen([WICK] + [x if x != "full" else "full2" for x in args] + ["--jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=tmp)
    for line in p.stdout:
        e = json.loads(line)
        if e["type"] == "save" and e["step"] >= 10:
            break
    resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    _, err = p.communicate(timeout=120)
    err = err.decode()
    check("a disk that fills up", p.returncode == 1 and err.count("wick: ") == 1 and "go on with: wick train --resume" in err, f"{p.returncode} {err[-500:]}")
    rc, _, err = run(["train", "--resume", "full2"], tmp)
    check("and goes on with room", rc == 0 and "400 of 400 steps" in err, f"{rc} {err[-400:]}")
    check("to the same end", same(os.path.join(tmp, "full", "latest"), os.path.join(tmp, "full2", "latest"), "model.gguf"), "")


with tempfile.TemporaryDirectory() as tmp:
    texts(tmp)
    parts = [scratch, tune, tune_trained, mistakes, stages, plans, resume, mixture, foreign, optimizers, half_products, stopped, signal_inside_a_product] + ([] if SLOW else [kills, budget, full])
    if SLOW:
        print("skipped: kills, budget and full disks under sanitizers (they are about time and limits)")
    wanted = sys.argv[2:]
    for part in parts:
        if not wanted or part.__name__ in wanted:
            begun = time.monotonic()
            part(tmp)
            print(f"{part.__name__}: {time.monotonic() - begun:.1f} s")
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
