#!/usr/bin/env python3
"""Plants the faults that training code has had elsewhere, one at a time, and wants a test to turn red for each.

    python3 tests/train/sabotage.py BUILD_FOLDER [WORD]      WORD: only faults whose name holds it

A fault is an edit of one function in a copy of one source. The copy is compiled as the build compiles the file, linked in
front of the library, and the named test is run. Fails when a fault survives, when its text is no longer there exactly
once, when it does not compile, or when the test fails without it. Exit 77: the build folder is not ninja's."""
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TRAIN = "engine/train/"


class Fault:
    def __init__(self, name, source, function, edits, test, case):
        self.name, self.source, self.function, self.edits = name, source, function, edits
        self.test, self.case = test, case


def fault(name, source, function, old, new, test, case):
    return Fault(name, TRAIN + source, function, [(old, new)], test, case)


FAULTS = [
    fault("rope turned back with the wrong sign", "exec.c", "rope_share", "back[j] = -there[j]", "back[j] = there[j]",
          "test_grad", "test_gradients"),
    fault("1/sqrt(d) missing on the way back", "exec_attn.c", "block_back", ".scale = of->scale", ".scale = 1.0f",
          "test_grad", "test_gradients"),
    fault("softmax without its row sum", "exec_attn.c", "block_back", "1.0f / stat_of(j, p, src[5], t0 + i)[h]", "1.0f",
          "test_grad", "test_gradients"),
    fault("tied head's gradient dropped", "rules.c", "emit_head", "t->param = param_of(w, s->w[0])",
          "t->param = s->w[0] == p->step[0].w[0] ? -1 : param_of(w, s->w[0])", "test_grad", "test_gradients"),
    fault("tied embedding's gradient dropped", "rules.c", "rule_embed", "if (param_of(w, s->w[0]) < 0)",
          "if (param_of(w, s->w[0]) < 0 || s->layer < 0)", "test_grad", "test_gradients"),
    fault("bias gradient missing", "rules.c", "rule_bias", "if (param_of(w, s->w[0]) >= 0)",
          "if (param_of(w, s->w[0]) >= 0 && s->layer < 0)", "test_grad", "test_gradients"),
    fault("scale of the embedding missing", "rules.c", "rule_embed", "t->scale = s->scale", "t->scale = 1.0f",
          "test_grad", "test_gradients"),
    fault("alpha/r dropped on the way back", "rules.c", "rule_lora", "w->factor[s->dst] * s->scale", "w->factor[s->dst]",
          "test_grad", "test_adapters"),
    Fault("alpha/r dropped", "engine/graph/adapter.c", "wk_lora_scale", [("f->alpha / (double)p->rank", "1.0")],
          "test_grad", "test_adapters"),
    fault("scale of an adapter forgotten where gradients meet", "rules.c", "plain_grad",
          "if (w->factor[v] == 1.0f) return", "if (w->grad_of[v] >= 0) return", "test_steps", "test_rules"),
    fault("value placed over one that is still read", "place.c", "drop_dead", ".last >= step", ".last > step + 8",
          "test_grad", "test_gradients"),
    fault("causal mask off by one", "exec_attn.c", "set_limits", "hi = pos + 1 - page * PAGE", "hi = pos + 2 - page * PAGE",
          "test_grad", "test_gradients"),
    fault("window off by one", "exec_attn.c", "first_seen", "pos - window + 1", "pos - window", "test_grad",
          "test_gradients"),
    fault("loss mask off by one", "exec.c", "wk_texec_run", "if (b->target[t] >= 0)",
          "if (b->target[t] >= 0 && (t == 0 || b->target[t - 1] >= 0))", "test_grad", "test_masks"),
    fault("softcap without its derivative", "loss.c", "loss_rows", "if (c->s->scale > 0.0f) x->o.gk->softcap",
          "if (c->s->scale < 0.0f) x->o.gk->softcap", "test_grad", "test_gradients"),
    fault("gradients of a micro-batch replace the last one's", "exec_backward.c", "wk_texec_matmul_dw", ".add = true",
          ".add = false", "test_grad", "test_accumulation"),
    fault("decay on norms", "grad.c", "list_params", ".decays = !w->is_vector", ".decays = true", "test_grad",
          "test_steps"),
    fault("no decay", "adamw.c", "wk_optim_step", "1.0 - lr * o->decay", "1.0", "test_grad", "test_steps"),
    fault("bias correction a step late", "adamw.c", "wk_optim_step", "lr / (1.0 - power(o->beta1, t))",
          "lr / (1.0 - power(o->beta1, t + 1))", "test_grad", "test_steps"),
    fault("clipped after the step, so not at all", "trainer.c", "update", "(clip < 1.0 ? clip : 1.0) / counted",
          "1.0 / counted", "test_updates", "test_by_hand"),
    Fault("mean of means", TRAIN + "trainer.c", "accumulate",
          [("sums[0] += loss.sum;", "sums[0] += loss.counted ? loss.sum / (double)loss.counted : 0.0;"),
           ("sums[1] += (double)loss.counted;", "sums[1] += loss.counted > 0;")], "test_updates", "test_micro_batches"),
    fault("down projection begins too large", "init.c", "put_layer", 'put(m, l, "ffn_down", d, s->n_ff, out)',
          'put(m, l, "ffn_down", d, s->n_ff, 0.02)', "test_init", "test_spread"),
    fault("up projection begins small", "init.c", "put_layer", 'put(m, l, "ffn_up", s->n_ff, d, 0.02)',
          'put(m, l, "ffn_up", s->n_ff, d, out)', "test_init", "test_spread"),
    fault("samples of weights from before", "export.c", "add", "weight_of(t, a->name, &param)",
          "a->name.n ? NULL : weight_of(t, a->name, &param)", "test_updates", "test_export_model"),
    fault("rows of q and k written unrotated", "export.c", "row_in_file", "if (!w->unrotate) return i",
          "if (w->k > 0) return i", "test_updates", "test_export_model"),
    Fault("key cache of the request before", "engine/cpu/elem.c", "wk_exec_kvput",
          [("if (x->dev->k.kv_cast[type](row,", "if (s->which == 0 && pos == 1) continue;\n            if (x->dev->k.kv_cast[type](row,")],
          "test_updates", "test_export_model"),
]


def function_span(text, name):
    """Start and end of the definition of a function."""
    m = re.search(r"^[a-z][^\n;]*\b%s\([^;{]*\{\n" % re.escape(name), text, re.M)
    end = text.find("\n}\n", m.end() - 1) if m else -1
    return (m.start(), end + 3) if end >= 0 else None


def planted(f):
    """The source with the fault, or why there is none."""
    text = open(os.path.join(ROOT, f.source), encoding="ascii").read()
    span = function_span(text, f.function)
    if not span:
        return None, "%s has no function %s" % (f.source, f.function)
    body = text[span[0]:span[1]]
    for old, new in f.edits:
        if body.count(old) != 1:
            return None, "%s: %s holds '%s' %d times, wanted once" % (f.source, f.function, old, body.count(old))
        body = body.replace(old, new)
    return text[:span[0]] + body + text[span[1]:], None


class Build:
    def __init__(self, folder, work):
        self.folder, self.work = os.path.abspath(folder), work
        with open(os.path.join(self.folder, "compile_commands.json"), encoding="utf-8") as f:
            self.commands = {os.path.relpath(c["file"], ROOT): shlex.split(c["command"]) for c in json.load(f)}

    def run(self, argv, **more):
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)

    def compile(self, f, text):
        source = os.path.join(self.work, "fault.c")
        with open(source, "w", encoding="ascii") as out:
            out.write(text)
        argv = [a for a in self.commands[f.source] if a != "-Werror" and os.path.basename(a) != "ccache"]
        argv[argv.index("-o") + 1] = os.path.join(self.work, "fault.o")
        argv[argv.index("-c") + 1] = source
        return self.run(argv + ["-w"], cwd=self.folder)

    def link(self, f):
        line = self.run(["ninja", "-C", self.folder, "-t", "commands", f.test]).stdout.strip().split("\n")[-1]
        argv = [a for a in shlex.split(line) if a not in (":", "&&")]
        argv[argv.index("-o") + 1] = os.path.join(self.work, "planted")
        library = next(i for i, a in enumerate(argv) if a.endswith("libwick.a"))
        return self.run(argv[:library] + [os.path.join(self.work, "fault.o")] + argv[library:], cwd=self.folder)

    def test(self, program, case):
        return self.run([program, case], cwd=ROOT, timeout=300)

    def control(self, f):
        """The test as it is must have run, and passed."""
        r = self.test(os.path.join(self.folder, "bin", f.test), f.case)
        return r.returncode == 0 and "[       OK ] " + f.case in r.stdout


def survives(b, f):
    """None if the fault was found, else what is wrong."""
    text, why = planted(f)
    if not text:
        return why
    for step in (b.compile(f, text), b.link(f)):
        if step.returncode:
            return "it does not build:\n" + step.stdout[-2000:]
    r = b.test(os.path.join(b.work, "planted"), f.case)
    return None if r.returncode not in (0, 77) else "%s %s stays green" % (f.test, f.case)


def main():
    folder, word = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        print("skipped: %s is not ninja's: how a test is linked is not known" % folder)
        return 77
    wrong, control, n = 0, {}, 0
    with tempfile.TemporaryDirectory() as work:
        b = Build(folder, work)
        for f in FAULTS:
            if word not in f.name:
                continue
            n += 1
            key = (f.test, f.case)
            if key not in control:
                control[key] = b.control(f)
            why = survives(b, f) if control[key] else "%s %s fails without a fault" % key
            wrong += why is not None
            print("%-9s %s%s" % ("FAILED" if why else "found", f.name, ": " + why if why else ""), flush=True)
    print("%d faults, %d not found" % (n, wrong))
    return 1 if wrong or n == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
