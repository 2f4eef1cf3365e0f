#!/usr/bin/env python3
"""Files made by strangers, and a hostile world around the program: refused in one sentence, soon, in little memory; and
good files close to the border, which must load and compute the same bits.

usage: test_hostile.py WICK-BINARY [WORD]     (from the repository root; only cases whose name holds WORD)

WICK_SANITIZED=1: a part of the files, without limits of time and memory."""
import concurrent.futures
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time

WICK = os.path.abspath(sys.argv[1])
WORD = sys.argv[2] if len(sys.argv) > 2 else ""
SANITIZED = bool(os.environ.get("WICK_SANITIZED"))
TINY = "tests/golden/tiny/llama.gguf"
LIMIT = 30 if SANITIZED else 10  # seconds until a process counts as hanging
lock, passed, failed, slowest, biggest = threading.Lock(), 0, 0, {}, {}


class Result:
    def __init__(self, rc, out, err, seconds, cpu, rss, hung):
        self.rc, self.out, self.err, self.seconds, self.cpu, self.rss, self.hung = rc, out, err, seconds, cpu, rss, hung


def start(args, stdin, stdout, stderr, env, before):
    e = {k: v for k, v in os.environ.items() if not k.startswith("WICK_")}
    e.update(env or {})
    return subprocess.Popen([WICK] + args, stdin=stdin, stdout=stdout, stderr=stderr, env=e, preexec_fn=before)


def run(args, stdin=b"", env=None, before=None, close_stdin=False):
    """One process with its exit code, output, time and peak memory."""
    def prepare():
        if close_stdin:
            os.close(0)
        if before:
            before()

    with tempfile.TemporaryFile() as i, tempfile.TemporaryFile() as o, tempfile.TemporaryFile() as e:
        i.write(stdin)
        i.seek(0)
        t, hung = time.monotonic(), []
        p = start(args, i, o, e, env, prepare if before or close_stdin else None)
        watch = threading.Timer(LIMIT, lambda: (hung.append(1), os.kill(p.pid, signal.SIGKILL)))
        watch.start()
        _, status, usage = os.wait4(p.pid, 0)
        watch.cancel()
        p.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - t
        o.seek(0)
        e.seek(0)
        return Result(p.returncode, o.read(), e.read(), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024,
                      bool(hung))


def check(name, ok, detail=""):
    global passed, failed
    with lock:
        if ok:
            passed += 1
        else:
            failed += 1
            print(f"FAILED {name}: {detail}", flush=True)
    return ok


def note(kind, name, r):
    with lock:
        slowest[kind] = max(slowest.get(kind, (0, "")), (r.cpu, name))
        biggest[kind] = max(biggest.get(kind, (0, "")), (r.rss, name))


# ---- what every answer must be ------------------------------------------------------------------------------

def clean(err):
    """Nothing that a terminal would obey, nothing that is not UTF-8."""
    try:
        text = err.decode()
    except UnicodeDecodeError:
        return False
    return not any((ord(c) < 32 and c != "\n") or ord(c) == 127 or c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068" for c in text)


def faults(r, cpu, rss):
    """What no process may do, whatever it was given."""
    out = []
    if r.hung:
        out.append(f"hangs ({LIMIT} s)")
    elif r.rc < 0:
        out.append(f"killed by signal {-r.rc}")
    elif b"Sanitizer" in r.err or b"runtime error" in r.err:
        out.append("sanitizer report")
    if not clean(r.err):
        out.append("raw bytes in stderr")
    if len(r.err) > 4096:
        out.append(f"{len(r.err)} bytes of stderr")
    if not SANITIZED and r.cpu > cpu:
        out.append(f"{r.cpu:.2f} s of CPU, {cpu} allowed")
    if not SANITIZED and r.rss > rss:
        out.append(f"{r.rss:.0f} MiB, {rss} allowed")
    return out


def sentence(r, words):
    """Faults of a refusal: one line, that names what it must."""
    lines = [x for x in r.err.decode("utf-8", "replace").split("\n") if x.startswith("wick: ")]
    if r.out:
        return [f"stdout holds {r.out[:60]!r}"]
    if len(lines) != 1:
        return [f"{len(lines)} lines begin with \"wick: \""]
    missing = [w for w in words if w not in lines[0]]
    short = len(lines[0]) < 25 or lines[0].endswith("(null)")
    return ([f"{missing} not named"] if missing else []) + (["no cause"] if short else [])


def commands(path):
    return {"show": (["show", path], b""),
            "plan": (["plan", path, "--steps"], b""),
            "tokenize": (["tokenize", "-m", path, "hello the l\u00e9"], b""),
            "run": (["run", "-m", path, "--raw", "--temp", "0", "-n", "2", "hello"], b""),
            "chat": (["chat", "-m", path, "-n", "2"], b"hello\n")}


# Who must refuse, with which exit code; the others end with 0.
STAGES = {"file": dict.fromkeys(("show", "plan", "tokenize", "run", "chat"), 6),
          "io": dict.fromkeys(("show", "plan", "tokenize", "run", "chat"), 1),
          "tok": {**dict.fromkeys(("show", "tokenize", "run", "chat"), 6), "plan": None},
          "dims": dict.fromkeys(("plan", "run", "chat"), 6),
          "data": dict.fromkeys(("run", "chat"), 6),
          "chat": {"chat": 1},
          "numeric": {"run": 1, "chat": 1}}


def names_in(case, path):
    """What the sentence must hold. A long name is cut in front, a part of a set may be another than the one opened."""
    name, stage, word, _ = case
    if stage == "chat":
        return [word]
    file = name[6:] if name.startswith("split_") else os.path.basename(path)[-40:]
    return ([word.lstrip(".")] if word else []) + ([] if stage == "numeric" else [file])


def refuse(case, path):
    name, stage = case[:2]
    template = stage == "chat"
    for command, (args, stdin) in commands(path).items():
        code = STAGES[stage].get(command, 0)
        r = run(args, stdin)
        bad = faults(r, 2.0 if template else 0.2, 64 if command == "show" and not template else 300)
        if code is None and r.rc not in (0, 6) or code is not None and r.rc != code and not r.hung:
            bad.append(f"exit {r.rc}, wanted {code}")
        if (code or r.rc) and not bad:
            bad += sentence(r, names_in(case, path))
        note(("template " if template else "") + command, name, r)
        check(f"{name}: {command}", not bad, f"{'; '.join(bad)}: {r.err.decode('utf-8', 'replace')[-400:]!r}")


# ---- good files ---------------------------------------------------------------------------------------------

def hash_of(path):
    r = run(["run", "-m", path, "--raw", "--temp", "0", "-n", "3", "-q", "--hash", "--threads", "1", "hello the l"])
    m = re.search(rb"hash ([0-9a-f]{32})\n$", r.out)
    return (m[1].decode() if m else None), r


def good_loads(name, what, path):
    for command, (args, stdin) in commands(path).items():
        if what == "show" and command not in ("show", "tokenize"):
            continue
        r = run(args, stdin)
        bad = faults(r, 2.0, 300)
        if r.rc:
            bad.append(f"exit {r.rc}")
        check(f"good {name}: {command}", not bad, f"{'; '.join(bad)}: {r.err.decode('utf-8', 'replace')[-400:]!r}")


def good_same(family, name, path, want):
    got, r = hash_of(path)
    bad = faults(r, 2.0, 300)
    check(f"good {family} {name}", not bad and got and got == want, f"{'; '.join(bad)} exit {r.rc}, hash {got}, plain {want}: "
          f"{r.err.decode('utf-8', 'replace')[-400:]!r}")


# ---- the command line and the world -------------------------------------------------------------------------

def must(name, r, code, words=(), out=None, cpu=2.0):
    """out: None = nothing is said about it, else a test of stdout."""
    bad = faults(r, cpu, 300)
    if r.rc not in (code if isinstance(code, tuple) else (code,)):
        bad.append(f"exit {r.rc}, wanted {code}")
    if r.rc and not bad:
        bad += sentence(r, words)
    if out and not out(r.out):
        bad.append(f"stdout {r.out[:100]!r}")
    check(name, not bad, f"{'; '.join(bad)}: {r.err.decode('utf-8', 'replace')[-400:]!r}")


def limit(what, n):
    return lambda: resource.setrlimit(what, (n, n))


def prompts(bpe, spm):
    base = ["run", "-q", "--raw", "--temp", "0", "-n", "2", "-m"]
    some = lambda b: len(b) > 0  # noqa: E731
    for model, label in ((bpe, "bpe"), (spm, "spm")):
        for what, text in {"NUL": b"a\0b\0", "invalid": b"\xff\xfe\xc3\x28\xed\xa0\x80", "control": b"\x1b[31m\x07\x7f",
                           "overlong": b"\xc0\x80\xf8\x88\x80\x80\x80", "bidi": "\u202eabc\ufeff".encode()}.items():
            must(f"{label}: a prompt of {what}", run(base + [model], text), 0, out=some)
            must(f"{label}: {what} tokenized", run(["tokenize", "-m", model, "--check"], text), (0, 7), out=some)
        for what, text in {"a": b"a", "space": b" ", "newline": b"\n", "byte 255": b"\xff", "letter": "\u00e9".encode(),
                           "mark": b"<", "word": b"hello "}.items():
            r = run(["tokenize", "-m", model, "--ids"], text * (1000000 // len(text)))
            must(f"{label}: 1 MB of {what} tokenized", r, 0, out=lambda b: len(b) > 1000)
            note("1 MB", f"{label} {what}", r)
        r = run(base + [model], b"a" * 1000000)
        must(f"{label}: a prompt of 1 MB", r, 1, ["128"])
    must("an empty prompt", run(base + [bpe], b""), 2, ["prompt"])
    must("a prompt as an argument of 100 kB", run(base + [bpe, "x" * 100000]), 1, ["128"])


def models(tmp, bpe):
    for name in ("-", "--", "--help", "-x", "a b", "\u202e", "%s%n", "x" * 300, "", ".", "..", "/", "/dev/zero", "/dev/null",
                 "/proc/self/mem", "/proc/self/maps", "a\nb", "\x1b[31m", "a" * 5000):
        must(f"a model named {name[:20]!r}", run(["show", "-m", name]), (1, 2, 6), [], cpu=0.2)
    here = os.path.join(tmp, "--help.gguf")
    os.symlink(bpe, here)
    must("a file named --help.gguf", run(["show", "-m", here]), 0)
    strange = os.path.join(tmp, "\x1b[31m\u202e\xff.gguf".encode("utf-8").decode("utf-8"))
    os.symlink("/nothing", strange)
    must("a name of control bytes", run(["show", "-m", strange]), 1, ["\\x1b"])
    deep = tmp + "/d" * 300 + "/x.gguf"
    must("a long path", run(["show", "-m", deep]), 1, ["No such file"])
    if os.geteuid() == 0:
        closed = os.path.join(tmp, "closed")
        os.mkdir(closed)
        os.chmod(closed, 0)
        os.chmod(tmp, 0o755)

        def nobody():
            os.setgid(65534)
            os.setuid(65534)
        try:
            must("a file that may not be read", run(["show", "-m", os.path.join(closed, "m.gguf")], before=nobody), 1, ["m.gguf"])
        except PermissionError:
            print("skipped: nobody else may start the program where it was built, so nobody can fail to read a file")
    else:
        print("skipped: the unreadable file needs root to make it and somebody else to read it")


def world(tmp, bpe):
    base = ["run", "-q", "--raw", "--temp", "0", "-n", "2", "-m", bpe, "hello"]
    plain = run(base)
    same = lambda b: b == plain.out  # noqa: E731
    gone = os.path.join(tmp, "gone")
    must("HOME deleted", run(base, env={"HOME": gone}), 0, out=same)
    must("HOME empty", run(base, env={"HOME": ""}), 0, out=same)
    must("HOME a file", run(base, env={"HOME": bpe}), 0, out=same)
    must("chat with HOME deleted", run(["chat", "-m", bpe, "-n", "2"], b"hi\n", env={"HOME": gone}), 0)
    must("no default model, no HOME", run(["run", "hi", "-n", "2"], env={"HOME": gone}), 0)
    must("no default model to show, no HOME", run(["show"], env={"HOME": gone}), 1, ["start"])
    for name in ("de_DE.UTF-8", "tr_TR.UTF-8", "C", "POSIX", "xx_XX.nonsense", "fr_FR.ISO-8859-1"):
        must(f"locale {name}", run(base, env={"LC_ALL": name, "LANG": name}), 0, out=same)
    must("TERM nonsense", run(base, env={"TERM": "\x1b[31m", "COLUMNS": "-5", "LINES": "1e9"}), 0, out=same)
    must("stdin closed", run(base, close_stdin=True), 0, out=same)
    must("stdin closed, no prompt", run(base[:-1], close_stdin=True), (1, 2), [])
    r = run(["chat", "-m", bpe], close_stdin=True)
    must("chat with stdin closed", r, (0, 1), [])
    must("tokenize with stdin closed", run(["tokenize", "-m", bpe], close_stdin=True), (1, 2), [])
    if SANITIZED:
        return
    for n in (4, 5, 8, 12):
        r = run(base, before=limit(resource.RLIMIT_NOFILE, n))
        must(f"{n} descriptors", r, (0, 1), [])
    r = run(["show", bpe, "--tensors"], before=limit(resource.RLIMIT_FSIZE, 1024))
    check("files of 1 KiB", r.rc == 1 and r.err.startswith(b"wick: ") and len(r.out) <= 1024, f"exit {r.rc} {r.err!r}")
    must("show, stack of 256 KiB", run(["show", bpe], before=limit(resource.RLIMIT_STACK, 256 << 10)), 0)
    must("run, stack of 256 KiB", run(base, before=limit(resource.RLIMIT_STACK, 256 << 10)), 0, out=same)
    must("chat, stack of 256 KiB",
         run(["chat", "-m", bpe, "-n", "2"], b"hi\n", before=limit(resource.RLIMIT_STACK, 256 << 10)), 0)
    threads(base, same)


def threads(base, same):
    """A limit on processes binds nobody but root, so another user is taken."""
    if os.geteuid() != 0:
        print("skipped: a limit on threads needs a user without processes")
        return
    for n in (1, 2, 3, 4):
        def before(n=n):
            resource.setrlimit(resource.RLIMIT_NPROC, (n, n))
            os.setgid(65534)
            os.setuid(65533)
        try:
            r = run(base + ["--threads", "2"], before=before, env={"HOME": "/nowhere"})
        except PermissionError:
            print("skipped: a limit on threads: the program lies where another user cannot reach it")
            return
        must(f"{n} threads allowed", r, (0, 1), [])
        if r.rc == 0:
            check(f"{n} threads allowed: the same answer", same(r.out), repr(r.out))


def pipes(bpe):
    """A reader that leaves: an error or a whole answer, never a signal."""
    for args in (["run", "-q", "--raw", "-n", "100", "--ignore-eos", "-m", bpe, "hello"], ["show", bpe, "--tensors"],
                 ["tokenize", "-m", bpe, "word " * 20000], ["plan", bpe, "--steps"], ["run", "--help"]):
        with tempfile.TemporaryFile() as e:
            p = start(args, subprocess.DEVNULL, subprocess.PIPE, e, None, None)
            first = p.stdout.read(1)
            p.stdout.close()
            rc = p.wait(LIMIT)
            e.seek(0)
            err = e.read()
            bad = faults(Result(rc, b"", err, 0, 0, 0, False), 9, 9)
            ok = not bad and len(first) == 1 and (rc == 0 or (rc == 1 and err.startswith(b"wick: ")))
            check(f"{args[0]} | head -c 1", ok, f"{bad} exit {rc} {err!r}")


# ---- all ----------------------------------------------------------------------------------------------------

def chosen(i, name):
    return WORD in name and (not SANITIZED or i % 8 == 0 or bool(WORD))


def finish(jobs):
    for j in jobs:
        j.result()
    return len(jobs)


def bad_files(tmp, pool, index):
    return finish([pool.submit(refuse, case, os.path.join(tmp, case[3])) for i, case in enumerate(index["bad"])
                   if chosen(i, case[0])])


def good_files(tmp, pool, index):
    want, jobs, n_plain = {}, [], 0
    for i, (family, name, file) in enumerate(index["same"]):
        path = os.path.join(tmp, file)
        if name == "plain":
            want[family], r = hash_of(path)
            check(f"good {family} plain", want[family], f"exit {r.rc} {r.err!r}")
            n_plain += 1
        elif chosen(i, f"good {family} {name}"):
            jobs.append(pool.submit(good_same, family, name, path, want[family]))
    jobs += [pool.submit(good_loads, name, what, os.path.join(tmp, file)) for i, (name, what, file) in enumerate(index["loads"])
             if chosen(i, "good " + name)]
    return finish(jobs) + n_plain


def main():
    t = time.monotonic()
    with tempfile.TemporaryDirectory() as tmp, concurrent.futures.ThreadPoolExecutor(2) as pool:
        # made elsewhere: a child's peak of memory begins with ours
        subprocess.run([sys.executable, "-B", "tests/golden/make_hostile.py", tmp], check=True)
        with open(os.path.join(tmp, "index.json")) as f:
            index = json.load(f)
        bpe, spm = (os.path.join(tmp, s) for s in index["seeds"])
        n_bad = bad_files(tmp, pool, index)
        n_good = good_files(tmp, pool, index)
        if not WORD:
            finish([pool.submit(prompts, bpe, spm), pool.submit(models, tmp, bpe)])
            world(tmp, bpe)
            pipes(bpe)
    for kind in sorted(slowest):
        print(f"{kind:18} slowest {slowest[kind][0]:.3f} s ({slowest[kind][1]}), biggest {biggest[kind][0]:.0f} MiB ({biggest[kind][1]})")
    print(f"{n_bad} bad files, {n_good} good files, {passed} passed, {failed} failed, {time.monotonic() - t:.0f} s")
    sys.exit(1 if failed else 0)


main()
