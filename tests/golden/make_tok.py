#!/usr/bin/env python3
"""Writes tests/golden/tok/<model>.hash: one 64-bit hash of ids a line, for random strings that
tests/unit/test_tok_models.c makes again bit for bit.

    make_tok.py smollm2 MODEL.gguf     ids of the tokenizers library, built from the file's vocabulary
    make_tok.py gemma3 MODEL.gguf      ids of sentencepiece, built from the file's vocabulary
    make_tok.py --words                tests/golden/tok/words.def: what the pre-tokenizer families cut
    make_tok.py --corpus               tests/fuzz/corpus/tok: small vocabularies
    make_tok.py --unicode              engine/text/unicode.def from the classes of the tokenizers library

Strings of even index are a user's text: no control token is recognised. Those of odd index are trusted.
Needs: gguf, tokenizers, sentencepiece, protobuf.
"""
import os
import re
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
COUNT = 10000
MASK = (1 << 64) - 1
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


class Random:
    """splitmix64, one stream per string."""

    def __init__(self, index):
        self.state = (index + 1) * 0xD1342543DE82EF95 & MASK

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        return (z ^ (z >> 31)) % n


def fragments():
    out = []
    for line in open(os.path.join(HERE, "tok", "fragments.txt"), encoding="ascii"):
        line = line.rstrip("\n")
        if not line or line.startswith("#"):
            continue
        simple = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
        out.append(re.sub(r"\\(?:u\{([0-9a-f]+)\}|(.))",
                          lambda m: chr(int(m[1], 16)) if m[1] else simple[m[2]], line))
    return out


def text_of(index, frags):
    rng = Random(index)
    want = rng.below(201)
    out = []
    while len(out) < want:
        kind = rng.below(16)
        if kind < 9:
            out += frags[rng.below(len(frags))]
        elif kind < 11:
            n = 1 + rng.below(6)
            out += [chr(0x20 + rng.below(0x5F)) for _ in range(n)]
        elif kind == 11:
            out.append(chr(0x80 + rng.below(0xD800 - 0x80)))
        elif kind == 12:
            out.append(chr(0xE000 + rng.below(0x22000)))
        elif kind == 13:
            n = 1 + rng.below(40)
            out += [" \n\ta=-.e"[rng.below(8)]] * n
        elif kind == 14:
            n = 1 + rng.below(8)
            out += [chr(0x30 + rng.below(10)) for _ in range(n)]
        else:
            out.append(chr(rng.below(32)))
    return "".join(out[:want])


def hash_of(ids):
    h = 0xCBF29CE484222325
    for i in ids:
        for b in int(i).to_bytes(4, "little"):
            h = (h ^ b) * 0x100000001B3 & MASK
    return h


def read_vocab(path):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    get = lambda k: fields["tokenizer.ggml." + k].contents() if "tokenizer.ggml." + k in fields else None
    return get("tokens"), get("token_type"), get("scores"), get("merges")


def smollm2(path):
    """One tokenizer without and one with the control tokens, as the library's own file of this model has it."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    tokens, types, _, merges = read_vocab(path)

    def make(special):
        bpe = models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges])
        tok = Tokenizer(bpe)
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
        if special:
            tok.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                    for t, k in zip(tokens, types) if k == CONTROL])
        return tok

    plain, trusted = make(False), make(True)
    return lambda text, special: (trusted if special else plain).encode(text, add_special_tokens=False).ids


def gemma3(path):
    """sentencepiece knows no control tokens in text: the text is cut at them, and user-defined tokens, first."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb

    tokens, types, scores, _ = read_vocab(path)
    model = pb.ModelProto()
    for t, k, s in zip(tokens, types, scores):
        piece = model.pieces.add()
        piece.piece, piece.score = t.replace(" ", "\u2581"), s
        piece.type = UNKNOWN if t == "<unk>" else k
    model.trainer_spec.model_type = pb.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_piece, model.trainer_spec.bos_piece = "<unk>", "<bos>"
    model.trainer_spec.eos_piece, model.trainer_spec.pad_piece = "<eos>", "<pad>"
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    spm = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    ids = {t.replace("\u2581", " "): i for i, t in enumerate(tokens) if types[i] in (CONTROL, USER, UNKNOWN)}
    cut = re.compile("|".join(re.escape(t) for t in sorted(ids, key=lambda t: -len(t.encode()))))

    def encode(text, special):
        if not special:
            return spm.encode(text)
        text, out, at = text.replace("\u2581", " "), [], 0
        for m in cut.finditer(text):
            out += spm.encode(text[at:m.start()]) + [ids[m[0]]]
            at = m.end()
        return out + spm.encode(text[at:])

    return encode


WORDS = ["Hello world", "Hello  world", " Hello", "a   b", "end  ", "   ", "x \n y", "a\n\nb", "a\r\n  b", "a \n", "\n\n  x",
         "\t\tif (x)", "it's we'll I'd you're", "IT'S WE'LL", "x'\u017fy", "'sa 'tis", "don''t", "'", "''", "1234567", "a1b22c333",
         "x 12 3", "price: $9.99!", "==>(x);", "a!!\n\nb", " !\n", "...", "a\u00a0b", "a\u3000b", "\u4f60\u597d\uff0c\u4e16\u754c", "cafe\u0301 x",
         "\u0661\u0662\u0663 \u00bd\u2167", "\U0001f468\u200d\U0001f469 ok", "_a-b_c", "\u0939\u093f\u0928\u094d\u0926\u0940", "a\u2028b", "  \u00e9", " \n\n\t x",
         "\U00011de0\U00011de1", "#include <a.h>\n\nint x = 10;\n", "", "\u1c89\u0897\U000105c0", "A\tB", "\ta", "\r", "9\n9", " 9", "  9", "$ 9"]


def c_string(text):
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in (34, 92, 63) else "\\%03o" % b for b in text.encode()) + '"'


def words_def():
    from tokenizers import Regex, pre_tokenizers as pre

    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    cl100k = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")
    split = lambda regex: pre.Split(Regex(regex), "isolated")
    shapes = [split(gpt2), pre.Sequence([pre.Digits(individual_digits=True), split(gpt2)]), split(cl100k % "{1,3}"),
              split(cl100k % "")]
    with open(os.path.join(HERE, "tok", "words.def"), "w") as f:
        f.write("/* Text and its words by gpt-2, smollm, llama-bpe, qwen2. Generated by make_tok.py --words. */\n")
        for text in WORDS:
            want = ["|".join(w for w, _ in s.pre_tokenize_str(text)) for s in shapes]
            f.write("{%s, {%s}},\n" % (c_string(text), ", ".join(c_string(w) for w in want)))


def unicode_def():
    from tokenizers import Regex, pre_tokenizers

    every = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    kind = {}
    for name, regex in (("L", r"\p{L}"), ("N", r"\p{N}"), ("S", r"\s")):
        rest = pre_tokenizers.Split(Regex(regex), "removed").pre_tokenize_str(every)
        for c in set(every) - set("".join(t for t, _ in rest)):
            kind[ord(c)] = name
    for first, last in ((0x11DE0, 0x11DE9), (0x16FF4, 0x16FF6)):
        kind.update({c: "D" for c in range(first, last + 1)})
    spans = []
    for c in sorted(c for c in kind if c >= 0x80):
        if spans and spans[-1][1] == c - 1 and spans[-1][2] == kind[c]:
            spans[-1][1] = c
        else:
            spans.append([c, c, kind[c]])
    out, line = """/* Ranges of code points from U+0080 that are letters (L), numbers (N) or white space (S), in order;
 * what is in none is something else. D: numbers of Unicode 17, which the reference tokenizers cut out as
 * digits, while their regular expressions, which know Unicode 16, do not count them as numbers.
 * Generated by tests/golden/make_tok.py --unicode. */
""", ""
    for a, b, k in spans:
        row = "X(0x%x, 0x%x, %s)" % (a, b, k)
        if len(line) + 1 + len(row) > 100:
            out, line = out + line + "\n", ""
        line += (" " if line else "") + row
    with open(os.path.join(HERE, "..", "..", "engine", "text", "unicode.def"), "w") as f:
        f.write(out + line + "\n")


class Gguf:
    """A GGUF file without tensors."""

    def __init__(self):
        self.entries = []

    @staticmethod
    def string(text):
        b = text if isinstance(text, bytes) else text.encode()
        return struct.pack("<Q", len(b)) + b

    def add(self, key, kind, value):
        self.entries.append(self.string("tokenizer." + key) + struct.pack("<I", kind) + value)

    def strings(self, key, values):
        self.add(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(self.string, values)))

    def numbers(self, key, kind, code, values):
        self.add(key, 9, struct.pack("<IQ", kind, len(values)) + struct.pack("<%d%s" % (len(values), code), *values))

    def write(self, name, text):
        path = os.path.join(HERE, "..", "fuzz", "corpus", "tok")
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, name), "wb") as f:
            f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(self.entries)) + b"".join(self.entries) + text)


def corpus():
    """The tail of each file is the text that fuzz_tok.c encodes."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    rest = [b for b in range(256) if b not in plain]
    byte_char = lambda b: chr(b) if b in plain else chr(256 + rest.index(b))
    text = "it's  abab 12345\n\n<|im_end|><tool> \u4f60\u597d e\u0301 <s>".encode() + b"\xff\xe4\xbd ab"
    for pre in ("smollm", "llama-bpe", "gpt-2"):
        g, some = Gguf(), [b for b in range(256) if pre == "gpt-2" or b in b" ab'stI1234567890\n<|im_end>tol"]
        tokens = [byte_char(b) for b in some] + ["ab", "abab", "\u0120a", "<tool>", "<tool>s", "<|im_end|>", "<unk>"]
        kinds = [NORMAL] * (len(tokens) - 4) + [USER, USER, CONTROL, UNKNOWN]
        g.add("ggml.model", 8, g.string("gpt2"))
        g.add("ggml.pre", 8, g.string(pre))
        g.strings("ggml.tokens", tokens)
        g.numbers("ggml.token_type", 5, "i", kinds)
        g.strings("ggml.merges", ["a b", "ab ab", "\u0120 a", "x y"])
        g.add("ggml.eos_token_id", 4, struct.pack("<I", len(tokens) - 2))
        g.write(pre + ".gguf", text)
    for name, with_bytes in (("spm", False), ("spm_bytes", True)):
        g, tokens, kinds = Gguf(), ["<unk>", "<s>", "</s>"], [UNKNOWN, CONTROL, CONTROL]
        if with_bytes:
            tokens, kinds = tokens + ["<0x%02X>" % b for b in range(256)], kinds + [BYTE] * 256
        words = ["\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "aba", "\u4f60", "1", "2", "12"]
        tokens, kinds = tokens + words + ["<tool>", "\n\n", "  "], kinds + [NORMAL] * len(words) + [USER] * 3
        g.add("ggml.model", 8, g.string("llama"))
        g.strings("ggml.tokens", tokens)
        g.numbers("ggml.scores", 6, "f", [-float(i * 7 % 13) for i in range(len(tokens))])
        g.numbers("ggml.token_type", 5, "i", kinds)
        g.add("ggml.bos_token_id", 4, struct.pack("<I", 1))
        g.add("ggml.add_space_prefix", 7, struct.pack("<B", not with_bytes))
        g.write(name + ".gguf", text)


def main():
    if sys.argv[1:] == ["--unicode"]:
        return unicode_def()
    if sys.argv[1:] == ["--corpus"]:
        return corpus()
    if sys.argv[1:] == ["--words"]:
        return words_def()
    if len(sys.argv) != 3 or sys.argv[1] not in ("smollm2", "gemma3"):
        sys.exit(__doc__)
    encode, frags = {"smollm2": smollm2, "gemma3": gemma3}[sys.argv[1]](sys.argv[2]), fragments()
    with open(os.path.join(HERE, "tok", sys.argv[1] + ".hash"), "w") as f:
        for i in range(COUNT):
            f.write("%016x\n" % hash_of(encode(text_of(i, frags), i % 2 == 1)))


if __name__ == "__main__":
    main()
