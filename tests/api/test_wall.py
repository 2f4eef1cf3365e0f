#!/usr/bin/env python3
"""wick wall --quick on a tiny model: the object, the page, and that both hold the same numbers; refusals; a signal.

usage: test_wall.py WICK-BINARY     (run from the repository root; standard library only)"""
import html.parser
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
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {str(detail)[:1500]}")


def env(tmp):
    e = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_"))}
    e.update({"HOME": "/nonexistent", "TMPDIR": tmp})
    return e


def run(args, tmp, timeout=900):
    p = subprocess.run([WICK, "wall"] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env(tmp), timeout=timeout)
    return p.returncode, p.stdout.decode(), p.stderr.decode("utf-8", "replace")


VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Tags that close in order; tables as rows of texts and numbers; no address and no script."""

    def __init__(self):
        super().__init__()
        self.stack, self.bad, self.tables, self.cell, self.id = [], [], {}, None, None

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag not in VOID:
            self.stack.append(tag)
        if tag in ("script", "link", "img", "iframe") or "src" in a or "href" in a:
            self.bad.append(tag)
        if tag == "table":
            self.id = a["id"][2:]
            self.tables[self.id] = []
        if tag == "tr":
            self.tables[self.id].append([])
        if tag in ("td", "th"):
            self.cell = ["", None]
        if tag == "data":
            self.cell[1] = float(a["value"])

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.bad.append("/" + tag)
        if tag in ("td", "th"):
            self.tables[self.id][-1].append(self.cell[1] if self.cell[1] is not None else self.cell[0])
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell[0] += data


TABLES = {"machine", "verdict", "comparison", "roofline", "two-gaps", "map", "memory", "threads", "jitter", "users", "probes", "products", "measured",
          "forecast", "advice", "too-strong"}
LINES = ["Serve", "LoRA", "Scratch", "Wall", "Gap", "Waste", "Recompute"]
ROWS = ["goal", "compute type", "compute need", "bound by", "memory", "latency sensitivity", "substitutability CPU / GPU / NPU", "energy"]


def rows(o, table):
    return {r[0]: r for r in o["tables"][table]["rows"]}


def page(path, o):
    text = open(path, encoding="utf-8").read()
    p = Page()
    p.feed(text)
    p.close()
    check("the page is well formed and asks for nothing", not p.bad and not p.stack, (p.bad, p.stack))
    check("every table stands on the page", set(p.tables) == {k for k, t in o["tables"].items() if t["rows"]}, set(p.tables) ^ set(o["tables"]))
    for name, t in o["tables"].items():
        if not t["rows"]:
            continue
        check(f"page = JSON: {name}", p.tables[name][0] == t["columns"] and p.tables[name][1:] == t["rows"], (p.tables[name], t))
    svgs = re.findall(r"<svg.*?</svg>", text, re.S)
    check("seven figures", text.count("<figure>") == 7 and len(svgs) + text.count("<p>Not drawn") == 7 and len(svgs) >= 4, len(svgs))
    for s in svgs:
        tree = xml.etree.ElementTree.fromstring(s)
        tags = [c.tag.split("}")[1] for c in tree]
        title, desc = tree[0].text, tree[1].text
        check("svg with a text for who cannot see it", tags[:2] == ["title", "desc"] and len(title) > 3 and len(desc) > 40, s[:300])
        for path in tree.iter("{http://www.w3.org/2000/svg}path"):
            check("finite path", "nan" not in path.get("d") and "inf" not in path.get("d"), path.get("d"))
    ids = re.findall(r' id="([^"]*)"', text)
    check("ids once", len(ids) == len(set(ids)), ids)


def full(tmp):
    path = os.path.join(tmp, "wall.html")
    rc, out, err = run([TINY, "--quick", "--json", "--html", path], tmp)
    check("runs", rc == 0 and out.count("\n") == 1, f"{rc} {out[:300]} {err[-500:]}")
    if rc:
        return
    o = json.loads(out)
    check("schema", o["schema"] == "wick.wall/1" and o["quick"] is True and o["complete"] is True and o["repeats"] == 2 and
          isinstance(o["warnings"], list) and set(o["tables"]) == TABLES, o.keys())
    for name, t in o["tables"].items():
        check(f"rows of {name}", all(len(r) == len(t["columns"]) for r in t["rows"]), t)
    check("verdict lines", [r[0] for r in o["tables"]["verdict"]["rows"]] == LINES, o["tables"]["verdict"])
    check("comparison rows", [r[0] for r in o["tables"]["comparison"]["rows"]] == ROWS, o["tables"]["comparison"])
    check("each cell says something", all(all(c for c in r) for r in o["tables"]["comparison"]["rows"]), o["tables"]["comparison"])
    m = rows(o, "measured")
    for name in ("prefill 512", "decode", "batch 1", "batch 32"):
        check(f"measured {name}", name in m and m[name][1] > 0 and m[name][3] <= m[name][1] <= m[name][4] and m[name][5] == 2, m.get(name))
    check("what lies in the cache has no share of memory", "cache" in m["decode"][6], m["decode"])
    train = [m.get(n) for n in ("train step f32", "train step f32, recompute", "LoRA step, rank 8")]
    check("training is measured or says why not", all(t and (t[1] != "" or t[6].startswith("not measured: ")) for t in train), train)
    check("probes", all(r[1] > 0 for r in o["tables"]["probes"]["rows"]) and any("copy" in r[0] for r in o["tables"]["probes"]["rows"]), o["tables"]["probes"])
    users = o["tables"]["users"]["rows"]
    check("readers", [r[0] for r in users] == [1, 2, 4, 8, 16, 32] and all(abs(r[1] / r[0] - r[2]) < 1e-4 * r[2] for r in users), users)
    j = rows(o, "jitter")
    check("gaps", j["alone"][1] <= j["alone"][4] <= j["alone"][5] and j["with pauses of 100 ms"][5] >= 100, j)
    if train[0] and train[0][1] != "":
        check("beside a trainer", "beside a trainer" in j or any(k.startswith("beside a trainer: not measured") for k in j), list(j))
        check("the losses with and without pauses are equal", "final loss identical" in rows(o, "comparison")["latency sensitivity"][1],
              rows(o, "comparison")["latency sensitivity"])
        far = rows(o, "forecast")["7B"]
        check("far forecasts say so", far[3] == "order of magnitude" and far[2].endswith(" y"), far)
        check("memory of each job", rows(o, "memory")["full training"][7] > 1 and rows(o, "memory")["full training"][6] > 1, o["tables"]["memory"])
        check("extrapolation names its steps", "measured steps at" in rows(o, "verdict")["Scratch"][2], rows(o, "verdict")["Scratch"])
    page(path, o)
    check("nothing stays in the temporary folder", os.listdir(tmp) == ["wall.html"], os.listdir(tmp))


def refusals(tmp):
    def refused(name, args, code, words):
        rc, out, err = run(args, tmp)
        lines = [l for l in err.split("\n") if l.startswith("wick: ")]
        check(name, rc == code and out == "" and len(lines) == 1 and all(w in lines[0] for w in words), f"exit {rc} (wanted {code}), {err!r}, {words}")

    refused("no file", [tmp + "/none.gguf"], 1, ["none.gguf"])
    refused("two models", [TINY, TINY], 2, ["one model"])
    refused("device", [TINY, "--device", "tpu"], 2, ["tpu"])
    refused("a job that is none", [TINY, "--job", "x"], 2, ["--job"])
    refused("a job out of range", [TINY, "--job", "9,1,1,/tmp"], 2, ["--job"])


def interrupted(tmp):
    p = subprocess.Popen([WICK, "wall", TINY, "--quick", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env(tmp))
    time.sleep(0.7)
    p.send_signal(signal.SIGINT)
    out = p.communicate(timeout=120)[0].decode()
    check("SIGINT", p.returncode in (0, 130) and (not out or json.loads(out.splitlines()[-1])["schema"] == "wick.wall/1"), f"{p.returncode} {out[:300]}")
    check("SIGINT leaves no folder", not [n for n in os.listdir(tmp) if n.startswith("wick-wall")], os.listdir(tmp))


with tempfile.TemporaryDirectory() as folder:
    full(folder)
    refusals(folder)
    interrupted(folder)
print(f"test_wall: {passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
