#!/usr/bin/env python3
"""Layers on a device, by the program: the device of the tests gives the cpu's bits wherever the model is cut, and whatever
fails there ends with one sentence and leaves nothing behind.

usage: test_device.py WICK-BINARY MODULE [EMULATED-CUDA-MODULE]     (run from the repository root; standard library only)"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

WICK, MODULE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
EMULATED = os.path.abspath(sys.argv[3]) if len(sys.argv) > 3 else None
SANITIZED = "WICK_SANITIZED" in os.environ
TINY = {m: f"tests/golden/tiny/{m}.gguf" for m in ("llama", "qwen2", "qwen3", "gemma3")}
LONG = "the rain in spain, there in the world and the word; " * 3
folder = tempfile.mkdtemp(prefix="wick_device_")
report = os.path.join(folder, "report")
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {detail}")


def run(args, knobs=None, cwd=None, timeout=300):
    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    e.update({"HOME": "/nonexistent", "WICK_FAKE_REPORT": report})
    e.update({"WICK_FAKE_" + k: str(v) for k, v in (knobs or {}).items()})
    p = subprocess.run([WICK] + args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=e,
                       timeout=timeout, cwd=cwd)
    return p.returncode, p.stdout, p.stderr.decode("utf-8", "replace")


def left_behind(n):
    """Lines of the report that say anything but that all was given back; n devices were closed."""
    lines = open(report, encoding="utf-8").read().splitlines() if os.path.exists(report) else []
    open(report, "w", encoding="utf-8").close()
    bad = [l for l in lines if not l.startswith("live=0 bytes=0 guards=0 ")]
    return bad if bad or len(lines) == n else [f"{len(lines)} devices were closed, wanted {n}"]


def number_of_report(name):
    return int(re.search(name + r"=(\d+)", open(report, encoding="utf-8").read())[1])


def answer(model, *args, knobs=None, n=12, device=None, prompt=LONG):
    a = ["run", "-m", model, "--raw", "--hash", "-q", "-n", str(n), "--temp", "0.8", "--seed", "7", "--ignore-eos", prompt]
    return run(a + (["--device", MODULE, "--gpu-layers", str(device)] if device is not None else []) + list(args), knobs)


def same(name, want, got, n_closed):
    check(name, got == want, f"exit {got[0]}, {got[1][-60:]!r}, {got[2]!r}, wanted {want[1][-60:]!r}")
    check(name + ", what is left", not (bad := left_behind(n_closed)), str(bad))


def check_hashes(name, model, n_layer, ways):
    for args in ways:
        want = answer(model, *args)
        check(f"{name} {args} on the cpu", want[0] == 0 and b"hash " in want[1], want[2])
        for n in list(range(n_layer + 1)) + ["all", "auto"]:
            same(f"{name} {args} with {n} layers", want, answer(model, *args, device=n), 0 if n == 0 else 1)
        for i in range(n_layer):
            same(f"{name} {args} without layer {i}", want,
                 answer(model, *args, device="all", knobs={"CANNOT": f"layer{i}"}), 1)


GREEDY = ["--seed", "3", "--temp", "0", "--repeat-penalty", "1"]


def greedy(model, *args, knobs=None, device=None, n=12, module=MODULE):
    a = ["run", "-m", model, "--raw", "-q", "-n", str(n), "--ignore-eos", LONG] + GREEDY
    return run(a + (["--device", module, "--gpu-layers", str(device)] if device is not None else []) + list(args), knobs)


def check_ids(name, model):
    """Greedy requests carry ids, whoever looks at logits has them; a NaN is noticed either way."""
    n = 12
    want = greedy(model)
    check(f"{name} greedy on the cpu", want[0] == 0, want[2])
    for part in ({}, {"CANNOT": "layer0"}):  # in one piece, and with the head behind a border
        got = greedy(model, device="all", knobs=part)
        sent = number_of_report("sent")
        same(f"{name} by ids {part}", want, got, 1)
        check(f"{name} sends an id a token", sent == 4 * n, sent)
        got = greedy(model, device="all", knobs={"TOP": 0, **part})
        logits = number_of_report("sent")
        same(f"{name} by logits {part}", want, got, 1)
        check(f"{name} sends its logits", logits > 100 * sent and logits % n == 0, logits)
    for more in (["--temp", "0.8"], ["--hash"], ["--repeat-penalty", "1.3"]):
        want_more = greedy(model, *more)
        got = greedy(model, *more, device="all")
        check(f"{name} {more} wants logits", number_of_report("sent") == logits, number_of_report("sent"))
        same(f"{name} {more}", want_more, got, 1)
    got = greedy(model, device=1)
    check(f"{name}: the head on the cpu", number_of_report("sent") == 0, number_of_report("sent"))
    same(f"{name} with one layer", want, got, 1)
    for row in (1, 5):
        said = [greedy(model, device="all", knobs={"TOP": top, "NAN": row}) for top in (0, 1)]
        check(f"{name}: NaN in row {row}", said[0] == said[1] and said[0][0] == 1 and "logit that is not a finite number" in said[0][2], said)
        left_behind(2)


def check_emulated():
    """The cuda module's own ids are those of its logits."""
    if not EMULATED:
        print("the cuda module is left out: this build does not emulate it")
        return
    for name in ("llama",) if SANITIZED else ("llama", "gemma3"):
        by_id = greedy(TINY[name], device="all", module=EMULATED)
        by_logits = greedy(TINY[name], "--hash", device="all", module=EMULATED)
        text = re.sub(rb"\n?hash [0-9a-f]+\n$", b"", by_logits[1])
        check(f"{name} by cuda's ids", by_id[0] == 0 and by_logits[0] == 0 and by_id[1].rstrip(b"\n") == text.rstrip(b"\n"), (by_id, by_logits))


def check_later():
    """What passes take beside is left free where the number of layers is chosen, and refuses nothing that is asked for."""
    def layers(n, **knobs):
        rc, out, err = run(["plan", "-m", TINY["llama"], "--json", "--device", MODULE] + (["--gpu-layers", str(n)] if n else []), knobs)
        left_behind(1)
        j = json.loads(out) if rc == 0 or out else {}
        return rc, j.get("gpu_layers"), j.get("device_need"), err
    _, _, need, err = layers("all")
    room = need * 10 // 9 + 16
    check("all layers fit", layers(None, MEM=room)[1] == 2, err)
    got = layers(None, MEM=room, LATER=need // 20)
    check("not all layers fit beside what comes later", got[:2] == (0, 0) and "reads" in got[3], got)  # one is not worth a copy
    got = layers("all", MEM=room, LATER=need)
    check("what is asked for is not refused", got[:3] == (0, 2, need), got)
    refused("later", 4, ["one layer with its KV cache", "takes 3.0"], {"MEM": room, "LATER": 3 * 10**9}, device="auto", n_closed=1)


def check_text():
    _, out, err = run(["run", "-m", TINY["qwen3"], "--raw", "--json", "-n", "2", "rain", "--device", MODULE, "--gpu-layers", "1"])
    j = json.loads(out) if out else {}
    check("json names the device", "fake:0" in j.get("device", "") and "layer 1" in j.get("device", ""), err + str(j))
    rc, out, err = run(["plan", "-m", TINY["qwen3"], "--device", MODULE, "--gpu-layers", "1"])
    check("plan names the device", rc == 0 and b"fake:0" in out, err)
    left_behind(2)


def refused(name, code, words, knobs=None, device=1, n_closed=None, more=()):
    rc, out, err = answer(TINY["llama"], *more, knobs=knobs, device=device)
    lines = [l for l in err.splitlines() if l.startswith("wick: ")]
    good = rc == code and b"hash" not in out and len(lines) == 1 and all(w in lines[0] for w in words)
    check(name, good, f"exit {rc} (wanted {code}), {err!r}, wanted {words}")
    if n_closed is not None:
        check(name + ", what is left", not (bad := left_behind(n_closed)), str(bad))


def check_refusals():
    refused("ABI", 1, ["version 7", "version"], {"ABI": 7}, n_closed=0)
    refused("short struct", 1, ["8 bytes"], {"SIZE": 8}, n_closed=0)
    refused("no device", 1, ["there is no fake device"], {"COUNT": 0}, n_closed=0)
    refused("open", 1, ["could not be opened"], {"FAIL": "open:1"}, n_closed=1)
    refused("info", 1, ["no information"], {"FAIL": "info:1"}, n_closed=1)
    refused("upload", 1, ["could not be copied", "fake:0"], {"FAIL": "upload:3"}, n_closed=1)
    refused("memory", 4, ["fake:0", "--gpu-layers"], {"MEM": 1000}, n_closed=1)
    refused("cannot", 1, ["no layer", "glu"], {"CANNOT": "glu"}, n_closed=1)
    for call in ("run", "step", "wait", "put", "get"):
        for n in (1, 2, 3):
            refused(f"{call} {n}", 1, ["the device is lost", "fake:0"], {"FAIL": f"{call}:{n}"}, n_closed=1)
    for model in ("nothing.so", "./nothing.so", "fake", "cuda:", "cuda:x"):
        rc, _, err = run(["run", "-m", TINY["llama"], "--raw", "-q", "hi", "--device", model])
        check(f"--device {model}", rc != 0 and "wick: " in err, f"exit {rc}, {err!r}")
    rc, _, err = run(["run", "-m", TINY["llama"], "--raw", "-q", "hi", "--device", MODULE + ":1"])
    check("index", rc == 1 and "index 1" in err, f"exit {rc}, {err!r}")
    rc, _, err = run(["run", "-m", TINY["llama"], "--raw", "-q", "hi", "--device", os.path.abspath(TINY["llama"])])
    check("no library", rc == 1 and "cannot be loaded" in err, f"exit {rc}, {err!r}")


def check_planted():
    """A module in the current folder, or where the environment points, is not found by its kind."""
    shutil.copy(MODULE, os.path.join(folder, "libwick_cuda.so"))
    os.environ["LD_LIBRARY_PATH"] = folder
    rc, _, err = run(["run", "-m", os.path.abspath(TINY["llama"]), "--raw", "-q", "hi", "--device", "cuda"], cwd=folder)
    del os.environ["LD_LIBRARY_PATH"]
    # the build's own module may lie beside the program: then it speaks, or computes where there is a GPU
    check("a planted module", rc == 0 or "no module for cuda" in err or "no device of cuda" in err, f"exit {rc}, {err!r}")
    check("a planted module was not opened", not (bad := left_behind(0)), str(bad))


def check_each():
    """The n-th allocation and the n-th step fail, n = 1, 2, 3 ... until all is well."""
    want = answer(TINY["llama"], device=1, n=3, prompt="rain")
    n_step = number_of_report("steps")
    left_behind(1)
    for knob, most, what, stride in (("NOMEM", 200, "no memory", 1), ("FAIL", n_step, "the device is lost", 7)):
        for n in range(1, most + 2, stride if not SANITIZED else 4 * stride + 1):
            got = answer(TINY["llama"], device=1, n=3, prompt="rain", knobs={knob: n if knob == "NOMEM" else f"step:{n}"})
            bad = left_behind(1)
            check(f"{knob} {n}: what is left", not bad, str(bad))
            if got[0] == 0:
                check(f"{knob} {n}", got == want, str(got))
                break
            check(f"{knob} {n}", got[0] == 1 and what in got[2], f"exit {got[0]}, {got[2]!r}")
        else:
            check(f"{knob}: some run succeeds", knob == "FAIL", f"none of {most}")


def main():
    ways = [[], ["--batch", "7", "-t", "1"], ["--kv", "f32", "--batch", "1"], ["--kv", "bf16"]]
    for name, model in TINY.items():
        check_hashes(name, model, 2, ways[:1] if SANITIZED else ways)
    check_hashes("qwen3", TINY["qwen3"], 2, [["--kv", "q8_0"]])
    real = os.environ.get("WICK_SMOLLM2")
    if real and not SANITIZED:
        want = answer(real, n=4, prompt="The rain in Spain")
        for n in (1, 7, "all"):
            same(f"smollm2 with {n} layers", want, answer(real, n=4, prompt="The rain in Spain", device=n), 1)
    else:
        print("a real model is left out: WICK_SMOLLM2 names none, or the build is instrumented")
    for name, model in TINY.items():
        check_ids(name, model)
    check_emulated()
    check_later()
    check_text()
    check_refusals()
    check_planted()
    check_each()
    shutil.rmtree(folder)
    print(f"{passed} checks passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
