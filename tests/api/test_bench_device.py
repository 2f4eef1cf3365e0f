#!/usr/bin/env python3
"""wick bench and wick wall with --device: the device of the tests beside the cpu; one that is missing; every output.

usage: test_bench_device.py WICK-BINARY MODULE     (run from the repository root; standard library only)"""
import csv
import io
import json
import os
import subprocess
import sys
import xml.etree.ElementTree

WICK, MODULE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
TINY = "tests/golden/tiny/llama.gguf"
SMALL = ["--pp", "1,16", "--tg", "8", "--depth", "0,64", "--clients", "1,2", "--reps", "2"]
BOTH = ["--device", "cpu," + MODULE]
FEW = ["--only", "prefill,decode"] + SMALL
passed = failed = 0


def run(args, knobs=None, timeout=300):
    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    e.update({"HOME": "/nonexistent", **{"WICK_FAKE_" + k: str(v) for k, v in (knobs or {}).items()}})
    p = subprocess.run([WICK] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=e, timeout=timeout)
    return p.returncode, p.stdout.decode(), p.stderr.decode("utf-8", "replace")


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {str(detail)[:1500]}")


def rows_of(o):
    return {(r["device"], r["name"]): r for r in o["rows"] if r["kind"] != "probe"}


def as_json():
    rc, out, err = run(["bench", TINY, "--json"] + BOTH + SMALL)
    check("--json", rc == 0, f"{rc} {err}")
    o = json.loads(out)
    rows = rows_of(o)
    names = {"prefill 1", "prefill 16", "decode", "decode @64", "batch 1", "batch 2", "load", "answer", "first token", "token gap p50",
             "token gap p99"}
    for device in ("cpu", "fake:0"):
        check(f"rows of {device}", names <= {n for d, n in rows if d == device}, list(rows))
        for n in sorted(names):
            check(f"{device} {n}", rows[device, n]["n"] >= 1 and rows[device, n]["median"] > 0, rows[device, n])
    splits = [n for d, n in rows if n.startswith("split ")]
    check("splits", splits == [f"split {k} of 2: {w}" for k in (0, 1, 2) for w in ("prefill 16", "decode")], splits)
    for (device, name), r in rows.items():
        if r["kind"] != "engine":
            continue
        copied = r["put_bytes"] + r["get_bytes"]
        inside = name.startswith("split 1 ")
        check(f"copies of {device} {name}", copied > 0 if inside else copied == 0 if device == "cpu" or name.startswith("split 0") else True, r)
        check(f"bits of {device} {name}", r["outside_bits"] == (device != "cpu" and not name.startswith("split 0")), r)
        check(f"p50 and p99 of {device} {name}", 0 < r["p50_ms"] <= r["p99_ms"], r)
    check("a decoded token costs an id, no logits", rows["fake:0", "decode"]["get_bytes"] == 4, rows["fake:0", "decode"])
    for name in ("decode", "prefill 16", "batch 2"):
        r = rows["fake:0", name]
        check(f"the device's own limit: {name}", r["share_of"] == ("f16" if name[0] == "p" else "read") and r["probe"] > 1 and r["share"] > 0, r)
        check(f"the device of the tests has the cpu's bits: {name}", r["logits"] == rows["cpu", name]["logits"], r)
    devices = {d["device"]: d for d in o["devices"]}
    check("devices", set(devices) == {"cpu", "fake:0"} and "not readable" in devices["fake:0"]["energy"] and devices["fake:0"]["name"], devices)
    text = "\n".join(o["verdicts"])
    check("verdicts", all(w in text for w in ("fake:0: prefill 1: ", "prompt, by time: ", "batch, by time: ", "depth, by time: ",
                                              "outside the promise on bits")), text)
    check("machine", o["machine"]["model"] == "llama.gguf" and o["machine"]["format"] == "F32" and o["machine"]["logits"], o["machine"])


def outputs():
    rc, out, err = run(["bench", TINY, "-q"] + BOTH + SMALL)
    block = []
    check("markdown", rc == 0 and err == "" and all(w in out for w in ("| device ", "| split 1 of 2: decode ", "by time: ", "copied B/tok")),
          f"{rc} {out} {err}")
    for line in out.split("\n") + [""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            check("columns stand in line", len({len(x) for x in block}) == 1, "\n".join(block))
            block = []
    engine = [l.split("|") for l in out.split("\n") if l.startswith(("| prefill", "| decode", "| split"))]
    head = next(l for l in out.split("\n") if l.startswith("| engine")).split("|")
    at = [c.strip() for c in head].index("device")
    check("the device stands in its column", {l[at].strip() for l in engine} == {"cpu", "fake:0"}, out)
    rc, out, err = run(["bench", TINY, "-o", "csv", "--watts", "9"] + BOTH + FEW)
    table = list(csv.DictReader(io.StringIO(out)))
    check("csv", rc == 0 and {r["device"] for r in table} == {"cpu", "fake:0"} and all(None not in r and None not in r.values() for r in table), out[:900])
    split = [r for r in table if r["name"] == "split 1 of 2: decode"]
    check("csv: copies", len(split) == 1 and float(split[0]["put_bytes"]) > 0 and split[0]["gpu_layers"] == "1", split)
    rc, out, err = run(["bench", TINY, "--jsonl"] + BOTH + FEW)
    events = [json.loads(l) for l in out.splitlines()]
    check("jsonl", rc == 0 and events[-1]["type"] == "done" and events[-1]["verdicts"] and
          {e["device"] for e in events if e["type"] == "row"} == {"cpu", "fake:0"}, out[:900])
    rc, out, err = run(["bench", TINY, "-o", "svg"] + BOTH + FEW)
    text = "".join(xml.etree.ElementTree.fromstring(out).itertext())
    check("svg", rc == 0 and all(w in text for w in ("fake:0", "cpu", "layers on the device")), f"{rc} {text[:600]}")
    rc, out, err = run(["bench", TINY, "-q", "--watts", "30"] + BOTH + FEW)
    check("a column of energy", rc == 0 and "mJ/tok" in out and "est." in out, out)
    rc, out, err = run(["bench", TINY, "--json", "--only", "decode", "--depth", "0", "--tg", "8", "--reps", "2"])
    check("without --device", rc == 0 and all(r["device"] == "cpu" for r in json.loads(out)["rows"]) and "verdicts" not in out, out)


def missing():
    few = ["--json", "--only", "decode", "--depth", "0", "--tg", "4", "--reps", "1"]
    for name, device, knobs, words in (("no such file", "cpu,/nothing/libwick_no.so", {}, "nothing"), ("no device", "cpu," + MODULE, {"COUNT": 0}, "no fake device"),
                                       ("it does not open", "cpu," + MODULE, {"FAIL": "open:1"}, "not be opened"),
                                       ("index", "cpu," + MODULE + ":7", {}, "7"),
                                       ("nothing fits", "cpu," + MODULE, {"MEM": 1000}, "")):
        rc, out, err = run(["bench", TINY, "--device", device] + few, knobs)
        o = json.loads(out) if out else {"rows": []}
        lost = [r for r in o["rows"] if r["device"] != "cpu"]
        check(f"missing, {name}", rc == 1 and any(r["name"] == "decode" and r["n"] == 1 for r in o["rows"]) and len(lost) == 1 and
              lost[0]["n"] == 0 and lost[0]["note"].startswith("not measured: ") and words in lost[0]["note"], f"{rc} {lost} {err}")
    rc, out, err = run(["bench", TINY, "--device", "cpu," + MODULE] + few, {"FAIL": "run:4"})
    rows = rows_of(json.loads(out)) if out else {}
    check("lost meanwhile", rc == 1 and rows["cpu", "decode"]["n"] == 1 and "the device is lost" in rows["fake:0", "decode"]["note"], f"{rc} {out} {err}")
    for bad in ("", "cpu,", ",cpu", "tpu", "auto", "cpu,auto", "cpu,cpu", "cuda:", "cuda:x", "cpu,libwick_fake.so", ",".join(["/a", "/b", "/c", "/d", "/e"])):
        rc, out, err = run(["bench", TINY, f"--device={bad}"] + few)
        check(f"--device={bad}", rc == 2 and "--device" in err and out == "" or "--json" in few and rc == 2 and "--device" in out + err, f"{rc} {out} {err}")


def wall():
    if subprocess.run([WICK, "wall", "--help"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        print("wall is left out: this build has none")
        return
    rc, out, err = run(["wall", TINY, "--quick", "--json"] + BOTH, timeout=900)
    check("wall", rc == 0, f"{rc} {err}")
    check("wall: rows", '"decode on fake:0"' in out and '"prefill 512 on fake:0"' in out, out[:3000])
    check("wall: ratio", "fake:0 / this CPU, measured: " in out and "fake:0, " in out and "has no training" in out, out[:3000])


as_json()
outputs()
missing()
if "WICK_SANITIZED" not in os.environ:
    wall()
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
