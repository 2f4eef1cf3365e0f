#!/usr/bin/env python3
"""Makes the gradient references of tests/golden/grad. Needs torch; double throughout, plain tensor operations.

    python3 tests/golden/make_grad.py [OUT_DIR]

For each of four tiny random models:
    <name>.gguf      F32 weights without a vocabulary of words, as a converter writes it (llama: q and k rows
                     in neighbour order)
    <name>.ref.gguf  what training it must give; no model. Every tensor here stands in the order of the TRAINER, rows of
                     q and k in halves:
        grad.T         gradient of the mean loss over all targets, T: the GGUF name of the weight
        masked.grad.T  the same where only some targets count (vectors, attn_v, token_embd)
        after10.T      the weight after ten AdamW steps (vectors, attn_k)
        lora.gradA.T lora.gradB.T   gradients of the adapter's factors, base frozen
        keys ref.*     losses, norms (f64), tokens, targets (-1: does not count)
    <name>.lora.gguf an adapter of rank 3 on seven matrices in the form that is served (llama: rows of B of q and k as the
                     base has them)

Weights: splitmix64, one stream a model seeded with its seed; tensors in ascending Hugging Face name, row by row;
u = (next >> 11) * 2^-53; matrices (2u-1)*a, norms 1 + (2u-1)*0.2, biases (2u-1)*0.1, in double, rounded to f32.
Tokens: stream seed + 1, next % 96. LoRA: stream seed + 2, layer by layer q k v o gate up down, A then B, (2u-1)*0.1."""
import math
import os
import struct
import sys

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
N_VOCAB, RANK, LORA_SCALE, N_STEP = 96, 3, 2.0, 10
MASK = (1 << 64) - 1
# What the numbers must be: loss, gradient norm, masked loss, mean of row means, LoRA loss, loss of the tenth step.
KNOWN = dict(
    llama_gqa_untied=(4.638757211947, 1.469869898907, 4.629899649365, 4.617167039634, 4.632449466271, 2.922631824919),
    qwen3_qknorm_tied=(4.665031049938, 2.254233551210, 4.690087008465, 4.660979212896, 4.701085476405, 2.704005819328),
    qwen2_bias_tied=(4.638401284154, 1.539210292802, 4.636699216841, 4.635866146585, 4.646457106085, 3.124011228599))


class Model:
    """One tiny model: its shape, and what of it is unlike llama."""

    def __init__(self, name, arch, seed, **more):
        self.name, self.arch, self.seed = name, arch, seed
        self.dim, self.ff, self.layers, self.heads, self.kv, self.hd = 32, 56, 2, 4, 2, 8
        self.eps, self.base, self.tied, self.bias, self.qk_norm = 1e-6, 10000.0, True, False, False
        self.gemma, self.window, self.cap, self.scale, self.amplitude = False, 0, 0.0, None, 0.12
        self.rows, self.row_tokens, self.counted = 3, 24, (4, 9, 24)
        self.__dict__.update(more)
        self.scale = self.scale or self.hd ** -0.5

    def is_global(self, layer):
        return not self.gemma or layer % 6 == 5

    def shapes(self):
        """Hugging Face name -> shape, of one layer and of the rest."""
        q, kv, d, out = self.heads * self.hd, self.kv * self.hd, self.dim, {}
        norms = ["input", "post_attention"] + (["pre_feedforward", "post_feedforward"] if self.gemma else [])
        for i in range(self.layers):
            p = "model.layers.%d." % i
            for n, shape in (("q", (q, d)), ("k", (kv, d)), ("v", (kv, d)), ("o", (d, q))):
                out[p + "self_attn.%s_proj.weight" % n] = shape
                if self.bias and n != "o":
                    out[p + "self_attn.%s_proj.bias" % n] = shape[:1]
                if self.qk_norm and n in "qk":
                    out[p + "self_attn.%s_norm.weight" % n] = (self.hd,)
            for n, shape in (("gate", (self.ff, d)), ("up", (self.ff, d)), ("down", (d, self.ff))):
                out[p + "mlp.%s_proj.weight" % n] = shape
            for n in norms:
                out[p + n + "_layernorm.weight"] = (d,)
        out["model.embed_tokens.weight"] = (N_VOCAB, d)
        out["model.norm.weight"] = (d,)
        if not self.tied:
            out["lm_head.weight"] = (N_VOCAB, d)
        return out


MODELS = [
    Model("llama_gqa_untied", "llama", 11, tied=False, eps=1e-5),
    Model("qwen3_qknorm_tied", "qwen3", 22, hd=16, qk_norm=True, base=1e6),
    Model("qwen2_bias_tied", "qwen2", 33, kv=1, bias=True),
    # Rows of 70 tokens: a second page of positions, and windows that leave pages out. Large weights: behind small ones
    # the norms after each half magnify every rounding (0.15: 1e-5 of a gradient in f32, 0.5: 3e-6).
    Model("gemma3_windows_cap", "gemma3", 44, dim=16, ff=24, layers=6, heads=2, kv=1, hd=16, qk_norm=True, gemma=True,
          base=1e6, window=20, cap=2.0, scale=20 ** -0.5, amplitude=0.5, rows=2, row_tokens=70, counted=(5, 40)),
]


class Stream:
    def __init__(self, seed):
        self.x = seed

    def next(self):
        self.x = (self.x + 0x9E3779B97F4A7C15) & MASK
        z = self.x
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return z ^ z >> 31

    def tensor(self, shape, a, centre=0.0):
        u = [(self.next() >> 11) * 2.0 ** -53 for _ in range(math.prod(shape))]
        x = torch.tensor([2 * v - 1 for v in u], dtype=torch.float64) * a
        return (x if centre == 0.0 else centre + x).float().double().reshape(shape)


# ---- the model -----------------------------------------------------------------------------------------------


def norm(x, w, eps):
    return x / torch.sqrt(torch.mean(x * x, dim=-1, keepdim=True) + eps) * w


def turn(x, base, factor):
    """x [tokens, heads, size]: pair (j, j + size/2) of token t turns by t * base^(-2j/size) / factor."""
    half = x.shape[-1] // 2
    f = torch.tensor([base ** (-2.0 * j / x.shape[-1]) / factor for j in range(half)], dtype=torch.float64)
    angle = torch.outer(torch.arange(x.shape[0], dtype=torch.float64), f)[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), dim=-1)


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def silu(x):
    return x / (1 + torch.exp(-x))


class Forward:
    """Logits of one row of tokens; P: parameters by Hugging Face name, lora: name -> (A, B)."""

    def __init__(self, m, P, lora=None):
        self.m, self.P, self.lora = m, P, lora or {}

    def linear(self, name, x):
        y = x @ self.P[name + ".weight"].T
        if name + ".bias" in self.P:
            y = y + self.P[name + ".bias"]
        if name in self.lora:
            a, b = self.lora[name]
            y = y + LORA_SCALE * (x @ a.T @ b.T)
        return y

    def heads(self, p, n, x, count, layer):
        m = self.m
        y = self.linear(p + "self_attn.%s_proj" % n, x).reshape(len(x), count, m.hd)
        if n == "v":
            return y
        if m.qk_norm:
            y = norm(y, self.P[p + "self_attn.%s_norm.weight" % n], m.eps)
        local = not m.is_global(layer)
        return turn(y, 10000.0 if local else m.base, 8.0 if m.gemma and not local else 1.0)

    def attention(self, p, x, layer):
        m = self.m
        q, k, v = (self.heads(p, n, x, c, layer) for n, c in (("q", m.heads), ("k", m.kv), ("v", m.kv)))
        group = m.heads // m.kv
        t = torch.arange(len(x))
        seen = t[None, :] <= t[:, None]
        if m.window and not m.is_global(layer):
            seen &= t[:, None] - t[None, :] < m.window
        out = []
        for h in range(m.heads):
            s = q[:, h] @ k[:, h // group].T * m.scale
            s = torch.where(seen, s, torch.tensor(-math.inf, dtype=torch.float64))
            e = torch.exp(s - s.max(dim=1, keepdim=True).values)
            out.append(e / e.sum(dim=1, keepdim=True) @ v[:, h // group])
        return self.linear(p + "self_attn.o_proj", torch.cat(out, dim=1))

    def layer(self, x, layer):
        m, P, p = self.m, self.P, "model.layers.%d." % layer
        y = self.attention(p, norm(x, P[p + "input_layernorm.weight"], m.eps), layer)
        if m.gemma:
            y = norm(y, P[p + "post_attention_layernorm.weight"], m.eps)
        x = x + y
        before = "pre_feedforward" if m.gemma else "post_attention"
        h = norm(x, P[p + before + "_layernorm.weight"], m.eps)
        act = (gelu_tanh if m.gemma else silu)(self.linear(p + "mlp.gate_proj", h))
        y = self.linear(p + "mlp.down_proj", act * self.linear(p + "mlp.up_proj", h))
        if m.gemma:
            y = norm(y, P[p + "post_feedforward_layernorm.weight"], m.eps)
        return x + y

    def logits(self, row):
        m, P = self.m, self.P
        x = P["model.embed_tokens.weight"][row] * (math.sqrt(m.dim) if m.gemma else 1.0)
        for i in range(m.layers):
            x = self.layer(x, i)
        head = P["model.embed_tokens.weight" if m.tied else "lm_head.weight"]
        y = norm(x, P["model.norm.weight"], m.eps) @ head.T
        return m.cap * torch.tanh(y / m.cap) if m.cap else y


def loss_sum(f, tokens, targets):
    """Summed over the counted targets, and how many they are."""
    total, counted = 0.0, 0
    for row, want in zip(tokens, targets):
        y = f.logits(row)
        y = torch.logsumexp(y, dim=1) - y[torch.arange(len(row)), want.clamp(min=0)]
        total = total + (y * (want >= 0)).sum()
        counted += int((want >= 0).sum())
    return total, counted


def mean_loss(f, tokens, targets):
    total, counted = loss_sum(f, tokens, targets)
    return total / counted


# ---- the cases -----------------------------------------------------------------------------------------------


def trainable(W):
    return {n: w.clone().requires_grad_() for n, w in W.items()}


def check_differences(m, W, grads, tokens, targets):
    """The largest difference of the gradients from central differences, three entries a tensor."""
    worst, e = 0.0, 1e-6
    P = {n: w.clone() for n, w in W.items()}
    with torch.no_grad():
        for n, p in P.items():
            flat = p.reshape(-1)
            for i in (0, len(flat) // 2, len(flat) - 1):
                old = flat[i].item()
                side = []
                for d in (e, -e):
                    flat[i] = old + d
                    side.append(mean_loss(Forward(m, P), tokens, targets).item())
                flat[i] = old
                worst = max(worst, abs((side[0] - side[1]) / (2 * e) - grads[n].reshape(-1)[i].item()))
    return worst


def norm_of(P):
    return math.sqrt(sum(float((p.grad ** 2).sum()) for p in P.values()))


def adamw(m, W, tokens, targets):
    """Ten steps: lr 3e-3, betas 0.9 and 0.95, eps 1e-8, decay 0.1 on matrices, norm clipped to 1."""
    P = trainable(W)
    moment = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in P.items()}
    losses, norms = [], []
    for t in range(1, N_STEP + 1):
        for p in P.values():
            p.grad = None
        loss = mean_loss(Forward(m, P), tokens, targets)
        loss.backward()
        losses.append(loss.item())
        norms.append(norm_of(P))
        clip = min(1.0, 1.0 / (norms[-1] + 1e-6))
        with torch.no_grad():
            for n, p in P.items():
                g, (m1, m2) = p.grad * clip, moment[n]
                if p.dim() == 2:
                    p.mul_(1 - 3e-3 * 0.1)
                m1.mul_(0.9).add_(0.1 * g)
                m2.mul_(0.95).add_(0.05 * g * g)
                p.sub_(3e-3 * (m1 / (1 - 0.9 ** t)) / (torch.sqrt(m2 / (1 - 0.95 ** t)) + 1e-8))
    return losses, norms, P


def make_factors(m, shapes):
    r, out = Stream(m.seed + 2), {}
    for i in range(m.layers):
        for n in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"):
            name = "model.layers.%d.%s_proj" % (i, n)
            rows, cols = shapes[name + ".weight"]
            a = r.tensor((RANK, cols), 0.1)
            out[name] = (a.requires_grad_(), r.tensor((rows, RANK), 0.1).requires_grad_())
    return out


def make_weights(m):
    r, W = Stream(m.seed), {}
    for n, shape in sorted(m.shapes().items()):
        if len(shape) == 2:
            W[n] = r.tensor(shape, m.amplitude)
        else:
            W[n] = r.tensor(shape, 0.1) if n.endswith("bias") else r.tensor(shape, 0.2, 1.0)
    return W


# ---- files ---------------------------------------------------------------------------------------------------

PARTS = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm"}
GEMMA_PARTS = dict(PARTS, post_attention_layernorm="post_attention_norm", pre_feedforward_layernorm="ffn_norm",
                   post_feedforward_layernorm="post_ffw_norm")


def gguf_name(m, name):
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, kind = name.rsplit(".", 1)
    if stem in top:
        return top[stem] + "." + kind
    _, _, layer, part = stem.split(".", 3)
    return "blk.%s.%s.%s" % (layer, (GEMMA_PARTS if m.gemma else PARTS)[part], kind)


def neighbours(m, x, heads):
    """Rows of each head from halves to neighbouring pairs: the order of llama's q and k in files."""
    order = [h * m.hd + half * (m.hd // 2) + j for h in range(heads) for j in range(m.hd // 2) for half in (0, 1)]
    return x[order]


def stored(m, name, x):
    if m.arch == "llama" and ".q_proj." in name:
        return neighbours(m, x, m.heads)
    return neighbours(m, x, m.kv) if m.arch == "llama" and ".k_proj." in name else x


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


U32, I32, F32, STR, ARRAY, F64 = 4, 5, 6, 8, 9, 12
PACK = {U32: "<I", I32: "<i", F32: "<f", F64: "<d"}


def value(kind, v):
    if isinstance(v, list):
        return struct.pack("<IIQ", ARRAY, kind, len(v)) + b"".join(struct.pack(PACK[kind], x) for x in v)
    return struct.pack("<I", kind) + (text(v) if kind == STR else struct.pack(PACK[kind], v))


def write(path, keys, tensors):
    data = [(n, list(x.shape), x.detach().float().contiguous().numpy().astype("<f4").tobytes()) for n, x in tensors]
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(data), len(keys)))
        for key, kind, v in keys:
            f.write(text(key) + value(kind, v))
        at = 0
        for n, shape, raw in data:
            f.write(text(n) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", d) for d in reversed(shape)))
            f.write(struct.pack("<IQ", 0, at))
            at += (len(raw) + 31) // 32 * 32
        for _, _, raw in data:
            f.write(b"\0" * (-f.tell() % 32) + raw)
        f.write(b"\0" * (-f.tell() % 32))


def model_keys(m):
    keys = [("general.architecture", STR, m.arch)]
    numbers = [("block_count", U32, m.layers), ("context_length", U32, 128), ("embedding_length", U32, m.dim),
               ("feed_forward_length", U32, m.ff), ("attention.head_count", U32, m.heads),
               ("attention.head_count_kv", U32, m.kv), ("attention.key_length", U32, m.hd),
               ("attention.value_length", U32, m.hd), ("attention.layer_norm_rms_epsilon", F32, m.eps),
               ("rope.freq_base", F32, m.base)]
    if m.gemma:
        numbers += [("attention.sliding_window", U32, m.window), ("final_logit_softcapping", F32, m.cap),
                    ("attention.scale", F32, m.scale), ("rope.scaling.type", STR, "linear"),
                    ("rope.scaling.factor", F32, 8.0)]
    return keys + [(m.arch + "." + k, kind, v) for k, kind, v in numbers]


def adapter_keys(m):
    return [("general.type", STR, "adapter"), ("general.architecture", STR, m.arch), ("adapter.type", STR, "lora"),
            ("adapter.lora.alpha", F32, LORA_SCALE * RANK)]


def adapter_tensors(m, factors):
    out = []
    for n, (a, b) in factors.items():
        t = gguf_name(m, n + ".weight")
        out += [(t + ".lora_a", a), (t + ".lora_b", stored(m, n + ".", b))]
    return out


# ---- all of it -----------------------------------------------------------------------------------------------


def make(m, folder):
    W = make_weights(m)
    r = Stream(m.seed + 1)
    x = torch.tensor([[r.next() % N_VOCAB for _ in range(m.row_tokens + 1)] for _ in range(m.rows)])
    tokens, targets = x[:, :-1], x[:, 1:].clone()
    P = trainable(W)
    loss = mean_loss(Forward(m, P), tokens, targets)
    loss.backward()
    grad_norm = norm_of(P)
    off = check_differences(m, W, {n: p.grad for n, p in P.items()}, tokens, targets)
    tensors = [("grad." + gguf_name(m, n), p.grad) for n, p in P.items()]

    masked = targets.clone()
    for row, n in enumerate(m.counted):
        masked[row, :m.row_tokens - n] = -1
    P = trainable(W)
    masked_loss = mean_loss(Forward(m, P), tokens, masked)
    masked_loss.backward()
    tensors += [("masked.grad." + gguf_name(m, n), p.grad) for n, p in P.items()
                if p.dim() == 1 or "v_proj" in n or "embed" in n]
    with torch.no_grad():
        means = sum(mean_loss(Forward(m, P), tokens[i:i + 1], masked[i:i + 1]) for i in range(m.rows)).item() / m.rows

    losses, norms, P = adamw(m, W, tokens, targets)
    tensors += [("after10." + gguf_name(m, n), p) for n, p in P.items() if p.dim() == 1 or "k_proj" in n]

    factors = make_factors(m, m.shapes())
    lora_loss = mean_loss(Forward(m, W, factors), tokens, targets)
    lora_loss.backward()
    for n, (a, b) in factors.items():
        t = gguf_name(m, n + ".weight")
        tensors += [("lora.gradA." + t, a.grad), ("lora.gradB." + t, b.grad)]

    keys = [("ref.rows", U32, m.rows), ("ref.row_tokens", U32, m.row_tokens),
            ("ref.tokens", I32, x.reshape(-1).tolist()),
            ("ref.masked.targets", I32, masked.reshape(-1).tolist()), ("ref.loss", F64, loss.item()),
            ("ref.grad_norm", F64, grad_norm), ("ref.masked.loss", F64, masked_loss.item()),
            ("ref.masked.loss_if_mean_of_means", F64, means), ("ref.adamw.losses", F64, losses),
            ("ref.adamw.norms", F64, norms), ("ref.lora.loss", F64, lora_loss.item())]
    write(os.path.join(folder, m.name + ".gguf"), model_keys(m),
          [(gguf_name(m, n), stored(m, n, w)) for n, w in W.items()])
    write(os.path.join(folder, m.name + ".lora.gguf"), adapter_keys(m), adapter_tensors(m, factors))
    write(os.path.join(folder, m.name + ".ref.gguf"), keys, tensors)
    got = (loss.item(), grad_norm, masked_loss.item(), means, lora_loss.item(), losses[-1])
    print("%-18s %d weights, differences agree to %.1e\n    " % (m.name, sum(w.numel() for w in W.values()), off),
          " ".join("%.12f" % v for v in got))
    for have, want in zip(got, KNOWN.get(m.name, ())):
        assert abs(have - want) < 1e-9, (m.name, have, want)


def main():
    torch.set_num_threads(1)
    for m in MODELS:
        make(m, sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "grad"))


if __name__ == "__main__":
    main()
