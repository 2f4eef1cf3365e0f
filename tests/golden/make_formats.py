#!/usr/bin/env python3
"""Makes tests/golden/formats/*.bin: rows of every format and what the gguf package decodes them to.

usage: make_formats.py         (needs numpy and the gguf package; writes beside itself)

NAME.bin    u32 bytes of the row, u32 values; the row; the values as f32.
            Random bits with finite scales. A code book is met whole: entry numbers ascend from row to row.
NAME_x.bin  the same, where the row is what the gguf package makes of the values (formats that wick encodes).
"""
import os

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "formats")
RNG = np.random.default_rng(20260105)

# Where the f16 scales of a block stand.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "IQ2_XXS": [0], "IQ2_XS": [0],
          "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "TQ1_0": [52], "TQ2_0": [64], "MXFP4": []}
# Blocks of a code book format: enough for all its entries.
BOOKS = {"IQ2_XXS": 8, "IQ2_XS": 16, "IQ2_S": 32, "IQ3_XXS": 4, "IQ3_S": 8}
ENCODED = ["MXFP4"]


def set_entries(name, b):
    n = BOOKS[name] * (32 if name.startswith("IQ2") else 64)
    entry = np.arange(n).reshape(BOOKS[name], -1)
    if name == "IQ2_XXS":
        b[:, 2:66].reshape(-1, 8, 8)[:, :, :4] = entry.reshape(-1, 8, 4)
    elif name == "IQ2_XS":
        b[:, 2:66:2] = entry & 255
        b[:, 3:66:2] = b[:, 3:66:2] & 0xFE | entry >> 8
    else:
        b[:, 2:2 + entry.shape[1]] = entry & 255
        if name == "IQ2_S":
            b[:, 66:74] = (entry.reshape(-1, 8, 4) >> 8 << [0, 2, 4, 6]).sum(-1)
        if name == "IQ3_S":
            b[:, 66:74] = (entry.reshape(-1, 8, 8) >> 8 << np.arange(8)).sum(-1)


def rows(name, block, size):
    n = BOOKS.get(name, 2 if block == 256 else 6)
    b = RNG.integers(0, 256, (n, size), dtype=np.uint8)
    if name in BOOKS:
        set_entries(name, b)
    for at in SCALES[name]:
        d = (RNG.standard_normal(n) * 0.01).astype(np.float16)
        d[-1] = np.float16(6e-8 * 37)  # denormal
        b[:, at:at + 2] = d.view(np.uint8).reshape(n, 2)
    if name == "MXFP4":
        b[:, 0] = [0, 1, 2, 120, 127, 252]
        b[:, 1:17] = np.roll(np.arange(16) * 17, 5)[None, :] ^ np.arange(n, dtype=np.uint8)[:, None]
    return b


def save(name, data, values):
    data, values = data.tobytes(), np.ascontiguousarray(values, dtype="<f4").ravel()
    with open(os.path.join(HERE, name.lower() + ".bin"), "wb") as f:
        f.write(np.array([len(data), values.size], dtype="<u4").tobytes() + data + values.tobytes())


def main():
    os.makedirs(HERE, exist_ok=True)
    for name in ["F32", "F16", "BF16"]:
        x = RNG.standard_normal(64).astype(np.float32)
        q = GGMLQuantizationType[name]
        data = quants.quantize(x, q)
        save(name, data, quants.dequantize(data, q))
    for name in SCALES:
        q = GGMLQuantizationType[name]
        b = rows(name, *GGML_QUANT_SIZES[q])
        save(name, b, quants.dequantize(b.reshape(1, -1), q))
    for name in ENCODED:
        x = (RNG.standard_normal((16, 32)) * np.exp2(RNG.integers(-30, 30, (16, 1)))).astype(np.float32)
        x[3], x[4] = 0, x[4] * np.float32(0.5)
        x[5] = np.linspace(-8, 7.5, 32)  # half way between codes
        x = x.reshape(1, -1)
        save(name + "_x", quants.quantize(x, GGMLQuantizationType[name]), x)


if __name__ == "__main__":
    main()
