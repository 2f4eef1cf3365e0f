#!/usr/bin/env python3
"""Writes the fixtures of split files: tests/golden/split/NAME-00001-of-00003.gguf ... Sets whose name begins with
"good" load whole from any part; E_<CODE>_<what> is refused with that code when its first part is opened.

    python3 tests/golden/make_split.py      (standard library only; the output is the same every time)"""
import os
import struct

from make_bad import ARCH, HERE, I32, T_F32, TOKENS, U16, U32, U64, gguf, info, meta, write

NAMES = ["token_embd.weight", "blk.0.a", "blk.0.b", "blk.1.a", "output_norm.weight"]
DEAL = [[0, 1], [2, 3], [4]]  # which tensors each part holds


def keys(no, count, total, kinds=(U16, U16, I32)):
    return [meta("split.no", kinds[0], no), meta("split.count", kinds[1], count),
            meta("split.tensors.count", kinds[2], total)]


def part(no, count=3, total=5, deal=DEAL[0], names=NAMES, first=None, extra=(), own=None, align=32):
    """Tensor i is eight floats of value i."""
    metas = [ARCH, TOKENS] if (no == 0 if first is None else first) else []
    metas = metas + list(extra) + (keys(no, count, total) if own is None else own)
    step = max(align, 32)
    data = b"".join(struct.pack("<8f", *[float(i)] * 8).ljust(step, b"\0") for i in deal)
    return gguf(metas, [info(names[i], [8], T_F32, step * k) for k, i in enumerate(deal)], data, align=align)


def parts(**change):
    """The three plain parts, some replaced: part1=None leaves a file out."""
    out = [part(0), part(1, deal=DEAL[1]), part(2, deal=DEAL[2])]
    for name, data in change.items():
        out[int(name[4:]) - 1] = data
    return out


RENAMED = NAMES[:4] + ["blk.0.b"]
SETS = {
    "good_plain": parts(),
    "good_kinds": [part(i, deal=DEAL[i], own=keys(i, 3, 5, (U64, I32, U32))) for i in range(3)],
    "good_no_tensors_first": [part(0, deal=[]), part(1, deal=[0, 1, 2]), part(2, deal=[3, 4])],
    "good_alignments": parts(part2=part(1, deal=DEAL[1], align=64, extra=[meta("general.alignment", U32, 64)])),
    "good_metadata_everywhere": [part(i, deal=DEAL[i], first=True) for i in range(3)],
    "good_one": [part(0, count=1, deal=[0, 1, 2, 3, 4])],
    "good_later_key": [part(0, count=2), part(1, count=2, deal=[2, 3, 4], extra=[meta("general.note", U32, 1)])],
    "E_IO_no_part_2": parts(part2=None),
    "E_IO_no_part_3": parts(part3=None),
    "E_FORMAT_no_twice": parts(part2=part(0, deal=DEAL[1])),
    "E_FORMAT_no_swapped": [part(0), part(2, deal=DEAL[1]), part(1, deal=DEAL[2])],
    "E_FORMAT_first_no_1": parts(part1=part(1, first=True)),
    "E_FORMAT_no_equals_count": parts(part3=part(3, deal=DEAL[2])),
    "E_FORMAT_no_huge": parts(part1=part(0, own=keys(2**63, 3, 5, (U64, U16, I32)))),
    "E_FORMAT_no_missing": parts(part1=part(0, own=keys(0, 3, 5)[1:])),
    "E_FORMAT_count_4": parts(part2=part(1, count=4, deal=DEAL[1])),
    "E_FORMAT_count_all_4": [part(i, count=4, deal=DEAL[i]) for i in range(3)],
    "E_FORMAT_count_absent": parts(part2=part(1, deal=DEAL[1], own=[])),
    "E_FORMAT_count_0": parts(part3=part(2, count=0, deal=DEAL[2])),
    "E_FORMAT_count_65536": parts(part1=part(0, own=keys(0, 65536, 5, (U16, U32, I32)))),
    "E_FORMAT_total_6": [part(i, total=6, deal=DEAL[i]) for i in range(3)],
    "E_FORMAT_total_4": [part(i, total=4, deal=DEAL[i]) for i in range(3)],
    "E_FORMAT_total_differs": parts(part3=part(2, total=6, deal=DEAL[2])),
    "E_FORMAT_total_negative": parts(part1=part(0, own=keys(0, 3, -1))),
    "E_FORMAT_total_missing": parts(part2=part(1, deal=DEAL[1], own=keys(1, 3, 5)[:2])),
    "E_FORMAT_tensor_twice": parts(part3=part(2, deal=DEAL[2], names=RENAMED)),
    "E_FORMAT_part_2_cut": parts(part2=part(1, deal=DEAL[1])[:60]),
    "E_FORMAT_part_3_text": parts(part3=b"Not found\n" * 20),
    "E_BOUNDS_part_2_data": parts(part2=part(1, deal=DEAL[1])[:-8]),
    "E_FORMAT_one_total_9": [part(0, count=1, total=9, deal=[0, 1, 2, 3, 4])],
}

if __name__ == "__main__":
    files = {"%s-%05d-of-%05d" % (name, i + 1, len(p)): data for name, p in SETS.items()
             for i, data in enumerate(p) if data is not None}
    files["good_again_together"] = gguf([ARCH, TOKENS] + keys(0, 0, 5), [info(n, [8], T_F32, 32 * i) for i, n in
                                        enumerate(NAMES)], struct.pack("<40f", *[i // 8 for i in range(40)]))
    files["E_FORMAT_renamed"] = part(0)
    files["E_FORMAT_four_digits-0001-of-0003"] = part(0)
    files["E_FORMAT_other_name-00002-of-00003"] = part(0)
    write(["split"], files)
    print(len(SETS), "sets,", len(files), "files, in", os.path.join(HERE, "split"))
