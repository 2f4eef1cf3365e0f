#!/usr/bin/env python3
"""Writes the container-level fixtures of the GGUF reader: tests/golden/bad/*.gguf, each refused with the
code that its name begins with, and tests/golden/good/*.gguf, their neighbours, which must load.

    python3 tests/golden/make_bad.py        (standard library only; the output is the same every time)

A bad file has one fault. Most are the plain good file below with one field changed."""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FIXED = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
T_F32, T_F16, T_Q4_0, T_Q8_0, T_Q4_K = 0, 1, 2, 8, 12


def u32(x):
    return struct.pack("<I", x)


def u64(x):
    return struct.pack("<Q", x)


def s(x):
    x = x.encode() if isinstance(x, str) else x
    return u64(len(x)) + x


def value(kind, x):
    if kind == STR:
        return s(x)
    if kind == ARR:
        elem, items = x
        return u32(elem) + u64(len(items)) + b"".join(value(elem, i) for i in items)
    return struct.pack("<" + FIXED[kind], x)


def meta(key, kind, x):
    return s(key) + u32(kind) + value(kind, x)


def info(name, shape, kind, offset, n_dim=None):
    n = len(shape) if n_dim is None else n_dim
    return s(name) + u32(n) + b"".join(u64(x) for x in shape) + u32(kind) + u64(offset)


def gguf(metas, infos, data=b"", version=3, align=32, n_meta=None, n_tensor=None, magic=b"GGUF"):
    head = magic + u32(version)
    head += u64(len(infos) if n_tensor is None else n_tensor) + u64(len(metas) if n_meta is None else n_meta)
    head += b"".join(metas) + b"".join(infos)
    if data:
        head += bytes(-len(head) % align)
    return head + data


ARCH = meta("general.architecture", STR, "llama")
TOKENS = meta("tokenizer.ggml.tokens", ARR, (STR, ["<s>", "</s>", "a", "b"]))
LAYERS = meta("llama.block_count", U32, 2)
METAS = [ARCH, TOKENS, LAYERS]
INFOS = [info("token_embd.weight", [8, 4], T_F32, 0), info("output_norm.weight", [8], T_F32, 128)]
DATA = struct.pack("<40f", *range(40))
PLAIN = gguf(METAS, INFOS, DATA)


def with_meta(m):
    return gguf(METAS + [m], INFOS, DATA)


def with_align(kind, x):
    return gguf(METAS + [meta("general.alignment", kind, x)], INFOS, DATA)


def one(shape, kind, offset, n_data, n_dim=None):
    return gguf([ARCH], [info("blk.0.attn_q.weight", shape, kind, offset, n_dim)], bytes(n_data))


def two(a, b, n_data):
    return gguf([ARCH], [info("a", *a), info("b", *b)], bytes(n_data))


def raw_meta(key, kind, body):
    return with_meta(s(key) + u32(kind) + body)


def nested(depth, body=u32(U8) + u64(1) + b"\x07"):
    """Arrays in arrays, `depth` of them; body is the innermost."""
    for _ in range(depth - 1):
        body = u32(ARR) + u64(1) + body
    return body


def after(piece, keep=0):
    """The plain file cut `keep` bytes behind the first byte of piece."""
    return PLAIN[:PLAIN.index(piece) + keep]


BIG = 2**63
BAD = {
    # not this format at all
    "E_FORMAT_empty": b"",
    "E_FORMAT_magic_1_byte": b"G",
    "E_FORMAT_magic_3_bytes": b"GGU",
    "E_FORMAT_magic_other": b"\x01\x02\xfe\xff" + PLAIN[4:],
    "E_FORMAT_magic_lower": b"gguf" + b"\xff" + PLAIN[5:],
    "E_FORMAT_magic_late": b"\xff" + PLAIN,
    "E_FORMAT_foreign_zip": b"PK\x03\x04\x14\x00\x00\x00" + bytes(60),
    "E_FORMAT_foreign_pickle": b"\x80\x02}q\x00(X\x05\x00\x00\x00model" + bytes(20),
    "E_FORMAT_foreign_safetensors": u64(54) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(4),
    "E_FORMAT_foreign_html": b"\r\n  <!DOCTYPE HTML>\n<html><head><title>404</title></head></html>\n",
    "E_FORMAT_foreign_lfs_pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64
                                    + b"\nsize 98362432\n",
    "E_FORMAT_foreign_ggjt": b"tjgg" + u32(3) + bytes(60),
    "E_FORMAT_foreign_ggml": b"lmgg" + u32(32000) + bytes(60),
    "E_FORMAT_foreign_elf": b"\x7fELF\x02\x01\x01" + bytes(57),
    "E_FORMAT_foreign_gzip": b"\x1f\x8b\x08\x00" + bytes(60),
    "E_FORMAT_foreign_hdf5": b"\x89HDF\r\n\x1a\n" + bytes(56),
    "E_FORMAT_foreign_text": "Hello, I am no model. \u00e4\u00f6\u00fc\n".encode() * 4,
    "E_FORMAT_foreign_json": b'{"error": "Repository not found"}\n',
    "E_FORMAT_foreign_zeros": bytes(512),
    "E_FORMAT_foreign_escape": b"\x1b[2J\x1b[H\x07\xff" + bytes(32),
    # version, byte order
    "E_FORMAT_version_0": gguf(METAS, INFOS, DATA, version=0),
    "E_FORMAT_version_1": gguf(METAS, INFOS, DATA, version=1),
    "E_FORMAT_version_4": gguf(METAS, INFOS, DATA, version=4),
    "E_FORMAT_version_huge": gguf(METAS, INFOS, DATA, version=0xFFFFFFFF),
    "E_UNSUPPORTED_big_endian": b"GGUF" + struct.pack(">IQQ", 3, 2, 3) + PLAIN[24:],
    "E_UNSUPPORTED_big_endian_magic": b"FUGG" + struct.pack(">IQQ", 3, 2, 3) + PLAIN[24:],
    # cut at borders and beside them
    "E_FORMAT_cut_after_magic": PLAIN[:4],
    "E_FORMAT_cut_in_version": PLAIN[:7],
    "E_FORMAT_cut_after_version": PLAIN[:8],
    "E_FORMAT_cut_in_counts": PLAIN[:23],
    "E_FORMAT_cut_after_counts": PLAIN[:24],
    "E_FORMAT_cut_in_key_length": PLAIN[:31],
    "E_FORMAT_cut_in_key": after(b"general.architecture", 5),
    "E_FORMAT_cut_before_type": after(b"llama.block_count", 17),
    "E_FORMAT_cut_before_value": after(b"llama.block_count", 21),
    "E_FORMAT_cut_in_value": after(b"llama.block_count", 24),
    "E_FORMAT_cut_in_array_head": after(b"tokenizer.ggml.tokens", 21 + 4 + 8),
    "E_FORMAT_cut_in_array": after(b"</s>", 2),
    "E_FORMAT_cut_in_name": after(b"output_norm.weight", 3),
    "E_FORMAT_cut_before_dims": after(b"output_norm.weight", 18),
    "E_FORMAT_cut_in_dims": after(b"output_norm.weight", 18 + 4 + 7),
    "E_FORMAT_cut_before_offset": after(b"output_norm.weight", 18 + 4 + 8 + 4),
    "E_FORMAT_cut_in_offset": after(b"output_norm.weight", 18 + 4 + 8 + 4 + 7),
    "E_BOUNDS_cut_before_padding": after(b"output_norm.weight", 18 + 4 + 8 + 4 + 8),
    "E_BOUNDS_cut_before_data": PLAIN[:-len(DATA)],
    "E_BOUNDS_cut_last_byte": PLAIN[:-1],
    # counts that lie
    "E_FORMAT_meta_count_one_more": gguf(METAS, [], n_meta=4),
    "E_FORMAT_meta_count_2_63": gguf(METAS, INFOS, DATA, n_meta=BIG),
    "E_FORMAT_meta_count_max": gguf(METAS, INFOS, DATA, n_meta=2**64 - 1),
    "E_FORMAT_tensor_count_one_more": gguf([], INFOS, n_tensor=3),
    "E_FORMAT_tensor_count_2_63": gguf(METAS, INFOS, DATA, n_tensor=BIG),
    "E_FORMAT_tensor_count_wraps": gguf(METAS, INFOS, DATA, n_tensor=(2**64 + 48) // 24),
    "E_FORMAT_key_length_2_63": gguf([u64(BIG) + b"general.architecture" + bytes(32)], []),
    "E_FORMAT_key_length_wraps": gguf([u64(2**64 - 8) + b"general.architecture" + bytes(32)], []),
    "E_FORMAT_string_past_end": raw_meta("x", STR, u64(100000) + b"short"),
    "E_FORMAT_string_2_64": raw_meta("x", STR, u64(2**64 - 1)),
    "E_FORMAT_array_count_2_62": raw_meta("x", ARR, u32(U32) + u64(2**62) + bytes(16)),
    "E_FORMAT_array_count_bytes": raw_meta("x", ARR, u32(U8) + u64(2000)),
    "E_FORMAT_array_strings_2_61": raw_meta("x", ARR, u32(STR) + u64(2**61) + bytes(16)),
    "E_FORMAT_array_string_past_end": raw_meta("x", ARR, u32(STR) + u64(2) + s("a") + u64(5000) + b"b"),
    "E_FORMAT_array_nested_2_61": raw_meta("x", ARR, u32(ARR) + u64(2**61) + bytes(16)),
    "E_FORMAT_name_length_2_63": gguf([ARCH], [u64(BIG) + b"a" * 40]),
    # types
    "E_FORMAT_value_type_13": raw_meta("x", 13, bytes(8)),
    "E_FORMAT_value_type_max": raw_meta("x", 0xFFFFFFFF, bytes(8)),
    "E_FORMAT_array_type_13": raw_meta("x", ARR, u32(13) + u64(1) + bytes(8)),
    "E_FORMAT_nested_type_99": raw_meta("x", ARR, u32(ARR) + u64(1) + u32(99) + u64(1) + bytes(8)),
    "E_FORMAT_nested_9_deep": raw_meta("x", ARR, nested(9)),
    "E_FORMAT_nested_100_deep": raw_meta("x", ARR, nested(100)),
    "E_FORMAT_bool_2": raw_meta("x", BOOL, b"\x02"),
    "E_FORMAT_bool_array_255": raw_meta("x", ARR, u32(BOOL) + u64(3) + b"\x00\x01\xff"),
    # names
    "E_FORMAT_dup_key": with_meta(ARCH),
    "E_FORMAT_dup_key_other_type": with_meta(meta("llama.block_count", STR, "two")),
    "E_FORMAT_dup_tensor": two(([8], T_F32, 0), ([8], T_F32, 32), 64).replace(s("b"), s("a")),
    "E_FORMAT_key_empty": with_meta(meta("", U8, 1)),
    "E_FORMAT_key_nul": with_meta(meta("general.name\0x", U8, 1)),
    "E_FORMAT_key_not_utf8": with_meta(meta(b"general.\xff\xfe", U8, 1)),
    "E_FORMAT_key_escape": with_meta(meta("\x1b[31mred", U8, 1)),
    "E_FORMAT_name_empty": gguf([ARCH], [info("", [8], T_F32, 0)], bytes(32)),
    "E_FORMAT_name_nul": gguf([ARCH], [info("a\0b", [8], T_F32, 0)], bytes(32)),
    "E_FORMAT_name_overlong_utf8": gguf([ARCH], [info(b"a\xc0\x80", [8], T_F32, 0)], bytes(32)),
    # alignment
    "E_FORMAT_align_0": with_align(U32, 0),
    "E_FORMAT_align_1": with_align(U32, 1),
    "E_FORMAT_align_4": with_align(U32, 4),
    "E_FORMAT_align_33": with_align(U32, 33),
    "E_FORMAT_align_128k": with_align(U32, 128 * 1024),
    "E_FORMAT_align_2_31": with_align(U32, 2**31),
    "E_FORMAT_align_u64": with_align(U64, 32),
    "E_FORMAT_align_string": with_align(STR, "32"),
    "E_FORMAT_align_array": with_align(ARR, (U32, [32])),
    # shapes
    "E_SHAPE_no_dims": one([], T_F32, 0, 32),
    "E_SHAPE_5_dims": one([2, 2, 2, 1, 1], T_F32, 0, 32),
    "E_SHAPE_dims_2_31": one([8], T_F32, 0, 32, n_dim=2**31),
    "E_SHAPE_dim_0": one([0], T_F32, 0, 32),
    "E_SHAPE_dim_1_0": one([8, 0], T_F32, 0, 32),
    "E_SHAPE_dim_3_0": one([2, 2, 2, 0], T_F32, 0, 32),
    "E_SHAPE_row_q4_0_33": one([33], T_Q4_0, 0, 64),
    "E_SHAPE_row_q8_0_16": one([16, 2], T_Q8_0, 0, 64),
    "E_SHAPE_row_q4_k_128": one([128, 2], T_Q4_K, 0, 144),
    "E_SHAPE_row_2_31": one([2**31], T_F32, 0, 32),
    "E_BOUNDS_row_of_2_gi_less_1": one([2**31 - 1], T_F32, 0, 32),
    "E_SHAPE_dim_minus_1": one([2**64 - 1], T_F32, 0, 32),
    # types of tensors
    "E_UNSUPPORTED_type_q4_2": one([32], 4, 0, 64),
    "E_UNSUPPORTED_type_q8_1": one([32], 9, 0, 64),
    "E_UNSUPPORTED_type_i32": one([8], 26, 0, 32),
    "E_UNSUPPORTED_type_f64": one([8], 28, 0, 64),
    "E_UNSUPPORTED_type_iq1_s": one([256], 19, 0, 64),
    "E_UNSUPPORTED_type_41": one([8], 41, 0, 32),
    "E_UNSUPPORTED_type_999": one([8], 999, 0, 32),
    "E_UNSUPPORTED_type_max": one([8], 0xFFFFFFFF, 0, 32),
    # sizes and places
    "E_BOUNDS_product_2_64": one([2, 2**62], T_F32, 0, 32),
    "E_BOUNDS_product_wraps_to_small": one([8, 2**32, 2**32], T_F32, 0, 32),
    "E_BOUNDS_product_q8_0": one([32, 2**31, 2**31], T_Q8_0, 0, 64),
    "E_BOUNDS_dim_1_max": one([8, 2**64 - 1], T_F32, 0, 32),
    "E_BOUNDS_one_row_more": one([8, 2], T_F32, 0, 32),
    "E_BOUNDS_no_data": one([8], T_F32, 0, 0),
    "E_BOUNDS_offset_odd": one([8], T_F32, 1, 64),
    "E_BOUNDS_offset_4": one([8], T_F32, 4, 64),
    "E_BOUNDS_offset_at_end": one([8], T_F32, 32, 32),
    "E_BOUNDS_offset_past_end": one([8], T_F32, 4096, 32),
    "E_BOUNDS_offset_2_63": one([8], T_F32, BIG, 32),
    "E_BOUNDS_offset_wraps": one([8], T_F32, 2**64 - 32, 64),
    "E_BOUNDS_overlap_same": two(([8], T_F32, 0), ([8], T_F32, 0), 32),
    "E_BOUNDS_overlap_tail": two(([16], T_F32, 0), ([8], T_F32, 32), 64),
    "E_BOUNDS_overlap_inside": two(([8], T_F32, 32), ([32], T_F32, 0), 128),
    "E_BOUNDS_align_64_offset_32": gguf([ARCH, meta("general.alignment", U32, 64)],
                                        [info("a", [8], T_F32, 0), info("b", [8], T_F32, 32)], bytes(64), align=64),
}

EVERY = [
    meta("x.u8", U8, 255), meta("x.i8", I8, -128), meta("x.u16", U16, 65535), meta("x.i16", I16, -32768),
    meta("x.u32", U32, 2**32 - 1), meta("x.i32", I32, -2**31), meta("x.f32", F32, 0.1), meta("x.bool", BOOL, 1),
    meta("x.str", STR, 'say "hi"\n\t\\ \x1b[31m \u00e9\u202e'), meta("x.u64", U64, 2**64 - 1),
    meta("x.i64", I64, -2**63), meta("x.f64", F64, 1e-300), meta("x.bytes", STR, b"\xff\x00\xc3"),
    meta("x.nan", F32, float("nan")), meta("x.inf", F64, float("inf")), meta("x.false", BOOL, 0),
    meta("x.empty", STR, ""), meta("x.small_i64", I64, 7), meta("x.int", I32, 12), meta("x.million", F32, 1e6),
    meta("x.zero", I32, 0), meta("x.sum", F64, 0.1 + 0.2), meta("x.pi", F32, 3.14159274),
] + [meta("x.a%d" % t, ARR, (t, [1, 0, 1])) for t in FIXED] + [
    meta("x.a8", ARR, (STR, ["a", "", "\u00e9\"", b"\xff"])), meta("x.none", ARR, (U8, [])),
    meta("x.no_str", ARR, (STR, [])), meta("x.ai", ARR, (I32, [-1, 2, -2**31])),
    meta("x.au", ARR, (U64, [2**64 - 1, 5])), meta("x.af", ARR, (F32, [0.5, -2.0])),
    meta("x.long", ARR, (U32, list(range(1000)))),
]
NESTED = [
    meta("n.2", ARR, (ARR, [(U8, [1, 2]), (STR, ["a", "bc"]), (U8, [])])), s("n.8") + u32(ARR) + nested(8),
    s("n.8e") + u32(ARR) + nested(8, u32(ARR) + u64(0)),
    meta("n.empty", ARR, (ARR, [])), meta("n.mixed", ARR, (ARR, [(ARR, [(F64, [1.5])]), (ARR, []), (BOOL, [1])])),
]
SMALL = [info("blk.%d.w" % i, [1], T_F32, 8 * i) for i in range(600)]
UNI = info("w\u00e9ight", [8], T_F32, 0)


def good():
    a64 = meta("general.alignment", U32, 64)
    a4k = meta("general.alignment", U32, 4096)
    a8 = meta("general.alignment", U32, 8)
    back = [info("output_norm.weight", [8], T_F32, 128), info("token_embd.weight", [8, 4], T_F32, 0)]
    scores = [ARCH, TOKENS, meta("tokenizer.ggml.scores", ARR, (I32, [0, 0, -1, -2])),
              meta("tokenizer.ggml.token_type", ARR, (U8, [3, 3, 1, 1]))]
    quant = [info("q4_0", [64, 2], T_Q4_0, 0), info("q8_0", [32, 3], T_Q8_0, 96), info("q4_k", [256], T_Q4_K, 224),
             info("f16", [3, 1, 1, 2], T_F16, 384)]
    return {
        "plain_v3": PLAIN,
        "plain_v2": gguf(METAS, INFOS, DATA, version=2),
        "align_64": gguf(METAS + [a64], [info("a", [8], T_F32, 0), info("b", [8], T_F32, 64)], bytes(96), align=64),
        "align_4096": gguf([a4k, ARCH], [info("a", [8], T_F32, 0)], bytes(32), align=4096),
        "align_8": gguf([ARCH, a8], [info("a", [2], T_F32, 0), info("b", [1], T_F32, 8)], bytes(12), align=8),
        "trailing_bytes": PLAIN + b"signature or whatever",
        "any_order": gguf(METAS[::-1], back, DATA),
        "gaps_between": gguf([ARCH], [info("a", [1], T_F32, 96), info("b", [1], T_F32, 32)], bytes(100)),
        "every_type": gguf(EVERY, INFOS, DATA),
        "nested_arrays": gguf(NESTED, INFOS, DATA),
        "integer_scores": gguf(scores, INFOS, DATA),
        "no_tensors": gguf([ARCH, TOKENS], []),
        "no_metadata": gguf([], [info("a", [1], T_F32, 0)], bytes(4)),
        "nothing": gguf([], []),
        "quant_rows": gguf([ARCH], quant, bytes(396)),
        "tensors_600": gguf([ARCH, a8], SMALL, bytes(8 * 599 + 4), align=8),
        "names_utf8": gguf([ARCH, meta("sch\u00f6n.key", U8, 1), meta("a key with spaces ~", U8, 1)], [UNI], bytes(32)),
        "empty_strings": gguf([meta("a", STR, ""), meta("b", ARR, (STR, [""] * 20))], []),
        "names_differ_in_case": gguf([ARCH], [info("a", [8], T_F32, 0), info("A", [8], T_F32, 32)], bytes(64)),
    }


SEEDS = ["plain_v2", "plain_v3", "align_64", "any_order", "every_type", "nested_arrays", "quant_rows", "no_tensors",
         "nothing", "E_FORMAT_array_string_past_end", "E_FORMAT_nested_9_deep", "E_FORMAT_dup_tensor",
         "E_FORMAT_foreign_safetensors", "E_FORMAT_foreign_html", "E_SHAPE_row_q4_k_128",
         "E_BOUNDS_product_wraps_to_small", "E_BOUNDS_offset_wraps", "E_BOUNDS_overlap_inside"]


def write(folder, files):
    path = os.path.join(HERE, *folder)
    os.makedirs(path, exist_ok=True)
    for name, data in files.items():
        with open(os.path.join(path, name + ".gguf"), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    GOOD = good()
    assert len(set(BAD.values())) == len(BAD), "two bad files are the same"
    assert max(map(len, BAD.values())) < 2048
    write(["bad"], BAD)
    write(["good"], GOOD)
    write(["..", "fuzz", "corpus", "gguf"], {k: v for k, v in {**GOOD, **BAD}.items() if k in SEEDS})
    print(len(BAD), "bad,", len(GOOD), "good,", len(SEEDS), "seeds")
