#!/usr/bin/env python3
"""The program as a person meets it: every option at its limits, bad files, closed pipes, exit codes, one sentence.

usage: test_cli.py WICK-BINARY     (run from the repository root; standard library only)"""
import os
import re
import resource
import subprocess
import sys
import tempfile

WICK = os.path.abspath(sys.argv[1])
TINY = "tests/golden/tiny/llama.gguf"
passed = failed = 0


def run(args, stdin=b"", stdout=subprocess.PIPE, env=None, limit=None, timeout=60):
    def before():
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    e = {k: v for k, v in os.environ.items() if not k.startswith("WICK_")}
    e.update(env or {})
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
    """Rows of the option table: name, type, min, max, commands."""
    rows = []
    for line in open("engine/app/args.def", encoding="utf-8"):
        m = re.match(r'WK_ARG\((\w+), +"([\w-]+)", +(\S+), +("[^"]*"|\w+), *(\S+), *(\S+), +NULL, +"[^"]*", +([\w|]+),', line)
        if m:
            rows.append((m[2], m[4].strip('"'), float(m[5]), float(m[6]), m[7].split("|")))
    return rows


def options():
    word = {"RUN": "run", "CHAT": "chat", "SHOW": "show", "TOK": "tokenize", "PLAN": "plan"}
    rows = table()
    check("the option table was read", len(rows) > 20, str(len(rows)))
    for name, kind, low, high, cmds in rows:
        cmd = word[cmds[0]]
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
    limits = [("ctx", "64"), ("threads", "1"), ("max-tokens", "1"), ("temp", "0"), ("temp", "100"), ("top-p", "1"),
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
    refused("no default model", ["run", "hi"], 1, ["./start"], env={"HOME": tmp, "XDG_DATA_HOME": tmp})
    refused("no such model name", ["show", "-m", "nobody"], 1, ["nobody"], env={"HOME": tmp})
    rc, _, err = run(["run", "-m", TINY, "--raw", "-n", "2", "a"])
    check("first line", "ctx" in err and "threads" in err and "cpu" in err, err)
    for extra in (["--help"], ["-h"]):
        for cmd in ("run", "chat", "show", "tokenize", "plan"):
            rc, out, err = run([cmd] + extra)
            check(f"{cmd} {extra[0]}", rc == 0 and b"--model" in out and err == "", f"{rc} {err}")
    rc, out, _ = run([])
    check("wick alone is short", rc == 0 and 0 < out.count(b"\n") <= 10, repr(out))
    rc, out, _ = run(["--version"])
    check("--version", rc == 0 and b"arithmetic" in out, repr(out))
    rc, out, err = run(["tokenize", "-m", TINY, "--check", "some text \xc3\xa9 here"])
    check("tokenize --check", rc == 0 and out.count(b"\n") > 3, f"{rc} {err}")
    rc, out, err = run(["plan", TINY, "--steps"])
    check("plan --steps", rc == 0 and b"matmul" in out and b"attn" in out, f"{rc} {err}")
    rc, out, err = run(["plan", TINY])
    check("plan", rc == 0 and b"verdict      fits" in out, f"{rc} {out!r} {err}")
    rc, out, err = run(["show", "--tensors", TINY])
    check("show", rc == 0 and b"token_embd.weight" in out, f"{rc} {err}")
    refused("context that does not fit", ["run", "-m", TINY, "--raw", "-c", "1073741824", "--kv", "f32", "a"], 4,
            ["needs", "available", "GB"])


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
    output(tmp)
    memory()
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
