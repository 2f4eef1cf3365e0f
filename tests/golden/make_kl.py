#!/usr/bin/env python3
"""Writes rows of tests/golden/kl.txt: how far llama.cpp's quantised arithmetic is from the f32 model of the same weights.

    LLAMA_CPP_LIB_PATH=DIR python3 tests/golden/make_kl.py BINDINGS TEXT NAME QUANTISED.gguf F32.gguf CHUNKS...

DIR        folder of libllama.so
BINDINGS   folder of the Python package llama_cpp (llama-cpp-python 0.3.36); only its declarations are used
F32.gguf   llama-quantize --allow-requantize QUANTISED.gguf F32.gguf F32, or what the test itself writes to its cache

The text is tokenised and cut into chunks of 256; chunks begin with BOS where the model wants one; the last 127
predictions of each chunk count: the positions of `llama-perplexity -c 256 --chunks N --kl-divergence`. That program
itself rounds the reference to 16 bits and leaves out tokens below e^-16; here every token counts, in double.
The f32 model runs with an f32 cache, the quantised one as llama.cpp does by default (f16 cache)."""
import ctypes
import sys
import types

import numpy as np

N_CTX, FIRST = 256, 128


def bindings(folder):
    package = types.ModuleType("llama_cpp")  # without its __init__, which wants more packages
    package.__path__ = [folder]
    sys.modules["llama_cpp"] = package
    import llama_cpp.llama_cpp as ll
    return ll


class Model:
    def __init__(self, ll, path, cache):
        self.ll = ll
        p = ll.llama_model_default_params()
        p.n_gpu_layers = 0
        self.model = ll.llama_model_load_from_file(path.encode(), p)
        c = ll.llama_context_default_params()
        c.n_ctx = c.n_batch = c.n_ubatch = N_CTX
        c.n_threads = c.n_threads_batch = 2
        if cache is not None:
            c.type_k = c.type_v = cache
            c.flash_attn_type = 0
        self.ctx = ll.llama_init_from_model(self.model, c)
        self.vocab = ll.llama_model_get_vocab(self.model)
        self.n_vocab = ll.llama_vocab_n_tokens(self.vocab)

    def tokens(self, text, n):
        buf = (ctypes.c_int32 * len(text))()
        got = self.ll.llama_tokenize(self.vocab, text, len(text), buf, len(buf), True, False)
        assert got >= n, f"the text has {got} tokens, wanted {n}"
        return list(buf[:n])

    def log_probs(self, chunk):
        """[127, V] log-probabilities behind positions 128 .. 254, in double."""
        ll = self.ll
        ll.llama_memory_clear(ll.llama_get_memory(self.ctx), True)
        b = ll.llama_batch_init(N_CTX, 0, 1)
        b.n_tokens = N_CTX
        for i, t in enumerate(chunk):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = t, i, 1, FIRST <= i < N_CTX - 1
            b.seq_id[i][0] = 0
        assert ll.llama_decode(self.ctx, b) == 0
        rows = []
        for i in range(FIRST, N_CTX - 1):
            x = np.ctypeslib.as_array(ll.llama_get_logits_ith(self.ctx, i), shape=(self.n_vocab,)).astype(np.float64)
            x -= x.max()
            rows.append(x - np.log(np.exp(x).sum()))
        ll.llama_batch_free(b)
        return rows


def main():
    folder, text, name, quantised, full = sys.argv[1:6]
    counts = sorted(int(n) for n in sys.argv[6:])
    ll = bindings(folder)
    ll.llama_backend_init()
    ref, model = Model(ll, full, ll.GGML_TYPE_F32), Model(ll, quantised, None)
    token = ref.tokens(open(text, "rb").read(64 * 1024 * max(1, counts[-1] // 16)), N_CTX * counts[-1])
    kl, same, nll_ref, nll = [], 0, 0.0, 0.0
    for c in range(counts[-1]):
        chunk = token[c * N_CTX:(c + 1) * N_CTX]
        if ll.llama_vocab_get_add_bos(ref.vocab):
            chunk[0] = ll.llama_vocab_bos(ref.vocab)
        want = [t for t in chunk[FIRST + 1:]]
        for a, b, t in zip(ref.log_probs(chunk), model.log_probs(chunk), want):
            kl.append(float((np.exp(a) * (a - b)).sum()))
            same += int(a.argmax() == b.argmax())
            nll_ref -= a[t]
            nll -= b[t]
        if c + 1 in counts:
            n = len(kl)
            print(f"{name:<8} {c + 1:>6} {n:>9} {np.mean(kl):.6f} {100 * same / n:.2f} {np.exp(nll_ref / n):.4f} "
                  f"{np.exp(nll / n):.4f}", flush=True)


main()
