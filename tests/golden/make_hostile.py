#!/usr/bin/env python3
"""Makes hostile model files, and good files that look like them, out of small seed models.

    python3 tests/golden/make_hostile.py FOLDER     everything, and index.json, for tests/api/test_hostile.py
    python3 tests/golden/make_hostile.py            the few that are kept: tests/golden/bad_model/E_<CODE>_<what>.gguf

Standard library only; the output is the same every time. A bad file has one fault. A case is (name, stage, word, files):
`stage` says who must refuse it, `word` is what the sentence must say, the first of `files` is the one to open."""
import json
import os
import random
import struct
import sys

import make_bad
import make_split
from hostile_templates import HOSTILE, KIND
from make_bad import ARR, BOOL, F32, F64, FIXED, HERE, I8, I16, I32, I64, STR, U8, U16, U32, U64, info, meta

T_F32, T_F16, T_Q4_0, T_Q8_0, T_BF16 = 0, 1, 2, 8, 30
CHATML = ("{%- for m in messages -%}\n<|im_start|>{{ m.role }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor -%}\n"
          "{% if add_generation_prompt and messages[-1].role != 'assistant' -%}\n<|im_start|>assistant\n{% endif -%}\n")


class Model:
    """Metadata and tensors by name; every change returns a new one."""

    def __init__(self, metas, tensors):
        self.meta, self.tensor = dict(metas), dict(tensors)

    def arch(self):
        return self.meta["general.architecture"][1]

    def put(self, key, kind, x):
        """A key of the architecture may be given as ".block_count"."""
        m = Model(self.meta, self.tensor)
        m.meta[self.arch() + key if key[0] == "." else key] = (kind, x)
        return m

    def drop(self, *names):
        names = [self.arch() + n if n[0] == "." else n for n in names]
        for n in names:
            assert n in self.meta or n in self.tensor, n
        return Model({k: v for k, v in self.meta.items() if k not in names},
                     {k: v for k, v in self.tensor.items() if k not in names})

    def weight(self, name, shape, kind, data):
        m = Model(self.meta, self.tensor)
        m.tensor[name] = (shape, kind, data)
        return m

    def bytes(self, version=3, align=32, gap=0, tail=b"", order=None, data_order=None, n_dim=None):
        """order, data_order: the names of the tensors in the header, in the data."""
        names, place, data = order or list(self.tensor), {}, b""
        for n in data_order or names:
            data += bytes(-len(data) % align)
            place[n] = len(data)
            data += self.tensor[n][2] + bytes(gap * align)
        data = data[:len(data) - gap * align] if gap else data
        metas = [meta(k, *v) for k, v in self.meta.items()]
        infos = [info(n, self.tensor[n][0] + [1] * ((n_dim or 0) - len(self.tensor[n][0])), self.tensor[n][1], place[n])
                 for n in names]
        return make_bad.gguf(metas, infos, data, version=version, align=align) + tail


def read(path):
    """The other direction, for files that are known to be good."""
    b, at = open(path, "rb").read(), 24

    def take(fmt):
        nonlocal at
        x = struct.unpack_from("<" + fmt, b, at)[0]
        at += struct.calcsize(fmt)
        return x

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return b[at - n:at].decode()

    def value(kind):
        if kind == STR:
            return text()
        if kind != ARR:
            return take(FIXED[kind])
        elem, n = take("I"), take("Q")
        return elem, [value(elem) for _ in range(n)]

    n_tensor, n_meta = struct.unpack_from("<QQ", b, 8)
    metas, infos = {}, []
    for _ in range(n_meta):
        key, kind = text(), take("I")
        metas[key] = (kind, value(kind))
    for _ in range(n_tensor):
        name = text()
        shape = [take("Q") for _ in range(take("I"))]
        infos.append((name, shape, take("I"), take("Q")))
    base, tensors = at + -at % 32, {}
    for name, shape, kind, offset in infos:
        assert kind == T_F32
        n = 4
        for x in shape:
            n *= x
        tensors[name] = (shape, kind, b[base + offset:base + offset + n])
    return Model(metas, tensors)


# ---- seeds --------------------------------------------------------------------------------------------------

DIM, HEADS, HEAD_DIM, FF = 16, 2, 12, 20
Q, KV = HEADS * HEAD_DIM, HEAD_DIM


def floats(rng, shape):
    n = 1
    for x in shape:
        n *= x
    return struct.pack("<%df" % n, *[rng.uniform(-0.5, 0.5) for _ in range(n)])


def body(layers, vocabulary, seed, dim=DIM, q=Q, kv=KV, ff=FF):
    """The weights of a llama; no two sides of a matrix are equal."""
    rng = random.Random(seed)
    shapes = {"token_embd.weight": [dim, vocabulary], "output_norm.weight": [dim], "output.weight": [dim, vocabulary]}
    for i in range(layers):
        for part, shape in (("attn_norm", [dim]), ("attn_q", [dim, q]), ("attn_k", [dim, kv]), ("attn_v", [dim, kv]),
                            ("attn_output", [q, dim]), ("ffn_norm", [dim]), ("ffn_gate", [dim, ff]), ("ffn_up", [dim, ff]),
                            ("ffn_down", [ff, dim])):
            shapes["blk.%d.%s.weight" % (i, part)] = shape
    return {n: (s, T_F32, floats(rng, s)) for n, s in shapes.items()}


def dims(layers, dim=DIM, head_dim=HEAD_DIM, ff=FF, heads=HEADS):
    return {"general.architecture": (STR, "llama"), "llama.block_count": (U32, layers),
            "llama.context_length": (U32, 128), "llama.embedding_length": (U32, dim),
            "llama.feed_forward_length": (U32, ff), "llama.attention.head_count": (U32, heads),
            "llama.attention.head_count_kv": (U32, 1), "llama.attention.key_length": (U32, head_dim),
            "llama.attention.value_length": (U32, head_dim), "llama.rope.dimension_count": (U32, head_dim),
            "llama.rope.freq_base": (F32, 10000.0), "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5)}


def spm_words(n_more=0, n_bytes=256):
    """Pieces, scores, kinds of a small vocabulary with byte fallback."""
    words = ["\u2581", "e", "t", "a", "h", "l", "o", "\u2581t", "he", "\u2581the", "ll", "llo", "hello", "\u2581hello", "b"]
    words += ["w%d" % i for i in range(n_more)]
    pieces = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(n_bytes)] + words
    scores = [0.0] * (3 + n_bytes) + [-float(i) for i in range(len(words))]
    return pieces, scores, [2, 3, 3] + [6] * n_bytes + [1] * len(words)


def spm_keys(n_more=0, n_bytes=256):
    pieces, scores, kinds = spm_words(n_more, n_bytes)
    return {"tokenizer.ggml.model": (STR, "llama"), "tokenizer.ggml.tokens": (ARR, (STR, pieces)),
            "tokenizer.ggml.scores": (ARR, (F32, scores)), "tokenizer.ggml.token_type": (ARR, (I32, kinds)),
            "tokenizer.ggml.bos_token_id": (U32, 1), "tokenizer.ggml.eos_token_id": (U32, 2),
            "tokenizer.ggml.unknown_token_id": (U32, 0), "tokenizer.ggml.add_bos_token": (BOOL, 1),
            "tokenizer.chat_template": (STR, CHATML)}


def seed_spm():
    keys = spm_keys()
    return Model({**dims(2), **keys}, body(2, len(keys["tokenizer.ggml.tokens"][1][1]), 1))


def tiny(arch):
    return read(os.path.join(HERE, "tiny", arch + ".gguf"))


def seed_bpe():
    """The tokenizer of the tiny models over the weights above."""
    t = {k: v for k, v in tiny("llama").meta.items() if k.startswith("tokenizer.")}
    merges = t["tokenizer.ggml.merges"][1][1]
    t["tokenizer.ggml.merges"] = (ARR, (STR, [m for m in merges if m != "\u0120wor ld"]))
    t["tokenizer.chat_template"] = (STR, CHATML)
    return Model({**dims(2), **t}, body(2, 288, 2))


def seed_small():
    """Eight tokens, no bytes: what is small enough to be kept."""
    words = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "\u2581a", "ab"]
    keys = spm_keys(n_bytes=0)
    keys["tokenizer.ggml.tokens"] = (ARR, (STR, words))
    keys["tokenizer.ggml.scores"] = (ARR, (F32, [-float(i) for i in range(8)]))
    keys["tokenizer.ggml.token_type"] = (ARR, (I32, [2, 3, 3, 1, 1, 1, 1, 1]))
    keys["tokenizer.chat_template"] = (STR, "{{ messages[0].content }}")
    return Model({**dims(1, 4, 2, 6), **keys}, body(1, 8, 3, dim=4, q=4, kv=2, ff=6)).drop("output.weight")


# ---- bad: hyper-parameters ----------------------------------------------------------------------------------

def hyper(m):
    """(name, word, bytes) of files whose keys are wrong; refused when the model is planned."""
    nan, inf = float("nan"), float("inf")
    wrong = {"0": (U32, 0), "minus_1": (I32, -1), "2_31": (U32, 2**31), "2_63": (U64, 2**63), "max": (U64, 2**64 - 1),
             "text": (STR, "2\x1b[31m"), "real": (F32, 2.5), "bool": (BOOL, 1), "empty_array": (ARR, (U32, [])),
             "texts": (ARR, (STR, ["2", "2"])), "reals": (ARR, (F32, [2.0, 2.0])), "nested": (ARR, (ARR, [(U32, [2])])),
             "zeros": (ARR, (U32, [0, 0])), "negatives": (ARR, (I32, [-1, -1])), "unlike": (ARR, (U32, [2, 3]))}
    whole = [".block_count", ".context_length", ".embedding_length", ".feed_forward_length", ".attention.head_count",
             ".attention.head_count_kv", ".attention.key_length", ".attention.value_length", ".rope.dimension_count"]
    for key in whole:
        for what, (kind, x) in wrong.items():
            yield key[1:] + "_" + what, key, m.put(key, kind, x)
    for key in whole[:5] + [".attention.layer_norm_rms_epsilon"]:
        yield key[1:] + "_missing", key, m.drop(key)
    for key in (".attention.layer_norm_rms_epsilon", ".rope.freq_base", ".rope.scaling.factor"):
        for what, (kind, x) in {"0": (F32, 0.0), "minus_1": (F32, -1.0), "nan": (F32, nan), "inf": (F64, inf),
                                "1e300": (F64, 1e300), "text": (STR, "1"), "array": (ARR, (F32, [1.0])),
                                "bool": (BOOL, 1)}.items():
            yield key[1:] + "_" + what, key, m.put(key, kind, x)
    for what, x in {"unknown": "frobnicate", "format": "%s%n%d", "escape": "\x1b]0;x\x07", "empty": ""}.items():
        yield "rope_type_" + what, ".rope.scaling.type", m.put(".rope.scaling.type", STR, x)
    yield "rope_type_number", ".rope.scaling.type", m.put(".rope.scaling.type", U32, 1)
    yield "linear_without_factor", ".rope.scaling.factor", m.put(".rope.scaling.type", STR, "linear")
    yarn = m.put(".rope.scaling.type", STR, "yarn").put(".rope.scaling.factor", F32, 4.0)
    yield "yarn_without_length", "original_context_length", yarn
    yield "yarn_length_0", "original_context_length", yarn.put(".rope.scaling.original_context_length", U32, 0)
    yield "yarn_other", "yarn_log_multiplier", yarn.put(".rope.scaling.yarn_log_multiplier", F32, 0.1)
    for what, key, x in (("heads_3", ".attention.head_count", 3), ("heads_1", ".attention.head_count", 1),
                         ("kv_3", ".attention.head_count_kv", 3), ("kv_2", ".attention.head_count_kv", 2),
                         ("dim_17", ".embedding_length", 17), ("dim_8", ".embedding_length", 8),
                         ("ff_21", ".feed_forward_length", 21), ("key_length_8", ".attention.key_length", 8),
                         ("value_length_8", ".attention.value_length", 8), ("rot_5", ".rope.dimension_count", 5),
                         ("rot_8", ".rope.dimension_count", 8), ("rot_14", ".rope.dimension_count", 14),
                         ("layers_3", ".block_count", 3), ("layers_32767", ".block_count", 32767)):
        yield what, "", m.put(key, U32, x)
    yield "heads_do_not_divide", ".embedding_length", m.drop(".attention.key_length", ".attention.value_length",
                                                             ".rope.dimension_count").put(".attention.head_count", U32, 3)
    for what, (kind, x) in {"unknown": (STR, "frobnicate"), "format": (STR, "%s%n%1000000d"), "number": (U32, 7),
                            "escape": (STR, "\x1b[2J\u202e"), "empty": (STR, ""), "long": (STR, "llama" * 3000),
                            "nul": (STR, "llama\0"), "case": (STR, "Llama"), "array": (ARR, (STR, ["llama"]))}.items():
        yield "architecture_" + what, "general.architecture" if kind != STR else "", \
            m.put("general.architecture", kind, x)
    yield "architecture_missing", "general.architecture", m.drop("general.architecture")


# ---- bad: tensors -------------------------------------------------------------------------------------------

def resized(m, name, shape, kind=T_F32, size=4):
    n = size
    for x in shape:
        n *= x
    return m.weight(name, shape, kind, bytes(n))


def tensors(m):
    last = [n for n in m.tensor if n.startswith("blk.1.")] + ["token_embd.weight", "output_norm.weight", "output.weight"]
    for name in last:
        short, shape = name.replace(".weight", "").replace("blk.1.", ""), m.tensor[name][0]
        if name != "output.weight":
            yield short + "_missing", name, m.drop(name)
        yield short + "_transposed", name, resized(m, name, (shape + [1])[1::-1])
        yield short + "_row_less", name, resized(m, name, shape[:-1] + [shape[-1] - 1])
        yield short + "_row_more", name, resized(m, name, shape[:-1] + [shape[-1] + 1])
        yield short + "_3d", name, resized(m, name, (shape + [1])[:2] + [2])
        if len(shape) == 1:
            yield short + "_q8_0", name, m.weight(name, [32], T_Q8_0, bytes(34))
    yield "embedding_of_one_row", "token_embd.weight", resized(m, "token_embd.weight", [DIM, 1])
    yield "rope_freqs_short", "rope_freqs.weight", resized(m, "rope_freqs.weight", [HEAD_DIM // 2 - 1])
    yield "rope_freqs_f16", "rope_freqs.weight", resized(m, "rope_freqs.weight", [HEAD_DIM // 2], T_F16, 2)
    yield "rope_freqs_0", "rope_freqs.weight", resized(m, "rope_freqs.weight", [HEAD_DIM // 2])
    yield "rope_freqs_nan", "rope_freqs.weight", m.weight("rope_freqs.weight", [HEAD_DIM // 2], T_F32,
                                                          struct.pack("<f", float("nan")) * (HEAD_DIM // 2))
    yield "bias_on_rotated_rows", "attn_q.bias", resized(m, "blk.0.attn_q.bias", [Q])


def not_finite(m):
    """NaN and infinities where they are easily missed."""
    for what, x in {"nan": 0x7FC00000, "signalling": 0x7F800001, "inf": 0x7F800000, "minus_inf": 0xFF800000}.items():
        for name in ("token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"):
            shape, kind, data = m.tensor[name]
            yield name.replace(".weight", "_") + what, name, m.weight(name, shape, kind, data[:-4] + struct.pack("<I", x))
    name, shape = "token_embd.weight", m.tensor["token_embd.weight"][0]
    n = shape[0] * shape[1]
    yield "f16_nan", name, m.weight(name, shape, T_F16, bytes(2 * n - 2) + b"\x01\x7c")
    yield "f16_inf", name, m.weight(name, shape, T_F16, b"\x00\xfc" + bytes(2 * n - 2))
    yield "bf16_nan", name, m.weight(name, shape, T_BF16, bytes(2 * n - 2) + b"\xc0\xff")
    wide = wide_model()
    shape = wide.tensor[name][0]
    for what, kind, size in (("q4_0", T_Q4_0, 18), ("q8_0", T_Q8_0, 34)):
        rows = shape[1]
        yield what + "_scale_nan", name, wide.weight(name, shape, kind, bytes(size * (rows - 1)) + b"\x00\x7e" + bytes(size - 2))
        yield what + "_scale_inf", name, wide.weight(name, shape, kind, b"\x00\x7c" + bytes(size * rows - 2))


def wide_model():
    """Rows of one block of 32."""
    m = seed_spm()
    n = len(m.meta["tokenizer.ggml.tokens"][1][1])
    return Model({**m.meta, **dims(1, 32, 16)}, body(1, n, 4, dim=32, q=32, kv=16))


# ---- bad: tokenizer -----------------------------------------------------------------------------------------

G = "tokenizer.ggml."


def array_of(m, key):
    return m.meta[G + key][1]


def arrays(m, key, required):
    """What may be wrong with any array that stands beside the tokens."""
    elem, x = array_of(m, key)
    other = (F32, [0.0] * len(x)) if elem == STR else (STR, ["1"] * len(x))
    yield key + "_other_type", key, m.put(G + key, ARR, other)
    yield key + "_no_array", key, m.put(G + key, STR, "x")
    yield key + "_nested", key, m.put(G + key, ARR, (ARR, [(elem, x)]))
    if required:
        yield key + "_missing", key, m.drop(G + key)
    if key == "merges":
        return
    yield key + "_one_less", key, m.put(G + key, ARR, (elem, x[:-1]))
    yield key + "_one_more", key, m.put(G + key, ARR, (elem, x + x[-1:]))
    yield key + "_empty", key, m.put(G + key, ARR, (elem, []))


def ids(m):
    n = len(array_of(m, "tokens")[1])
    for key in ("bos_token_id", "eos_token_id"):
        for what, (kind, x) in {"n": (U32, n), "max": (U32, 2**32 - 1), "2_63": (U64, 2**63), "minus_1": (I32, -1),
                                "text": (STR, "<s>"), "real": (F32, 1.0)}.items():
            yield key + "_" + what, key, m.put(G + key, kind, x)
    for key in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        yield key + "_text", key, m.put(G + key, STR, "true")


def texts(m, i, x):
    tokens = list(array_of(m, "tokens")[1])
    tokens[i] = x
    return m.put(G + "tokens", ARR, (STR, tokens))


def tokenizer_bpe(m):
    yield from arrays(m, "tokens", True)
    yield from arrays(m, "token_type", False)
    yield from arrays(m, "merges", True)
    yield from ids(m)
    kinds = array_of(m, "token_type")[1]
    for what, kind, x in (("99", I32, 99), ("minus_1", I32, -1), ("2_40", I64, 2**40)):
        yield "token_type_" + what, "token_type", m.put(G + "token_type", ARR, (kind, kinds[:-1] + [x]))
    yield "token_type_reals", "token_type", m.put(G + "token_type", ARR, (F32, [float(k) for k in kinds]))
    yield "token_type_bools", "token_type", m.put(G + "token_type", ARR, (BOOL, [1] * len(kinds)))
    yield "token_too_long", "tokens", texts(m, 200, "x" * 5000)
    for key in ("model", "pre"):
        for what, (kind, x) in {"unknown": (STR, "frobnicate\x1b[31m"), "number": (U32, 1), "empty": (STR, ""),
                                "format": (STR, "%n%n%n")}.items():
            yield key + "_" + what, G + key, m.put(G + key, kind, x)
    yield "model_missing", G + "model", m.drop(G + "model")


def tokenizer_spm(m):
    yield from arrays(m, "scores", True)
    yield from arrays(m, "tokens", True)
    yield from arrays(m, "token_type", False)
    yield from ids(m)
    scores = array_of(m, "scores")[1]
    for what, x in (("nan", float("nan")), ("inf", float("inf")), ("minus_inf", float("-inf"))):
        yield "score_" + what, "scores", m.put(G + "scores", ARR, (F32, scores[:-1] + [x]))
    yield "scores_bools", "scores", m.put(G + "scores", ARR, (BOOL, [1] * len(scores)))
    yield "score_1e300", "scores", m.put(G + "scores", ARR, (F64, scores[:-1] + [1e300]))
    for what, x in (("minus", "<0x-1>"), ("letters", "<0xZZ>"), ("long", "<0x100>"), ("short", "<0x1>"), ("empty", ""),
                    ("plus", "<0x+1>"), ("lower", "<0xff>"), ("escape", "\x1b[31m"), ("twice", "<0x00>")):
        yield "byte_" + what, "byte token", texts(m, 258, x)
    kinds = list(array_of(m, "token_type")[1])
    kinds[258] = 1
    yield "byte_absent", "byte tokens", m.put(G + "token_type", ARR, (I32, kinds))
    yield "bytes_and_unknown_absent", "neither byte", m.put(
        G + "token_type", ARR, (I32, [1 if k in (2, 6) else k for k in kinds])).drop(G + "unknown_token_id")
    yield "squeeze", "remove_extra_whitespaces", m.put(G + "remove_extra_whitespaces", BOOL, 1)


# ---- bad: all -----------------------------------------------------------------------------------------------

def cases():
    """(name, stage, word, {file: bytes}); the stages are in test_hostile.py."""
    bpe, spm, gemma = seed_bpe(), seed_spm(), tiny("gemma3")
    for name, data in make_bad.BAD.items():
        yield name, "file", "", {name + ".gguf": data}
    for name, parts in make_split.SETS.items():
        if name.startswith("E_"):
            yield "split_" + name, "io" if "_IO_" in name else "file", "", {
                "%s-%05d-of-%05d.gguf" % (name, i + 1, len(parts)): p for i, p in enumerate(parts) if p is not None}

    def each(prefix, stage, made):
        for name, word, m in made:
            yield prefix + name, stage, word, {prefix + name + ".gguf": m.bytes()}

    yield from each("hyper_", "dims", hyper(bpe))
    yield from each("tensor_", "dims", tensors(spm))
    yield from each("bpe_", "tok", tokenizer_bpe(bpe))
    yield from each("spm_", "tok", tokenizer_spm(spm))
    yield from each("data_", "data", not_finite(spm))
    gemma = gemma.put("tokenizer.chat_template", STR, CHATML)
    yield from each("gemma_", "dims", [
        ("window_0", ".attention.sliding_window", gemma.put(".attention.sliding_window", U32, 0)),
        ("window_missing", ".attention.sliding_window", gemma.drop(".attention.sliding_window")),
        ("window_2_40", ".attention.sliding_window", gemma.put(".attention.sliding_window", U64, 2**40)),
        ("scale_nan", ".attention.scale", gemma.put(".attention.scale", F32, float("nan"))),
        ("scale_missing", ".attention.scale", gemma.drop(".attention.scale")),
        ("softcap_minus", ".final_logit_softcapping", gemma.put(".final_logit_softcapping", F32, -1.0)),
        ("pattern_text", ".attention.sliding_window_pattern", gemma.put(".attention.sliding_window_pattern", STR, "x")),
        ("pattern_short", ".attention.sliding_window_pattern",
         gemma.put(".attention.sliding_window_pattern", ARR, (BOOL, [1]))),
        ("pattern_other", ".attention.sliding_window_pattern", gemma.put(".attention.sliding_window_pattern", U32, 2))])
    for name, text in HOSTILE.items():
        kind, x = KIND.get(name, (STR, text))
        yield "template_" + name, "chat", "template", {"template_%s.gguf" % name: spm.put("tokenizer.chat_template", kind, x).bytes()}
    big = struct.pack("<f", 3e38)
    over = spm
    for n, (shape, kind, data) in spm.tensor.items():
        over = over.weight(n, shape, kind, big * (len(data) // 4))
    yield "overflow", "numeric", "", {"overflow.gguf": over.bytes()}


# ---- good ---------------------------------------------------------------------------------------------------

EVERY = {"x.%d" % k: (k, 1) for k in FIXED}
EVERY.update({"x.a%d" % k: (ARR, (k, [1, 0, 1])) for k in FIXED})
EVERY.update({"x.text": (STR, "\x1b[31m\xe9\u202e\0"), "x.texts": (ARR, (STR, ["", "a", "\x07"])), "x.none": (ARR, (STR, [])),
              "x.nested": (ARR, (ARR, [(U8, [1]), (STR, ["x"]), (ARR, [])])), "x.nan": (F64, float("nan")),
              "a key with spaces": (U8, 1), "llama.unheard_of": (U32, 5), "tokenizer.ggml.padding_token_id": (U32, 99999999),
              "tokenizer.ggml.eot_token_id": (STR, "none"), "general.file_type": (STR, "mostly harmless")})


def split_up(m, n=3):
    names = list(m.tensor)
    out = {}
    for i in range(n):
        keys = {"split.no": (U16, i), "split.count": (U16, n), "split.tensors.count": (I32, len(names))}
        part = Model({**(m.meta if i == 0 else {}), **keys}, {k: m.tensor[k] for k in names[i::n]})
        out["%05d-of-%05d" % (i + 1, n)] = part.bytes()
    return out


def shuffled(m, seed):
    rng = random.Random(seed)
    keys, names, data = list(m.meta), list(m.tensor), list(m.tensor)
    for x in (keys, names, data):
        rng.shuffle(x)
    return Model({k: m.meta[k] for k in keys}, m.tensor).bytes(order=names, data_order=data)


def retyped(m, kind):
    """All u32 keys as another type of integer, where they fit."""
    out = m
    for k, (old, x) in m.meta.items():
        if old == U32 and x <= (127 if kind == I8 else 255):
            out = out.put(k, kind, x)
    return out


def same_bits():
    """(family, name, bytes or {part: bytes}): each computes the bits of its family's plain file."""
    seeds = {"bpe": seed_bpe(), "spm": seed_spm()}
    seeds.update({a: tiny(a) for a in ("llama", "qwen3", "gemma3")})
    for family, m in seeds.items():
        yield family, "plain", m.bytes()
        yield family, "shuffled", shuffled(m, 5)
        yield family, "unknown_keys", Model({**EVERY, **m.meta}, m.tensor).bytes()
        yield family, "parts", split_up(m)
    for family in ("bpe", "spm"):
        m = seeds[family]
        names = list(m.tensor)
        for a in (8, 64, 4096, 65536):
            yield family, "align_%d" % a, m.put("general.alignment", U32, a).bytes(align=a)
        yield family, "version_2", m.bytes(version=2)
        yield family, "trailing", m.bytes(tail=b"signature\x00" * 50)
        yield family, "gaps", m.bytes(gap=3)
        yield family, "backwards", m.bytes(order=names[::-1])
        yield family, "data_backwards", m.bytes(data_order=names[::-1])
        yield family, "four_dimensions", m.bytes(n_dim=4)
        yield family, "together_again", m.put("split.count", U16, 0).put("split.no", U16, 0).put(
            "split.tensors.count", I32, len(names)).bytes()
        for kind, what in ((U8, "u8"), (I8, "i8"), (U16, "u16"), (I16, "i16"), (I32, "i32"), (U64, "u64"), (I64, "i64")):
            yield family, "integers_" + what, retyped(m, kind).bytes()
        eps = struct.unpack("<f", struct.pack("<f", 1e-5))[0]
        yield family, "reals_f64", m.put(".attention.layer_norm_rms_epsilon", F64, eps).put(".rope.freq_base", U32, 10000).bytes()
        yield family, "optional_keys_absent", m.drop(".rope.freq_base", ".attention.value_length",
                                                     ".rope.dimension_count", "tokenizer.chat_template").bytes()
        yield family, "per_layer_arrays", m.put(".attention.head_count_kv", ARR, (U32, [1, 1])).put(
            ".feed_forward_length", ARR, (I32, [FF, FF])).put(".attention.head_count", ARR, (U8, [2, 2])).bytes()
        yield family, "extra_tensor", resized(m, "blk.0.something.weight", [7, 3]).bytes()
        yield family, "layer_more_than_said", Model(m.meta, {**m.tensor, **{
            "blk.2." + k[6:]: v for k, v in m.tensor.items() if k.startswith("blk.1.")}}).bytes()
        yield family, "scaling_none", m.put(".rope.scaling.type", STR, "none").bytes()
        yield family, "factor_1", m.put(".rope.scaling.factor", F32, 1.0).bytes()
        yield family, "kinds_u8", m.put(G + "token_type", ARR, (U8, array_of(m, "token_type")[1])).bytes()
    spm, bpe = seeds["spm"], seeds["bpe"]
    for kind, what in ((I32, "i32"), (I64, "i64"), (F64, "f64"), (I8, "i8")):
        x = array_of(spm, "scores")[1]
        yield "spm", "scores_" + what, spm.put(G + "scores", ARR, (kind, x if kind == F64 else [int(v) for v in x])).bytes()
    yield "spm", "no_kinds", spm.drop(G + "token_type").bytes()
    merges = array_of(bpe, "merges")[1]
    yield "bpe", "merges_twice", bpe.put(G + "merges", ARR, (STR, merges + merges)).bytes()
    yield "bpe", "merges_of_nothing", bpe.put(G + "merges", ARR, (STR, merges + ["", " ", "a", "zzz qqq", "\x1b \x1b", "a b c"])).bytes()
    tied = bpe.weight("output.weight", *bpe.tensor["token_embd.weight"])
    yield "tied", "plain", tied.bytes()
    yield "tied", "absent", tied.drop("output.weight").bytes()


def many_layers(n=600):
    keys = spm_keys()
    return Model({**dims(n, 4, 2, 6), **keys}, body(n, len(keys[G + "tokens"][1][1]), 6, dim=4, q=4, kv=2, ff=6))


def many_tokens(n=260000):
    keys = spm_keys(n_more=n)
    return Model({**dims(1, 4, 2, 6), **keys}, body(1, len(keys[G + "tokens"][1][1]), 7, dim=4, q=4, kv=2, ff=6))


def loads():
    """(name, what else the file can do, bytes): "run", "show"."""
    spm, bpe = seed_spm(), seed_bpe()
    yield "layers_600", "run", many_layers().bytes()
    yield "tokens_260000", "run", many_tokens().bytes()
    yield "small", "run", seed_small().bytes()
    yield "vocabulary_only", "show", Model(spm.meta, {}).bytes()
    denormal = struct.pack("<I", 1) * DIM
    yield "denormal", "run", spm.weight("blk.0.ffn_norm.weight", [DIM], T_F32, denormal).bytes()
    yield "empty_tokens", "run", texts(texts(bpe, 270, ""), 271, "").bytes()
    yield "same_tokens", "run", texts(bpe, 270, "a").bytes()
    yield "merges_in_a_circle", "run", bpe.put(G + "merges", ARR, (STR, ["a b", "ab a", "aba b", "b a", "ba b"])).bytes()
    yield "all_control", "show", bpe.put(G + "token_type", ARR, (I32, [3] * 288)).bytes()
    yield "all_user", "run", bpe.put(G + "token_type", ARR, (I32, [4] * 288)).bytes()
    yield "all_unused", "show", bpe.put(G + "token_type", ARR, (I32, [5] * 288)).bytes()
    yield "no_ids", "run", bpe.drop(G + "bos_token_id", G + "eos_token_id").bytes()
    yield "zeros", "run", Model(spm.meta, {k: (s, t, bytes(len(d))) for k, (s, t, d) in spm.tensor.items()}).bytes()
    yield "context_1", "show", spm.put(".context_length", U32, 1).bytes()
    yield "context_16m", "run", spm.put(".context_length", U32, 16777216).bytes()


# ---- kept ---------------------------------------------------------------------------------------------------

def kept():
    m = seed_small()
    n = struct.pack("<f", float("nan"))
    return {
        "E_FORMAT_heads_0": m.put(".attention.head_count", U32, 0),
        "E_FORMAT_layers_minus_1": m.put(".block_count", I32, -1),
        "E_FORMAT_layers_32767": m.put(".block_count", U32, 32767),
        "E_FORMAT_dim_text": m.put(".embedding_length", STR, "4"),
        "E_FORMAT_eps_nan": m.put(".attention.layer_norm_rms_epsilon", F32, float("nan")),
        "E_FORMAT_context_missing": m.drop(".context_length"),
        "E_FORMAT_kv_heads_3": m.put(".attention.head_count_kv", U32, 3),
        "E_UNSUPPORTED_kv_heads_differ": m.put(".attention.head_count_kv", ARR, (U32, [1, 2])),
        "E_UNSUPPORTED_rope_type": m.put(".rope.scaling.type", STR, "frobnicate"),
        "E_ARCH_format_characters": m.put("general.architecture", STR, "%s%n"),
        "E_FORMAT_norm_missing": m.drop("blk.0.attn_norm.weight"),
        "E_SHAPE_down_transposed": resized(m, "blk.0.ffn_down.weight", [4, 6]),
        "E_SHAPE_embedding_row_less": resized(m, "token_embd.weight", [4, 7]),
        "E_FORMAT_scores_short": m.put(G + "scores", ARR, (F32, [0.0] * 7)),
        "E_FORMAT_score_nan": m.put(G + "scores", ARR, (F32, [0.0] * 7 + [float("nan")])),
        "E_FORMAT_tokens_numbers": m.put(G + "tokens", ARR, (U32, [0] * 8)),
        "E_FORMAT_kind_99": m.put(G + "token_type", ARR, (I32, [2, 3, 3, 1, 1, 1, 1, 99])),
        "E_FORMAT_byte_token": m.put(G + "token_type", ARR, (I32, [2, 3, 3, 1, 1, 1, 1, 6])),
        "E_BOUNDS_bos_8": m.put(G + "bos_token_id", U32, 8),
        "E_FORMAT_weight_nan": m.weight("blk.0.ffn_up.weight", [4, 6], T_F32, m.tensor["blk.0.ffn_up.weight"][2][:-4] + n),
        "E_TEMPLATE_unknown_tag": m.put("tokenizer.chat_template", STR, "a\n\n{% frobnicate %}"),
        "E_TEMPLATE_brackets": m.put("tokenizer.chat_template", STR, "{{ " + "(" * 3000),
        "E_TEMPLATE_endless": m.put("tokenizer.chat_template", STR, "{% for i in range(10**9) %}{% endfor %}"),
        "E_TEMPLATE_number": m.put("tokenizer.chat_template", U32, 1),
        "OK_small": m,
    }


def write_all(folder):
    """Files, and what is expected of them. Good files in parts are opened by their last part."""
    def put(files):
        for file, data in files.items():
            with open(os.path.join(folder, file), "wb") as f:
                f.write(data)
        return list(files)

    index = {"bad": [], "same": [], "loads": [], "seeds": []}
    for name, stage, word, files in cases():
        index["bad"].append([name, stage, word, put(files)[0]])
    for family, name, data in same_bits():
        stem = "good_%s_%s" % (family, name)
        files = {"%s-%s.gguf" % (stem, k): d for k, d in data.items()} if isinstance(data, dict) else {stem + ".gguf": data}
        index["same"].append([family, name, put(files)[-1]])
    for name, what, data in loads():
        index["loads"].append([name, what, put({"good_%s.gguf" % name: data})[0]])
    for name, m in (("bpe", seed_bpe()), ("spm", seed_spm())):
        index["seeds"] += put({"seed_%s.gguf" % name: m.bytes()})
    with open(os.path.join(folder, "index.json"), "w") as f:
        json.dump(index, f)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        make_bad.write(["bad_model"], {k: m.bytes() for k, m in kept().items()})
        print(len(kept()), "kept in", os.path.join(HERE, "bad_model"))
    else:
        write_all(sys.argv[1])
