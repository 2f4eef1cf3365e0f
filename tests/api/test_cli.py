#!/usr/bin/env python3
"""The program as a person meets it: every option at its limits, bad files, closed pipes, exit codes, one sentence.

usage: test_cli.py WICK-BINARY     (run from the repository root; standard library only)"""
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

WICK = os.path.abspath(sys.argv[1])
TINY = "tests/golden/tiny/llama.gguf"
WORD = {"RUN": "run", "CHAT": "chat", "SHOW": "show", "TOK": "tokenize", "PLAN": "plan", "DOC": "doctor", "BENCH": "bench",
        "EVAL": "eval", "WALL": "wall", "TRAIN": "train", "TUNE": "tune"}
passed = failed = 0


def run(args, stdin=b"", stdout=subprocess.PIPE, env=None, limit=None, timeout=60):
    def before():
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    e.update({"HOME": "/nonexistent", **(env or {})})
    p = subprocess.run([WICK] + args, input=stdin, stdout=stdout, stderr=subprocess.PIPE, env=e, timeout=timeout,
                       preexec_fn=before)
    return p.returncode, p.stdout or b"", p.stderr.decode("utf-8", "replace")


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {detail}")


def refused(name, args, code, words, **kw):
    """Exit code, nothing on stdout, and one line `wick: ...` that holds every word."""
    rc, out, err = run(args, **kw)
    lines = [l for l in err.split("\n") if l.startswith("wick: ")]
    good = rc == code and out == b"" and len(lines) == 1 and all(w in lines[0] for w in words)
    check(name, good, f"exit {rc} (wanted {code}), stderr {err!r}, wanted words {words}")


def table():
    """Rows of the option table: name, type, min, max, commands, group, level."""
    rows = []
    string = r'(NULL|"(?:[^"\\]|\\.)*")'
    row = re.compile(r'WK_ARG\((\w+), +"([\w-]+)", +(\S+), +("[^"]*"|\w+), *(\S+), *(\S+), +' + string +
                     r', +"[^"]*", +([\w|]+), +"(\w+)", +(\w),')
    for line in open("engine/app/args.def", encoding="utf-8"):
        m = row.match(line)
        if m:
            rows.append((m[2], m[4].strip('"'), float(m[5]), float(m[6]), m[8].split("|"), m[9], m[10]))
        elif line.startswith("WK_ARG("):
            check("option row", False, line)
    return rows


def options():
    rows = table()
    check("the option table was read", len(rows) > 20, str(len(rows)))
    for name, kind, low, high, cmds, _, _ in rows:
        cmd = WORD[cmds[0]]
        if kind == "FLAG":
            if len(name) > 1:
                refused(f"--{name}=1", [cmd, f"--{name}=1"], 2, [name, "takes no value"])
            continue
        if kind in ("INT", "NUM"):
            bad = ["garbage", "12x", "", "1e999", "nan", "99999999999999999999999"]
            bad += [repr(low - 1), str(int(high) + 1) if high < 1e18 else "9300000000000000000"]
            for v in bad:
                refused(f"--{name} {v}", [cmd, f"--{name}={v}"], 2, [name])
        if "|" in kind or kind == "cpu":
            refused(f"--{name} nonsense", [cmd, f"--{name}", "nonsense"], 2, [name, "nonsense"])
        refused(f"--{name} without value", [cmd, f"--{name}"], 2, [name, "value"])
    refused("misspelt option", ["run", "--temprature", "1"], 2, ["--temp"])
    refused("unknown option", ["run", "--zzzzzzzzzz"], 2, ["zzzzzzzzzz"])
    refused("misspelt command", ["shwo"], 2, ["show"])
    refused("unknown level", ["run", "-m", TINY, "--cpu", "pentium", "a"], 2, ["pentium"])
    refused("17 stops", ["run", "-m", TINY] + ["--stop", "x"] * 17 + ["a"], 2, ["16"])
    refused("environment", ["run", "-m", TINY, "a"], 2, ["WICK_CTX"], env={"WICK_CTX": "many"})
    for bad in ("5", "=1", "5=", "x=1", "-1=2", "5=1001", "5=nan", "5=1x", "99999999999=1"):
        refused(f"--logit-bias {bad}", ["run", "--logit-bias", bad], 2, ["logit-bias"])
    refused("a bias beyond the vocabulary", ["run", "-m", TINY, "--raw", "--logit-bias", "288=1", "a"], 2, ["288"])
    rc, out, err = run(["run", "-q", "-m", TINY, "--raw", "-n", "3", "--temp", "0", "--logit-bias", "66=1000", "ab"])
    check("--logit-bias", rc == 0 and out == b"@@@\n", f"{rc} {out!r} {err}")
    rc, out, err = run(["run", "-q", "-m", TINY, "--raw", "-n", "3", "--temp", "0", "--logit-bias", "66=1000", "--logit-bias=67=995",
                        "--presence-penalty", "10", "ab"])
    check("--presence-penalty", rc == 0 and out == b"@A@\n", f"{rc} {out!r} {err}")
    limits = [("repeat-penalty", "0.01"), ("repeat-penalty", "10"), ("frequency-penalty", "-10"), ("presence-penalty", "10"),
              ("ctx", "64"), ("threads", "1"), ("max-tokens", "1"), ("temp", "0"), ("temp", "100"), ("top-p", "1"),
              ("top-k", "0"), ("top-k", "2147483647"), ("min-p", "0"), ("seed", "0"), ("seed", "9000000000000000000"),
              ("kv", "bf16"), ("kv", "f32"), ("batch", "1"), ("batch", "4096"), ("color", "never"), ("threads", "9")]
    for name, v in limits:
        rc, out, err = run(["run", "-q", "-m", TINY, "--raw", f"--{name}", v, "-n", "2", "ab"])
        check(f"--{name} {v}", rc == 0, f"exit {rc}: {err}")


def files(tmp):
    def make(name, data):
        path = os.path.join(tmp, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    good = open(TINY, "rb").read()
    for cmd in ("run", "chat", "show", "tokenize", "plan"):
        tail = [] if cmd in ("show", "plan", "chat") else ["text"]
        refused(f"{cmd} missing file", [cmd, "-m", tmp + "/nothing.gguf"] + tail, 1, ["nothing.gguf"])
        refused(f"{cmd} folder", [cmd, "-m", tmp] + tail, 1, [tmp])
        refused(f"{cmd} empty file", [cmd, "-m", make("empty.gguf", b"")] + tail, 6, ["empty"])
        refused(f"{cmd} wrong magic", [cmd, "-m", make("magic.gguf", b"GGUX" + good[4:])] + tail, 6, ["magic.gguf"])
        refused(f"{cmd} zip", [cmd, "-m", make("zip.gguf", b"PK\x03\x04" + good[4:])] + tail, 6, ["zip.gguf"])
        refused(f"{cmd} big endian", [cmd, "-m", make("be.gguf", b"GGUF\x00\x00\x00\x03" + good[8:])] + tail, 6, ["endian"])
        refused(f"{cmd} cut file", [cmd, "-m", make("cut.gguf", good[:5000])] + tail, 6, ["cut.gguf"])
        refused(f"{cmd} tensors cut", [cmd, "-m", make("cut2.gguf", good[:-64])] + tail, 6, ["cut2.gguf"])
    fifo = os.path.join(tmp, "fifo.gguf")
    os.mkfifo(fifo)
    refused("fifo", ["show", fifo], 1, ["fifo.gguf"])
    loop = os.path.join(tmp, "loop.gguf")
    os.symlink(loop, loop)
    refused("symlink loop", ["show", loop], 1, ["loop.gguf"])
    # a value that is not finite, in the last tensor
    refused("NaN weights", ["run", "-m", make("nan.gguf", good[:-64] + b"\x00\x00\xc0\x7f" * 16), "--raw", "a"], 6, ["finite"])


def behaviour(tmp):
    base = ["run", "-m", TINY, "--raw", "--temp", "0", "-n", "8"]
    rc, out, err = run(base + ["-q", "hello"])
    check("quiet run", rc == 0 and err == "" and out.endswith(b"\n"), f"{rc} {out!r} {err!r}")
    rc2, out2, _ = run(base + ["-q"], stdin=b"hello")
    check("stdin is the prompt", rc2 == 0 and out2 == out, f"{rc2} {out2!r} {out!r}")
    rc, hashed, _ = run(base + ["-q", "--hash", "hello"])
    check("--hash is the last line", re.search(rb"\nhash [0-9a-f]{32}\n$", hashed) is not None, repr(hashed))
    refused("no prompt", base, 2, ["no prompt"])
    refused("prompt too long", ["run", "-m", TINY, "--raw", "-c", "64", "word " * 200], 1, ["tokens", "64"])
    refused("chat without a template", ["chat", "-m", TINY], 1, ["no chat template"], stdin=b"hi\n")
    bare = {"HOME": tmp, "XDG_DATA_HOME": tmp}
    rc, out, err = run(["run", "Once upon a time", "--temp", "0", "-n", "24"], env=bare)
    check("no default model: the built-in one tells", rc == 0 and len(out.split()) > 8 and "./start" in err, f"{rc} {out} {err}")
    rc, again, err = run(["run", "-m", "tiny", "Once upon a time", "--temp", "0", "-n", "24"], env=bare)
    check("tiny by name", rc == 0 and again == out and "./start" not in err, f"{rc} {again} {err}")
    refused("no default model to chat with", ["chat"], 1, ["./start"], env=bare, stdin=b"hi\n")
    refused("no default model to look at", ["show"], 1, ["./start"], env=bare)
    refused("no such model name", ["show", "-m", "nobody"], 1, ["nobody"], env={"HOME": tmp})
    rc, _, err = run(["run", "-m", TINY, "--raw", "-n", "2", "a"])
    check("first line", "ctx" in err and "threads" in err and "cpu" in err, err)
    for extra in (["--help"], ["-h"]):
        for cmd in ("run", "chat", "show", "tokenize", "plan"):
            rc, out, err = run([cmd] + extra)
            check(f"{cmd} {extra[0]}", rc == 0 and b"--model" in out and err == "", f"{rc} {err}")
    rc, out, _ = run([])
    check("wick alone is short", rc == 0 and 0 < out.count(b"\n") <= 18, repr(out))
    rc, out, _ = run(["--version"])
    check("--version", rc == 0 and b"arithmetic" in out, repr(out))
    rc, out, err = run(["tokenize", "-m", TINY, "--check", "some text \xc3\xa9 here"])
    check("tokenize --check", rc == 0 and out.count(b"\n") > 3, f"{rc} {err}")
    rc, out, err = run(["plan", TINY, "--steps"])
    check("plan --steps", rc == 0 and b"matmul" in out and b"attn" in out, f"{rc} {err}")
    rc, out, err = run(["plan", TINY])
    check("plan", rc == 0 and b"verdict      fits" in out, f"{rc} {out!r} {err}")
    rc, out, err = run(["doctor"])
    check("doctor", rc == 0 and b"bit for bit" in out and b"GB/s" in out, f"{rc} {out!r} {err}")
    rc, out, err = run(["doctor", "--json"])
    check("doctor --json", rc == 0 and len(json.loads(out)["lines"]) >= 7, f"{rc} {out!r} {err}")
    rc, out, err = run(["plan", TINY, "--ctx", "1073741824", "--kv", "f32"])
    check("plan that does not fit", rc == 4 and b"fits with    --ctx" in out, f"{rc} {out!r} {err}")
    rc, out, err = run(["show", "--tensors", TINY])
    check("show", rc == 0 and b"token_embd.weight" in out, f"{rc} {err}")
    refused("context that does not fit", ["run", "-m", TINY, "--raw", "-c", "1073741824", "--kv", "f32", "a"], 4,
            ["needs", "available", "GB"])


def devices():
    """One that is not there: refused with what is missing; the cpu is never a silent stand-in."""
    ask = ["-m", TINY, "--raw", "-n", "2", "a"]
    for cmd in ["run"] + ask, ["plan", TINY]:
        refused("a device without a module", cmd + ["--device", "tpu"], 1, ["no module for tpu", "libwick_tpu.so"])
        refused("no name of a device", cmd + ["--device", "a b"], 2, ["a b", "cuda"])
        refused("a module that is not there", cmd + ["--device", "/no/such.so:1"], 1, ["/no/such.so"])
        for n in ["-1", "65537", "x", "1.5", ""]:
            refused("gpu-layers " + n, cmd + ["--gpu-layers", n], 2, ["--gpu-layers", "auto, all or 0"])
    rc, out, err = run(["run", "--device", "tpu", "--gpu-layers", "0", "--json"] + ask)
    o = json.loads(out)
    check("no layer on a device", rc == 0 and o["device"] == "cpu" and o["device_bits"] is False, f"{rc} {out!r} {err}")
    for cmd in ["run"] + ask, ["plan", TINY]:
        rc, out, err = run(cmd + ["--device", "auto", "--json"])
        o = json.loads(out)
        told = any("device auto: everything runs on the cpu: " in w for w in o["warnings"])
        check("auto says where", rc == 0 and told == (o["device"] == "cpu") and told == ("warning: device auto" in err), f"{rc} {out!r} {err}")
    rc, out, err = run(["doctor"])
    check("doctor names devices", b"\ncuda" in out, f"{rc} {out!r}")


def output(tmp):
    """Exit 0 means written."""
    base = [WICK, "run", "-q", "-m", TINY, "--raw", "--temp", "0", "-n", "8", "hello"]
    full = open("/dev/full", "wb")
    for name, args in (("run", base), ("show", [WICK, "show", TINY]), ("plan", [WICK, "plan", TINY, "--steps"]),
                       ("tokenize", [WICK, "tokenize", "-m", TINY, "text"]), ("help", [WICK, "run", "--help"])):
        p = subprocess.run(args, stdout=full, stderr=subprocess.PIPE)
        check(f"{name} > /dev/full", p.returncode == 1 and p.stderr.startswith(b"wick: "), f"{p.returncode} {p.stderr!r}")
        p = subprocess.run(args, stdout=None, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
        check(f"{name} with stdout closed", p.returncode == 1 and p.stderr.startswith(b"wick: "), f"{p.returncode} {p.stderr!r}")
    r, w = os.pipe()
    os.close(r)
    p = subprocess.run(base, stdout=w, stderr=subprocess.PIPE)
    check("broken pipe", p.returncode == 1 and b"written" in p.stderr, f"{p.returncode} {p.stderr!r}")
    os.close(w)
    want = run(base[1:])[1]
    same = sum(run(base[1:])[1] == want for _ in range(20))
    check("20 runs to a pipe", same == 20 and len(want) > 1, f"{same} of 20 equal")


def objects(out):
    return [json.loads(line) for line in out.decode().split("\n") if line]


def machine_readable(tmp):
    base = ["-m", TINY, "--raw", "--temp", "0", "-n", "8", "hello"]
    text = run(["run", "-q"] + base)[1]
    rc, out, err = run(["run", "--json", "--hash", "--seed", "5"] + base)
    o = objects(out)
    check("run --json", rc == 0 and len(o) == 1 and o[0]["schema"] == "wick.run/1", f"{rc} {out!r} {err}")
    o = o[0]
    check("its text", o["text"] + "\n" == text.decode("utf-8", "replace"), f"{o['text']!r} {text!r}")
    check("its figures", o["prompt_tokens"] > 0 and o["generated_tokens"] == 8 and o["finish"] == "length" and o["seed"] == 5 and
          re.fullmatch("[0-9a-f]{32}", o["hash"]) and isinstance(o["warnings"], list) and "type" not in o, f"{o}")
    rc, out, err = run(["run", "--jsonl"] + base)
    e = objects(out)
    check("run --jsonl", rc == 0 and all(x["schema"] == "wick.run/1" for x in e) and e[-1]["type"] == "done" and
          {x["type"] for x in e} <= {"progress", "text", "warning", "done"}, f"{rc} {out!r}")
    check("its text in events", "".join(x["text"] for x in e if x["type"] == "text") == o["text"], f"{out!r}")
    no_raw = [a for a in base if a != "--raw"]
    rc, out, err = run(["run", "--jsonl"] + no_raw)
    e = objects(out)
    said = [x["text"] for x in e if x["type"] == "warning"]
    check("warnings are events, and in the last object", said and "chat template" in said[-1] and
          e[-1]["warnings"] == said and "warning: " + said[-1] in err, f"{out!r} {err}")
    rc, out, err = run(["run", "--json", "-q"] + no_raw)
    check("and there with -q", objects(out)[0]["warnings"] == said and err == "", f"{out!r} {err}")
    rc, out, err = run(["tokenize", "--json", "--check", "-m", TINY, "a \u00e9"])
    o = objects(out)[0]
    check("tokenize --json", rc == 0 and o["schema"] == "wick.tokenize/1" and o["n"] == len(o["tokens"]) and o["lossless"] and
          o["tokens"][0] == {"id": o["tokens"][0]["id"], "offset": 0, "piece": "a", "control": False}, f"{out!r}")
    ids = run(["tokenize", "--ids", "-m", TINY, "a \u00e9"])[1].split()
    o = objects(run(["tokenize", "--jsonl", "--ids", "-m", TINY, "a \u00e9"])[1])[-1]
    check("tokenize --jsonl --ids", o["type"] == "done" and o["ids"] == [int(i) for i in ids], f"{o}")
    o = objects(run(["plan", "--json", TINY])[1])[0]
    check("plan --json", o["schema"] == "wick.plan/1" and o["verdict"] == "fits" and o["need"] < o["available"], f"{o}")
    o = objects(run(["plan", "--json", "--steps", TINY])[1])[0]
    check("plan --json --steps", "attn" in o["steps"], f"{o}")
    o = objects(run(["show", "--json", "--tensors", TINY])[1])[0]
    check("show --json", o["schema"] == "wick.show/1" and o["n_layer"] == 2 and o["metadata"]["llama.block_count"] == "2" and
          any(t["name"] == "token_embd.weight" and t["shape"] == [64, 288] for t in o["tensors"]), f"{str(o)[:300]}")
    cut = os.path.join(tmp, "short.gguf")
    with open(cut, "wb") as f:
        f.write(open(TINY, "rb").read()[:5000])
    for name, args, code, kind in (("bad file", ["show", "--json", cut], 6, None), ("no file", ["run", "--json", "-m", "/no.gguf", "x"], 1, "io"),
                                   ("usage", ["plan", "--jsonl", "--ctx", "4"], 2, "arg"), ("late", ["tokenize", "--bad", "--json"], 2, "arg")):
        rc, out, err = run(args)
        o = objects(out)
        ok = rc == code and len(o) == 1 and o[0]["schema"] == f"wick.{args[0]}/1" and err.startswith("wick: ")
        check(f"error object: {name}", ok and o[0]["error"]["message"] in err and kind in (None, o[0]["error"]["type"]), f"{rc} {out!r} {err}")
    p = subprocess.run([WICK, "run", "--json"] + base, stdout=open("/dev/full", "wb"), stderr=subprocess.PIPE)
    check("--json > /dev/full", p.returncode == 1 and p.stderr.count(b"wick: ") == 1, f"{p.returncode} {p.stderr!r}")


def sources(tmp):
    """Built-in < config < environment < flags, and where each value is said to come from."""
    home = os.path.join(tmp, "home")
    path = os.path.join(home, ".config/wick/config")
    os.makedirs(os.path.dirname(path))
    env = {"HOME": home, "XDG_CONFIG_HOME": ""}

    def config(text):
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())

    def explained(args, extra=None):
        rc, out, err = run(args + ["--explain"], env={**env, **(extra or {})})
        return {l.split()[0]: re.split(r"\s{2,}| (?=default|config|environment|flag)", l)[1:] for l in out.decode().split("\n") if l}, rc, err

    values, rc, err = explained(["run"])
    check("--explain, defaults", rc == 0 and values["kv"] == ["f16", "default"], f"{values.get('kv')} {err}")
    config('# settings\n\nctx = 512   # small\n  kv=bf16\ntemp = 0.25\nstop = "a # b"\nstop = two\nids = yes\nmodel = "' + TINY + '"\r\n')
    values, rc, err = explained(["run", "--temp", "1"], {"WICK_KV": "f32", "WICK_TEMP": "0.5"})
    want = {"ctx": ["512", f"config {path}:3"], "kv": ["f32", "environment WICK_KV"], "temp": ["1", "flag"], "top-k": ["0", "default"],
            "stop": ['"a # b" "two"', f"config {path}:7"]}
    for key, value in want.items():
        check(f"--explain {key}", values.get(key) == value, f"{values.get(key)} {err}")
    check("--explain: other commands' keys are left out", "ids" not in values, f"{values}")
    o = objects(run(["run", "--explain", "--json"], env=env)[1])[0]
    check("--explain --json", o["schema"] == "wick.explain/1" and {"name": "ctx", "value": "512", "from": f"config {path}:3"} in o["settings"], f"{o}")
    rc, out, err = run(["run", "--raw", "-n", "2", "hello"], env=env)
    check("the config file's model and context", rc == 0 and "ctx 512" in err and "kv bf16" in err, f"{rc} {err}")
    rc, out, err = run(["run", "--stop", "x", "--raw", "-n", "2", "--explain"], env=env)
    check("a flag replaces the list", b'"x"' in out and b"two" not in out, f"{out!r}")
    for name, text, words in (("no key", "ctx = 512\nnonsense\n", [":2", "nonsense"]), ("unknown key", "\n\ntmep = 1\n", [":3", "tmep", "temp"]),
                              ("bad value", "ctx = many\n", [":1", "ctx", "many"]), ("out of range", "temp=101", [":1", "temp", "100"]),
                              ("other command's value", "ids = perhaps\n", [":1", "ids"]), ("flag word", "quiet = 2\n", [":1", "quiet"]),
                              ("test option", "cpu = ref\n", [":1", "cpu"]), ("help", "help = 1\n", ["help"]), ("empty key", "= 3\n", [":1"]),
                              ("not text", b"ctx = 5\xff12\n", ["UTF-8"]), ("zero byte", b"ctx = 512\0\n", ["UTF-8"]),
                              ("too many", "stop = x\n" * 17, [":17", "16"]), ("too big", "# x\n" * 300000, ["1 MiB"])):
        config(text)
        refused(f"config: {name}", ["run", "-m", TINY, "x"], 2, ["config"] + words, env=env)
    rc, out, err = run(["run", "--help"], env=env)
    check("help works beside a bad config", rc == 0 and err == "", err)
    os.unlink(path)
    os.mkdir(path)
    refused("config: a folder", ["run", "-m", TINY, "x"], 1, ["config"], env=env)
    os.rmdir(path)
    config("")
    check("config: empty", explained(["run"])[1] == 0, "")
    refused("environment: flag", ["run", "-m", TINY, "x"], 2, ["WICK_QUIET"], env={"WICK_QUIET": "perhaps"})


def pages(tmp):
    rc, out, err = run(["help", "--man"])
    man = out.decode()
    rows = table()
    check("help --man", rc == 0 and man.startswith(".TH WICK 1") and ".SH EXIT STATUS" in man, man[:200])
    shown = {r[0] for r in rows if r[6] != "T"}  # a name may be a test's for one command only
    for name, _, _, _, _, _, level in rows:
        if len(name) > 1:
            there = "\\-\\-" + name.replace("-", "\\-") + "\n" in man or "\\-\\-" + name.replace("-", "\\-") + " " in man
            check(f"man page: {name}", there == (name in shown), "")
    for line in man.split("\n"):
        check("roff request", not line.startswith(".") or re.match(r"\.(TH|SH|SS|TP|PP|B|I|br)\b", line), line)
    if shutil.which("groff"):
        p = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=out, stderr=subprocess.PIPE)
        check("groff has nothing to say", p.returncode == 0 and p.stderr == b"", f"{p.stderr[:300]!r}")
    for shell in ("bash", "zsh", "fish"):
        rc, out, err = run(["completion", shell])
        check(f"completion {shell}", rc == 0 and b"tokenize" in out and b"max-tokens" in out and b"f16" in out, f"{rc} {err}")
        if shutil.which(shell):
            path = os.path.join(tmp, "completion." + shell)
            with open(path, "wb") as f:
                f.write(out)
            p = subprocess.run([shell, "-n", path], stderr=subprocess.PIPE)
            check(f"{shell} reads it", p.returncode == 0, f"{p.stderr!r}")
    if shutil.which("bash"):
        def complete(*words):
            script = f"source {tmp}/completion.bash; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _wick; echo ${{COMPREPLY[@]}}"
            return subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE).stdout.decode().split()
        check("bash: commands", complete("wick", "pl") == ["plan"], f"{complete('wick', 'pl')}")
        check("bash: options", complete("wick", "chat", "--max") == ["--max-tokens"], f"{complete('wick', 'chat', '--max')}")
        check("bash: words", complete("wick", "run", "--kv", "f") == ["f16", "f32"], f"{complete('wick', 'run', '--kv', 'f')}")
    refused("completion of no shell", ["completion"], 2, ["bash"])
    refused("completion tcsh", ["completion", "tcsh"], 2, ["tcsh"])
    full = open("/dev/full", "wb")
    for args in (["help", "--man"], ["completion", "bash"], ["run", "--explain"]):
        p = subprocess.run([WICK] + args, stdout=full, stderr=subprocess.PIPE)
        check(f"{args} > /dev/full", p.returncode == 1 and p.stderr.startswith(b"wick: "), f"{p.returncode} {p.stderr!r}")
    for cmd in WORD.values():
        common = run([cmd, "-h"])[1].decode().count("--") - 1
        check(f"{cmd} -h is short", common <= 15, str(common))


def adapter(path, size, arch="llama"):
    """A LoRA of rank 1 on one matrix of 64 x 64, every value of A and B the same."""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    keys = b"".join(text(k) + struct.pack("<I", 8) + text(v) for k, v in
                    (("general.type", "adapter"), ("general.architecture", arch), ("adapter.type", "lora")))
    infos = text("blk.0.attn_output.weight.lora_a") + struct.pack("<IQQIQ", 2, 64, 1, 0, 0)
    infos += text("blk.0.attn_output.weight.lora_b") + struct.pack("<IQQIQ", 2, 1, 64, 0, 256)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 3) + keys + infos
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + struct.pack("<f", 1) * 64 + struct.pack("<f", size) * 64)
    return path


def lora(tmp):
    base = ["run", "-m", TINY, "--raw", "--temp", "0", "-n", "8", "--hash", "the"]

    def hash_of(name, more):
        rc, out, err = run(base + more)
        check(name, rc == 0, f"{rc} {err}")
        return out.split(b"hash ")[-1].strip()

    zero, one = adapter(tmp + "/zero.gguf", 0), adapter(tmp + "/one.gguf", 0.5)
    plain = hash_of("lora: without", [])
    check("lora: B = 0", hash_of("lora: zero", ["--lora", zero]) == plain)
    with_one = hash_of("lora: one", ["--lora", one])
    check("lora: B", with_one != plain)
    check("lora: scale 0", hash_of("lora: scale 0", ["--lora", one + ":0"]) == plain)
    check("lora: scale", hash_of("lora: scale", ["--lora", one + ":-2"]) not in (plain, with_one))
    check("lora: two", hash_of("lora: two", ["--lora", one, "--lora", zero]) == with_one)
    rc, out, err = run(["plan", "-m", TINY, "--lora", one, "--steps"])
    check("lora: steps", rc == 0 and out.count(b"    lora ") == 1, out[-500:])
    rc, out, err = run(["plan", "-m", TINY, "--lora", one])
    check("lora: plan", rc == 0, err)
    refused("lora: absent", base + ["--lora", tmp + "/absent.gguf"], 1, ["absent.gguf"])
    refused("lora: a model", base + ["--lora", TINY], 6, ["general.type is missing", "this is no adapter"])
    refused("lora: other model", base + ["--lora", adapter(tmp + "/other.gguf", 1, "qwen3")], 6, ["\"qwen3\"", "\"llama\""])
    refused("lora: scale too large", base + ["--lora", one + ":1e6"], 2, ["-1000 .. 1000"])
    refused("lora: no file", base + ["--lora", ":2"], 2, ["FILE:SCALE"])
    refused("lora: plan of a model", ["plan", "-m", TINY, "--lora", TINY], 6, ["general.type is missing"])


def memory():
    if "asan" in WICK or os.environ.get("WICK_SANITIZED"):
        print("skipped: address-space limits do not work under sanitizers")
        return
    for mib in (40, 60, 100):
        rc, out, err = run(["run", "-q", "-m", TINY, "--raw", "-n", "2", "a"], limit=mib << 20)
        one = [l for l in err.split("\n") if l.startswith("wick: ")]
        check(f"{mib} MiB of address space", rc == 0 or (rc in (1, 4) and len(one) == 1), f"exit {rc}: {err}")


with tempfile.TemporaryDirectory() as tmp:
    options()
    files(tmp)
    behaviour(tmp)
    devices()
    output(tmp)
    machine_readable(tmp)
    sources(tmp)
    pages(tmp)
    lora(tmp)
    memory()
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
