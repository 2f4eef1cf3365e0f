#!/usr/bin/env python3
"""wick train and tune on a device, by the program: the training device of the tests gives the host's run bit for bit, resumes
its checkpoints and the other way round; whatever call fails there ends with one sentence and leaves the last checkpoint whole.

usage: test_train_device.py WICK-BINARY TRAINING-MODULE MODULE-WITHOUT [EMULATED-MODULE]
(run from the repository root; standard library only)"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile

WICK, MODULE, PLAIN = (os.path.abspath(p) for p in sys.argv[1:4])
EMU = os.path.abspath(sys.argv[4]) if len(sys.argv) > 4 else None
SANITIZED = "WICK_SANITIZED" in os.environ
TINY = os.path.abspath("tests/golden/tiny/llama.gguf")
BASE = ["--ctx", "32", "--batch", "4", "--gemm", "wick", "--sample-every", "0", "-t", "1", "--steps", "10", "--save-every", "5"]
SMALL = ["--preset", "260k", "--data", "a.txt"] + BASE
DEVICE = ["--device", MODULE]
tmp = os.path.realpath(tempfile.mkdtemp(prefix="wick_train_device_"))
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {str(detail)[-1500:]}")


def environment(knobs=None):
    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    e.update({"HOME": "/nonexistent", "WICK_FAKE_REPORT": os.path.join(tmp, "report")})
    e.update({"WICK_FAKE_" + k: str(v) for k, v in (knobs or {}).items()})
    return e


def run(args, knobs=None, timeout=300):
    p = subprocess.run([WICK] + args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(knobs),
                       timeout=timeout, cwd=tmp)
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")


def said(err):
    return [l for l in err.split("\n") if l.startswith("wick: ")]


def refused(name, args, code, words, knobs=None):
    rc, _, err = run(args, knobs)
    check(name, rc == code and len(said(err)) == 1 and all(w in said(err)[0] for w in words), f"exit {rc} (wanted {code}), {err!r}, {words}")


def data(*name):
    with open(os.path.join(tmp, *name), "rb") as f:
        return f.read()


def same(name, a, b, files=("model.gguf", "state.gguf")):
    for f in files:
        check(f"{name}: {f}", data(a, f) == data(b, f), "other bytes")


def losses(folder):
    return [r["loss"] for r in map(json.loads, data(folder, "log.jsonl").decode().splitlines()) if r["loss"] is not None]


def left_open():
    """Trainers that were opened and not closed, by the last line of each process."""
    path = os.path.join(tmp, "report")
    lines = open(path, encoding="utf-8").read().split("\n")[:-1] if os.path.exists(path) else []
    open(path, "w", encoding="utf-8").close()
    return [l for l in lines if not l.startswith("open=0 ")], lines


def same_run():
    for name, extra in (("host", []), ("dev", DEVICE)):
        rc, out, err = run(["train", "-o", name] + SMALL + extra)
        check(f"train on {name}", rc == 0 and ("on pupil:0" in err) == (name == "dev") and "GEMM peak" not in (err if extra else ""), f"{rc} {err}")
    check("losses are the host's", losses("dev") == losses("host") and len(losses("dev")) == 10, f"{losses('dev')} {losses('host')}")
    for step in ("000005", "000010"):
        same(f"step {step}", f"host/step-{step}", f"dev/step-{step}")
    check("run.json says where", json.loads(data("dev/step-000010/run.json"))["device"] == "pupil:0" and
          json.loads(data("host/step-000010/run.json"))["device"] == "cpu", data("dev/step-000010/run.json"))
    rc, _, err = run(["train", "-o", "out.gguf", "--bf16", "on"] + SMALL + DEVICE)
    check("export", rc == 0 and data("out.gguf") == data("host/step-000010/model.gguf"), err)
    bad, lines = left_open()
    check("closed, and bf16 went there", not bad and len(lines) == 2 and "bf16=0" in lines[0] and "bf16=1" in lines[1], lines)
    rc, out, err = run(["run", "out.gguf", "--raw", "-q", "-n", "4", "the fox"])
    check("the model runs", rc == 0 and len(out) > 1, err)


def resumes():
    """device -> device is silent; host -> device -> host is told, and here has the same bits."""
    for first, then in ((DEVICE, []), (DEVICE, ["--device", "cpu"]), ([], DEVICE)):
        name = f"{len(first)} {len(then)}"
        shutil.rmtree(os.path.join(tmp, "cut"), ignore_errors=True)
        rc, _, err = run(["train", "-o", "cut"] + SMALL + first)
        shutil.rmtree(os.path.join(tmp, "cut", "step-000010"))
        rc, _, err = run(["train", "--resume", "cut/step-000005"] + then)
        check(f"resumed {name}", rc == 0 and ("goes on on" in err) == bool(then), f"{rc} {err}")
        same(f"resumed {name}", "cut/step-000010", "host/step-000010")
        check(f"losses resumed {name}", losses("cut")[-5:] == losses("host")[-5:], losses("cut"))
    text = data("cut/step-000005/run.json").decode()
    with open(os.path.join(tmp, "cut/step-000005/run.json"), "w", encoding="utf-8") as f:  # as old ones are
        f.write("".join(l for l in text.splitlines(True) if '"device"' not in l and '"bf16"' not in l))
    shutil.rmtree(os.path.join(tmp, "cut/step-000010"))
    rc, _, err = run(["train", "--resume", "cut/step-000005", "--device", "cpu"])
    check("an old checkpoint", rc == 0 and "goes on on" not in err, err)
    same("an old checkpoint", "cut/step-000010", "host/step-000010")


def killed():
    args = ["train", "-o", "killed", "--jsonl"] + [x if x != "10" else "400" for x in SMALL] + DEVICE
    p = subprocess.Popen([WICK] + args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), cwd=tmp)
    for line in p.stdout:
        if json.loads(line).get("step") == 12:
            break
    p.send_signal(signal.SIGKILL)
    p.communicate()
    rc, _, err = run(["train", "--resume", "killed"])
    check("killed and resumed", rc == 0, f"{rc} {err}")
    rc, _, err = run([x if x != "killed" else "unhurt" for x in args])
    same("killed = unhurt", "killed/step-000400", "unhurt/step-000400")
    left_open()


def tune():
    args = ["tune", TINY, "--data", "pair.jsonl", "--rank", "4"] + BASE
    for name, extra in (("h.lora.gguf", []), ("d.lora.gguf", DEVICE)):
        rc, _, err = run(args + ["-o", name] + extra)
        check(f"tune {name}", rc == 0, err)
    check("the adapter is the host's", data("h.lora.gguf") == data("d.lora.gguf"), "other bytes")
    same("tune", "h.lora.run/step-000005", "d.lora.run/step-000005", ("adapter.gguf", "state.gguf"))
    rc, _, err = run(["tune", "--resume", "d.lora.run/step-000005"])
    check("tune resumed", rc == 0 and "goes on on" not in err, err)
    same("tune resumed", "h.lora.run/step-000010", "d.lora.run/step-000010", ("adapter.gguf", "state.gguf"))
    check("tune: closed", not left_open()[0], "")


def failures():
    """The n-th call fails, for every n till none does: one sentence, exit 1, no trainer left, the last checkpoint whole."""
    whole = {f"step-{s}": data(f"host/step-{s}", "model.gguf") + data(f"host/step-{s}", "state.gguf") for s in ("000005", "000010")}
    for call in ("device", "open", "get", "run", "norm", "step"):
        n = 0
        while n < (4 if SANITIZED else 40):
            n += 1
            shutil.rmtree(os.path.join(tmp, "fail"), ignore_errors=True)
            rc, _, err = run(["train", "-o", "fail"] + SMALL + DEVICE, {"TRAIN_FAIL": f"{call}:{n}"})
            if rc == 0:
                break
            check(f"{call}:{n}", rc == 1 and len(said(err)) == 1 and f"of {call} was told to fail" in err and "pupil" in said(err)[0], f"{rc} {err}")
            kept = [d for d in ("step-000005", "step-000010") if os.path.isdir(os.path.join(tmp, "fail", d))]
            check(f"{call}:{n}: checkpoints", all(data("fail", d, "model.gguf") + data("fail", d, "state.gguf") == whole[d] for d in kept) and
                  not os.path.exists(os.path.join(tmp, "fail", "unfinished")), kept)
            if kept == ["step-000005"]:
                rc, _, err = run(["train", "--resume", "fail"])
                check(f"{call}:{n}: resumed", rc == 0, err)
                same(f"{call}:{n}: resumed", "fail/step-000010", "host/step-000010")
        check(f"{call} fails at some call", n > 1, "never")
        bad, _ = left_open()
        check(f"{call}: closed", not bad, bad)
    n = 0
    while n < (2 if SANITIZED else 100):
        n += 7
        rc, _, err = run(["train", "--resume", "host/step-000005"] + DEVICE, {"TRAIN_FAIL": f"put:{n}"})
        if rc == 0:
            break
        check(f"put:{n}", rc == 1 and len(said(err)) == 1 and "of put was told" in err, f"{rc} {err}")
    left_open()


def refusals():
    for name, extra, code, words, knobs in (
            ("nosuch", ["--device", "nosuch"], 1, ["no module for nosuch"], None),
            ("a name", ["--device", "Cuda"], 2, ["unknown"], None),
            ("no training", ["--device", PLAIN], 1, ["has no training"], None),
            ("abi", DEVICE, 1, ["version 7", "version 2"], {"TRAIN_ABI": 7}),
            ("size", DEVICE, 1, ["8 bytes"], {"TRAIN_SIZE": 8}),
            ("missing", DEVICE, 1, ["is missing"], {"TRAIN_MISSING": 1}),
            ("none there", DEVICE, 1, ["no device of pupil"], {"COUNT": 0}),
            ("index", ["--device", MODULE + ":3"], 1, ["index 3"], None),
            ("sgd", DEVICE + ["--optimizer", "sgd"], 2, ["adamw alone"], None),
            ("onednn", DEVICE + ["--gemm", "onednn"], 2, ["oneDNN"], None),
            ("ranks", DEVICE + ["--ranks"], 2, ["ranks"], None),
                        ("auto and sgd", ["--device", "auto", "--optimizer", "sgd"], 2, ["adamw alone"], None)):
        refused(name, ["train", "-o", "no", "--data", "nothing.txt"] + SMALL[:2] + extra, code, words, knobs)
    check("nothing was made", not os.path.exists(os.path.join(tmp, "no")), "")
    refused("no memory there", ["train", "-o", "no"] + SMALL + DEVICE, 1, ["no memory of the device"], {"TRAIN_NOMEM": 1})
    shutil.rmtree(os.path.join(tmp, "no"), ignore_errors=True)
    refused("does not fit", ["train", "-o", "no"] + SMALL + DEVICE, 4, ["GB of pupil:0", "are free there"], {"MEM": 4e6})
    rc, out, err = run(["train", "--plan", "--json"] + SMALL + DEVICE, {"MEM": 4e6})
    o = json.loads(out)
    check("--plan does not fit", rc == 4 and o["verdict"] == "does not fit" and o["device_need"] > o["device_free"] == 4000000, out + err)
    rc, out, err = run(["train", "--plan", "--json"] + SMALL + DEVICE)
    o = json.loads(out)
    check("--plan", rc == 0 and o["device"] == "pupil:0" and 0 < o["device_need"] < o["device_free"] and "seconds" not in o, out + err)
    rc, out, err = run(["train", "--plan"] + SMALL + DEVICE)
    check("--plan in words", rc == 0 and "on pupil:0" in out and "pupil:0 6.0 MiB of" in out and "f32 peak" not in out, out + err)
    for command in ("train", "tune"):
        rc, out, err = run([command, "--help"])
        rc, out2, err = run(["help", command])
        check(f"help of {command}", "--device" in out + out2 and "--bf16" in out + out2, out + out2)
    rc, _, err = run(["train", "-o", "auto"] + SMALL + ["--device", "auto"])
    check("auto without one", rc == 0 and data("auto/step-000010/model.gguf") == data("host/step-000010/model.gguf"), err)
    check("auto says so, once, and why", err.count("device auto: the cpu trains: ") == 1 and "cuda" in err, err)


def wall():
    """The steps of training stand beside the cpu's; plans are not the device's: that is said, and the exit code is 1."""
    rc, out, err = run(["wall", TINY, "--quick", "--json", "--device", "cpu," + MODULE], timeout=900)
    check("wall", rc == 1 and all(f'"{row} on pupil:0"' in out for row in ("train step f32", "LoRA step, rank 8")), f"{rc} {out[:1500]} {err}")
    for row in ("train step f32", "LoRA step, rank 8"):
        check(f"wall: {row}", f"pupil:0 / this CPU, measured: " in out and f" x in {row}" in out, out[:3000])
    _, lines = left_open()
    check("wall: closed", lines and lines[-1].startswith("open=0 "), lines)  # two jobs lie in memory together


def emulated():
    """The module for NVIDIA GPUs on its emulator: the host's losses within 1e-5, resumed bit for bit."""
    args = [x if x != "10" else "4" for x in SMALL[:-2]] + ["--ctx", "16", "--batch", "2", "--save-every", "2"]
    rc, _, err = run(["train", "-o", "eh"] + args)
    check("host beside the emulator", rc == 0, err)
    rc, _, err = run(["train", "-o", "ed", "--device", EMU] + args)
    check("emulated", rc == 0 and "on cuda:0" in err, err)
    far = max(abs(a - b) / a for a, b in zip(losses("eh"), losses("ed")))
    check("emulated losses", len(losses("ed")) == 4 and far < 1e-5, far)
    os.rename(os.path.join(tmp, "ed/step-000004"), os.path.join(tmp, "ed4"))
    rc, _, err = run(["train", "--resume", "ed/step-000002"])
    check("emulated, resumed", rc == 0 and "goes on on" not in err, err)
    same("emulated, resumed", "ed/step-000004", "ed4")


def main():
    rng = random.Random(1)
    with open(os.path.join(tmp, "a.txt"), "w", encoding="utf-8") as f:
        for _ in range(3000):
            f.write(f"the {rng.choice(['fox', 'child', 'baker'])} {rng.choice(['found', 'lost', 'sold'])} {rng.choice(['a red kite', 'an old key'])}"
                    f" by the {rng.choice(['river', 'mill', 'roof'])}.\n")
    with open(os.path.join(tmp, "pair.jsonl"), "w", encoding="utf-8") as f:
        for i in range(200):
            f.write(json.dumps({"prompt": f"Say number {i % 10}", "completion": f" {i % 10} it is"}) + "\n")
    try:
        for part in [same_run, resumes, tune, refusals, killed, failures, wall] + ([emulated] if EMU and not SANITIZED else []):
            part()
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    print(f"{passed} checks passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
