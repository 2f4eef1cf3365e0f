#!/usr/bin/env python3
"""test_rss.py WICK: memory that `wick run` takes, what `wick plan` said before, and the refusal of what does not fit.

    peak resident memory <= 1.15 x file + KV cache + 30 MB
    |forecast of plan - peak| <= 5 %, or 1 MB for models so small that the C library decides; the pages of the program's
    own files, of which the kernel maps 3.9 to 5.4 MB from run to run and from compiler to compiler, are put at the forecast's
    figure in this
    a file twice as large as the memory (as a cgroup limit, as MemAvailable): exit 4 within 100 ms, one sentence, both
    numbers; with twice the memory needed it runs

Models: tests/golden/tiny, and those that WICK_SMOLLM2 and WICK_GEMMA3 name. The peak is VmHWM of a run that stands
still: its output goes to a pipe of one page that is not read until the numbers are. (ru_maxrss would do, did it not
begin with the memory of the parent that forked.) Limits are faked in a mount namespace of the child's own: a file
over /proc/meminfo, a folder over the memory controller. No group is made and no process is moved, so nothing of the
machine's is touched; where a namespace cannot be made, that part is skipped and says so."""
import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import time

WICK = os.path.abspath(sys.argv[1])
TINY = [f"tests/golden/tiny/{name}.gguf" for name in ("llama", "qwen3", "gemma3")]
REAL = [p for p in (os.environ.get("WICK_SMOLLM2"), os.environ.get("WICK_GEMMA3")) if p]
ENV = {k: v for k, v in os.environ.items() if not k.startswith("WICK_")}
F_SETPIPE_SZ = 1031
PROGRAM_FILES = 4.6e6  # of PROGRAM in engine/run/fit.c
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {name}: {detail}")


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        text = f.read()
    return {k: int(re.search(k + r":\s+(\d+)", text)[1]) * 1024 for k in ("VmHWM", "VmRSS", "RssAnon", "RssFile")}


def unread(fd):
    b = bytearray(4)
    fcntl.ioctl(fd, 0x541B, b)  # FIONREAD
    return int.from_bytes(b, sys.byteorder)


def measure(model, extra):
    """Memory of a run after it filled a page with events; it is then let go to its end."""
    r, w = os.pipe()
    fcntl.fcntl(w, F_SETPIPE_SZ, 4096)
    p = subprocess.Popen([WICK, "run", "-q", "--jsonl", "-m", model, "--raw", "--seed", "1", "--ignore-eos", "-n", "100"]
                         + extra + ["Once upon a time"], stdout=w, stderr=subprocess.PIPE, env=ENV)
    os.close(w)
    end, last = time.monotonic() + 120, None
    while time.monotonic() < end and p.poll() is None:
        now = unread(r), status(p.pid)["VmRSS"]  # the KV cache is populated in the background
        if now[0] > 3600 and now == last:
            break
        last = now
        time.sleep(0.5)
    s = status(p.pid) if p.poll() is None else None
    with os.fdopen(r, "rb") as f:
        f.read()
    err = p.stderr.read().decode()
    check(f"run {model}", p.wait() == 0 and s is not None, f"exit {p.returncode}, {err or 'it did not fill the pipe'}")
    return s


def plan(model, extra):
    p = subprocess.run([WICK, "plan", "--json", model] + extra, capture_output=True, env=ENV)
    return json.loads(p.stdout)


def compare(model, extra=()):
    extra = list(extra)
    s, f = measure(model, extra), plan(model, extra)
    if not s:
        return
    size, forecast = os.path.getsize(model), f["weights"] + f["kv"] + f["activations"]
    peak, limit = s["VmHWM"], 1.15 * size + f["kv"] + 30e6
    off = abs(forecast - PROGRAM_FILES - s["VmHWM"] + min(s["RssFile"], 6e6))
    name = f"{model} {' '.join(extra)}".strip()
    print(f"{name}: peak {peak / 1e6:.1f} MB (limit {limit / 1e6:.1f}: file {size / 1e6:.1f}, KV {f['kv'] / 1e6:.1f}), steady "
          f"{s['VmRSS'] / 1e6:.1f}, of it file pages {s['RssFile'] / 1e6:.1f}; plan said {forecast / 1e6:.1f} "
          f"({100 * (forecast / peak - 1):+.1f} %)")
    check(f"{name}: peak", peak <= limit, f"{peak / 1e6:.1f} MB, at most {limit / 1e6:.1f} MB")
    check(f"{name}: forecast", off <= max(0.05 * peak, 1e6), f"{forecast / 1e6:.1f} MB, measured {peak / 1e6:.1f} MB")
    check(f"{name}: need", f["need"] >= forecast, f"{f['need']} < {forecast}")


# ---- limits --------------------------------------------------------------------------------------

def memory_mount():
    """(mount point, file of the limit) of the controller that limits memory here."""
    with open("/proc/self/mountinfo") as f:
        lines = [l.split() for l in f]
    v2 = None
    for l in lines:
        kind, options = l[l.index("-") + 1], l[-1]
        if kind == "cgroup" and "memory" in options.split(","):
            return l[4], "memory.limit_in_bytes"
        if kind == "cgroup2" and v2 is None:
            v2 = l[4], "memory.max"
    return v2


def enclosed(script, args):
    """Runs `script`, then wick with args, in a mount namespace; (seconds of wick, exit code, stderr)."""
    flags = "-m" if os.geteuid() == 0 else "-rm"
    watch = ('import subprocess,sys,time\nt=time.perf_counter()\np=subprocess.run(sys.argv[1:],capture_output=True)\n'
             'sys.stderr.write("%.6f\\n"%(time.perf_counter()-t)+p.stderr.decode())\nsys.exit(p.returncode)')
    p = subprocess.run(["unshare", flags, "--propagation", "private", "sh", "-c",
                        script + ' || exit 99; exec "$@"', "sh", sys.executable, "-c", watch, WICK] + args,
                       capture_output=True, text=True, env=ENV)
    head, _, rest = p.stderr.partition("\n")
    return (float(head) if re.fullmatch(r"[0-9.]+", head) else None), p.returncode, rest if p.returncode != 99 else p.stderr


def limits(tmp):
    try:
        probe = subprocess.run(["unshare", "-m" if os.geteuid() == 0 else "-rm", "--propagation", "private", "sh", "-c",
                                "mount -t tmpfs none " + tmp], capture_output=True, text=True)
        why = probe.stderr.strip() if probe.returncode else None
    except OSError as e:
        why = str(e)
    if why:
        print(f"skipped: limits of memory: no mount namespace here: {why}")
        return
    at = memory_mount()
    if not at:
        print("skipped: limit of a cgroup: no memory controller is mounted here")
    for model in TINY[:1] + REAL:
        need = plan(model, ["-c", "512"])["need"]
        half = min(need, os.path.getsize(model)) // 2 if model in REAL else need // 2
        for have, judge in ((half, refuse), (2 * need, admit)):
            judge(model, "MemAvailable", f"echo 'MemAvailable: {have // 1024} kB' > {tmp}/meminfo && "
                  f"mount --bind {tmp}/meminfo /proc/meminfo", have)
            if at:
                judge(model, "cgroup limit", f"mount -t tmpfs none {at[0]} && echo {have} > {at[0]}/{at[1]}", have)


def refuse(model, way, script, have):
    name = f"{model}, {way} {have / 1e6:.0f} MB"
    best = 1e9
    for _ in range(5):
        seconds, code, err = enclosed(script, ["run", "-q", "-m", model, "--raw", "-n", "1", "-c", "512", "x"])
        best = min(best, seconds or 1e9)
    number = re.findall(r"([0-9.]+) GB", err)
    check(f"{name}: exit 4", code == 4, f"exit {code}: {err}")
    check(f"{name}: one sentence", err.count("\n") == 1 and err.startswith("wick: "), err)
    check(f"{name}: both numbers", "needs" in err and "available" in err and len(number) >= 2 and
          abs(float(number[-1]) - have / 1e9) < 0.006, err)
    check(f"{name}: 100 ms", best < 0.1, f"{best} s")
    print(f"{name}: refused in {1e3 * best:.0f} ms: {err.strip()}")


def admit(model, way, script, have):
    """The fakery itself is not the reason."""
    _, code, err = enclosed(script, ["run", "-q", "-m", model, "--raw", "-n", "1", "-c", "512", "x"])
    check(f"{model}, {way} {have / 1e6:.0f} MB: it runs", code == 0, f"exit {code}: {err}")


if os.environ.get("WICK_SANITIZED"):
    print("skipped: memory under sanitizers is mostly theirs")
    sys.exit(77)
for m in TINY:
    compare(m)
for m in REAL:
    compare(m)
    compare(m, ["-c", "256"])
with tempfile.TemporaryDirectory() as folder:
    limits(folder)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
