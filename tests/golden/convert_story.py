#!/usr/bin/env python3
"""A Hugging Face llama folder (config.json, model.safetensors in F32) as a GGUF for test_logits. Standard library only.

usage: convert_story.py FOLDER OUT.gguf

The vocabulary is a list of names: the test feeds ids. Rows of q and k are put into neighbour order, as GGUF llama has it."""
import json
import struct
import sys

folder, out = sys.argv[1:3]
config = json.load(open(folder + "/config.json"))
raw = open(folder + "/model.safetensors", "rb").read()
head_len = struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8 : 8 + head_len])
alias = header.pop("__metadata__", {})
body = raw[8 + head_len :]
dim, n_head = config["hidden_size"], config["num_attention_heads"]
n_kv, n_layer = config["num_key_value_heads"], config["num_hidden_layers"]
hd = dim // n_head


def tensor(name):
    t = header.get(name) or header[alias[name]]
    assert t["dtype"] == "F32", name
    a, b = t["data_offsets"]
    return list(t["shape"]), body[a:b]


def neighbours(data, heads, width):
    row = width * 4
    rows = [data[i * row : (i + 1) * row] for i in range(heads * hd)]
    return b"".join(rows[h * hd + half * (hd // 2) + j] for h in range(heads) for j in range(hd // 2) for half in (0, 1))


tensors = [("token_embd.weight", *tensor("model.embed_tokens.weight")), ("output_norm.weight", *tensor("model.norm.weight"))]
if "lm_head.weight" in header and "model.embed_tokens.weight" in header:
    tensors.append(("output.weight", *tensor("lm_head.weight")))
names = [("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"), ("attn_q", "self_attn.q_proj"),
         ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"),
         ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj")]
for layer in range(n_layer):
    for ours, theirs in names:
        shape, data = tensor(f"model.layers.{layer}.{theirs}.weight")
        if ours in ("attn_q", "attn_k"):
            data = neighbours(data, n_head if ours == "attn_q" else n_kv, dim)
        tensors.append((f"blk.{layer}.{ours}.weight", shape, data))


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


U32, F32, STR, ARRAY = 4, 6, 8, 9
n_vocab = config["vocab_size"]
meta = [("general.architecture", STR, text("llama")), ("llama.block_count", U32, struct.pack("<I", n_layer)),
        ("llama.context_length", U32, struct.pack("<I", config["max_position_embeddings"])),
        ("llama.embedding_length", U32, struct.pack("<I", dim)),
        ("llama.feed_forward_length", U32, struct.pack("<I", config["intermediate_size"])),
        ("llama.attention.head_count", U32, struct.pack("<I", n_head)),
        ("llama.attention.head_count_kv", U32, struct.pack("<I", n_kv)),
        ("llama.rope.freq_base", F32, struct.pack("<f", config.get("rope_theta", 10000.0))),
        ("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", config["rms_norm_eps"])),
        ("tokenizer.ggml.model", STR, text("gpt2")), ("tokenizer.ggml.pre", STR, text("gpt-2")),
        ("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STR, n_vocab) + b"".join(text(f"t{i}") for i in range(n_vocab))),
        ("tokenizer.ggml.merges", ARRAY, struct.pack("<IQ", STR, 0))]
with open(out, "wb") as f:
    f.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)))
    for key, kind, value in meta:
        f.write(text(key) + struct.pack("<I", kind) + value)
    at = 0
    for name, shape, data in tensors:
        f.write(text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape)))
        f.write(struct.pack("<IQ", 0, at))
        at += (len(data) + 31) // 32 * 32
    f.write(b"\0" * (-f.tell() % 32))
    for _, _, data in tensors:
        f.write(data + b"\0" * (-len(data) % 32))
