#!/usr/bin/env python3
"""Makes the tiny random models of tests/golden/tiny and what they must compute.

    python3 tests/golden/make.py                    all of them (needs torch, transformers, gguf, numpy)
    python3 tests/golden/make.py --arch qwen3       one
    python3 tests/golden/make.py --story-in DIR --story-out FILE.gguf
                                                    a Hugging Face llama folder as GGUF F32 (not kept in the tree)

For each architecture:
    <arch>.gguf         F32 weights, a byte-level BPE of 288 tokens, written as the public converters write it:
                        llama with the rows of q and k in neighbour order and llama3 scaling as rope_freqs,
                        gemma3 with norms as w (not w - 1) and linear scaling on its global layers
    <arch>.ids.txt      60 prompt ids, then a line of 20 ids that greedy decoding adds
    <arch>.logits.bin   f32, little endian: the logits at positions 0, 4, 8 ... 56 of the prompt
Weights and ids come from a counter-based generator with a seed per model, so a rerun gives the same files.
The logits are those of transformers in double, eager attention."""
import argparse
import hashlib
import json
import math
import os

import gguf
import numpy as np
import torch
from transformers import (Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
N_VOCAB, N_PROMPT, N_GREEDY, EVERY, N_CTX = 288, 60, 20, 4, 128
STORY_SHA = "b9636e136bd851789c32055b6722748cf7e27f8eeb6ff6517fe3213b5278b9c8"
COMMON = dict(vocab_size=N_VOCAB, max_position_embeddings=N_CTX, bos_token_id=0, eos_token_id=1, pad_token_id=None,
              attention_dropout=0.0, attn_implementation="eager")
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)


def llama():
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        rms_norm_eps=1e-5, rope_parameters=dict(LLAMA3), tie_word_embeddings=False, **COMMON))


def qwen2():
    return Qwen2ForCausalLM(Qwen2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        rms_norm_eps=1e-6, rope_parameters=dict(rope_type="default", rope_theta=1e6), tie_word_embeddings=True, **COMMON))


def qwen3():
    return Qwen3ForCausalLM(Qwen3Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        intermediate_size=64, rms_norm_eps=1e-6, rope_parameters=dict(rope_type="default", rope_theta=1e6),
        tie_word_embeddings=True, **COMMON))


def gemma3():
    return Gemma3ForCausalLM(Gemma3TextConfig(
        hidden_size=32, num_hidden_layers=7, num_attention_heads=4, num_key_value_heads=1, head_dim=16,
        intermediate_size=64, rms_norm_eps=1e-6, sliding_window=16, query_pre_attn_scalar=20,
        final_logit_softcapping=5.0, attn_logit_softcapping=None, tie_word_embeddings=True,
        rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=10000.0),
                             full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0)), **COMMON))


ARCHS = dict(llama=(llama, 11), qwen2=(qwen2, 44), qwen3=(qwen3, 22), gemma3=(gemma3, 33))


def fill(model, rng):
    """Weights large enough that layers, heads and positions all matter to the logits."""
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "norm" in name:
                centre = 0.0 if model.config.model_type.startswith("gemma") else 1.0
                w = centre + 0.25 * rng.standard_normal(p.shape)
            elif name.endswith("bias"):
                w = 0.5 * rng.standard_normal(p.shape)
            elif "embed" in name:
                w = rng.standard_normal(p.shape) * (0.3 if model.config.tie_word_embeddings else 1.0)
            else:
                w = rng.standard_normal(p.shape) * 1.6 / math.sqrt(p.shape[1])
            p.copy_(torch.from_numpy(w.astype(np.float32)))


# ---- the tokenizer ------------------------------------------------------------------------------------------


def byte_letters():
    """GPT-2's printable letter for each byte."""
    own = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters, extra = {}, 0
    for b in range(256):
        letters[b] = chr(b) if b in own else chr(256 + extra)
        extra += b not in own
    return letters


def vocabulary():
    g = "\u0120"  # the letter of a space
    merges = [(g, "t"), ("h", "e"), (g, "a"), ("i", "n"), ("r", "e"), ("o", "n"), (g + "t", "he"), ("e", "r"), (g, "s"),
              ("a", "t"), (g, "w"), ("o", "r"), ("n", "d"), (g, "o"), ("e", "n"), (g, "c"), ("i", "t"), ("i", "s"),
              (g, "b"), ("e", "s"), ("a", "l"), ("in", "g"), (g + "o", "f"), (g + "a", "nd"), ("o", "u"), ("l", "l"),
              ("a", "r"), (g, "h"), (g + "w", "or"), (g + "wor", "ld")]
    tokens = ["<|start|>", "<|end|>"] + [byte_letters()[b] for b in range(256)] + [a + b for a, b in merges]
    assert len(tokens) == N_VOCAB == len(set(tokens))
    return tokens, [3, 3] + [1] * (N_VOCAB - 2), [a + " " + b for a, b in merges]


def add_bpe(w):
    tokens, types, merges = vocabulary()
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    w.add_add_bos_token(False)


# ---- GGUF ---------------------------------------------------------------------------------------------------

LAYER_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm"}
GEMMA_NAMES = dict(LAYER_NAMES, post_attention_layernorm="post_attention_norm", pre_feedforward_layernorm="ffn_norm",
                   post_feedforward_layernorm="post_ffw_norm")
TOP_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}


def gguf_name(name, arch):
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return "blk.%s.%s.%s" % (layer, (GEMMA_NAMES if arch == "gemma3" else LAYER_NAMES)[part], kind)


def rotate(w, n_head):
    """Halves -> neighbours: the order in which GGUF keeps q and k of llama."""
    return w.reshape(n_head, 2, w.shape[0] // n_head // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def add_tensors(w, model, arch, tied):
    c = model.config
    for name, p in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        x = p.float().numpy()
        if arch == "llama" and name.endswith("q_proj.weight"):
            x = rotate(x, c.num_attention_heads)
        if arch == "llama" and name.endswith("k_proj.weight"):
            x = rotate(x, c.num_key_value_heads)
        if arch == "gemma3" and name.endswith("norm.weight"):
            x = x + np.float32(1)
        w.add_tensor(gguf_name(name, arch), np.ascontiguousarray(x, dtype=np.float32))


def llama3_factors(c, head_dim):
    r, out = c.rope_parameters, []
    old, low, high = r["original_max_position_embeddings"], r["low_freq_factor"], r["high_freq_factor"]
    for i in range(head_dim // 2):
        wave = 2 * math.pi * r["rope_theta"] ** (2 * i / head_dim)
        if wave < old / high:
            out.append(1.0)
        elif wave > old / low:
            out.append(r["factor"])
        else:
            smooth = (old / wave - low) / (high - low)
            out.append(1 / ((1 - smooth) / r["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def add_dims(w, c, arch):
    w.add_block_count(c.num_hidden_layers)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_vocab_size(c.vocab_size)
    r = c.rope_parameters
    w.add_rope_freq_base(r["full_attention"]["rope_theta"] if arch == "gemma3" else r["rope_theta"])
    if arch in ("llama", "qwen2"):
        w.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
    else:
        w.add_key_length(c.head_dim)
        w.add_value_length(c.head_dim)
    if arch == "gemma3":
        w.add_sliding_window(c.sliding_window)
        w.add_final_logit_softcapping(c.final_logit_softcapping)
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(r["full_attention"]["factor"])
        w.add_float32("gemma3.attention.scale", c.query_pre_attn_scalar ** -0.5)


def write(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_model(path, model, arch):
    w = gguf.GGUFWriter(path, arch)
    add_dims(w, model.config, arch)
    add_bpe(w)
    if arch == "llama":
        w.add_tensor("rope_freqs.weight", llama3_factors(model.config, 16))
    add_tensors(w, model, arch, model.config.tie_word_embeddings)
    write(w)


# ---- goldens ------------------------------------------------------------------------------------------------


def greedy(model, ids, n):
    """Ids that follow, and the smallest lead of a winner: a thin one would make the golden a matter of rounding."""
    ids, lead = list(ids), math.inf
    for _ in range(n):
        row = model(torch.tensor([ids])).logits[0, -1]
        top = torch.topk(row, 2)
        lead = min(lead, float(top.values[0] - top.values[1]))
        ids.append(int(top.indices[0]))
    return ids[-n:], lead


def make(arch):
    build, seed = ARCHS[arch]
    rng = np.random.Generator(np.random.Philox(seed))
    model = build().eval()
    fill(model, rng)
    base = os.path.join(HERE, "tiny", arch)
    write_model(base + ".gguf", model, arch)
    model = model.double()
    prompt = [int(x) for x in rng.integers(0, N_VOCAB, N_PROMPT)]
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
        more, lead = greedy(model, prompt, N_GREEDY)
    assert lead > 1e-3, "choose another seed: the greedy path is a near tie (%g)" % lead
    logits[::EVERY].float().numpy().astype("<f4").tofile(base + ".logits.bin")
    with open(base + ".ids.txt", "w") as f:
        f.write(" ".join(map(str, prompt)) + "\n" + " ".join(map(str, more)) + "\n")
    print("%s: %d bytes, logits std %.3f max %.3f, smallest greedy lead %.4f" % (
        arch, os.path.getsize(base + ".gguf"), float(logits.std()), float(logits.abs().max()), lead))


# ---- a real model -------------------------------------------------------------------------------------------


def add_story_tokens(w, folder):
    """A BPE over characters with byte fallback is what GGUF calls llama: the rank of a merge becomes a score."""
    t = json.load(open(os.path.join(folder, "tokenizer.json"), encoding="utf-8"))
    vocab = t["model"]["vocab"]
    special = {a["content"] for a in t["added_tokens"]}
    score = {}
    for rank, m in enumerate(t["model"]["merges"]):
        score.setdefault("".join(m if isinstance(m, list) else m.split(" ")), -float(rank + 1))
    tokens = sorted(vocab, key=vocab.get)
    kind = [2 if x == "<unk>" else 3 if x in special else 6 if x.startswith("<0x") and len(x) == 6 else 1 for x in tokens]
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores([score.get(x, -1e6) for x in tokens])
    w.add_token_types(kind)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)


def make_story(folder, out):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    prompt = [1, 80, 147, 201, 282, 57]
    with torch.no_grad():
        more, lead = greedy(model.double(), prompt, 95)
    digest = hashlib.sha256(" ".join(map(str, prompt + more)).encode()).hexdigest()
    print("greedy ids: sha256 %s (%s), smallest lead %.4f" % (digest, "as known" if digest == STORY_SHA else "OTHER", lead))
    print(" ".join(map(str, prompt + more)))
    model = model.float()
    w = gguf.GGUFWriter(out, "llama")
    add_dims(w, model.config, "llama")
    add_story_tokens(w, folder)
    add_tensors(w, model, "llama", True)
    write(w)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--arch", choices=sorted(ARCHS))
    p.add_argument("--story-in")
    p.add_argument("--story-out")
    a = p.parse_args()
    torch.set_num_threads(1)
    if a.story_out:
        make_story(a.story_in, a.story_out)
        return
    for arch in [a.arch] if a.arch else ARCHS:
        make(arch)


if __name__ == "__main__":
    main()
