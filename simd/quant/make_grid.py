#!/usr/bin/env python3
"""Makes simd/quant/grid.c: the code books of the IQ2 and IQ3 formats, packed.

usage: make_grid.py            (needs the gguf package; writes beside itself)

A code book entry is 8 magnitudes out of 3 (IQ2: 2 bits each) or 4 out of 8 (IQ3: 4 bits each); element i of an
entry is number (entry >> bits * i) of the values. The books are part of the public definition of the formats,
read here out of the gguf package. simd/quant/iq.h turns an entry back into magnitudes.
"""
import os

from gguf import quants

BOOKS = [quants.IQ2_XXS, quants.IQ2_XS, quants.IQ2_S, quants.IQ3_XXS, quants.IQ3_S]
VALUES = {"IQ2_XXS": (8, 25, 43), "IQ2_XS": (8, 25, 43), "IQ2_S": (8, 25, 43),
          "IQ3_XXS": (4, 12, 20, 28, 36, 44, 52, 62), "IQ3_S": (1, 3, 5, 7, 9, 11, 13, 15)}
PER_LINE = 12


def packed(book):
    values = VALUES[book.__name__]
    bits = 2 if len(values) == 3 else 4
    book.init_grid()
    rows = book.grid.reshape(book.grid_shape).tolist()
    return [sum(values.index(int(v)) << bits * i for i, v in enumerate(row)) for row in rows]


def main():
    out = ["/* grid.c: code books of the IQ2 and IQ3 formats. Made by make_grid.py; do not edit. */",
           '#include "simd/quant/iq.h"']
    for book in BOOKS:
        entries = packed(book)
        out += ["", "WK_ALIGNED(64) const uint16_t wk_grid_%s[%d] = {" % (book.__name__.lower(), len(entries))]
        for i in range(0, len(entries), PER_LINE):
            out.append("    " + " ".join("0x%04x," % e for e in entries[i:i + PER_LINE]))
        out.append("};")
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "grid.c")
    with open(path, "w", encoding="ascii") as f:
        f.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
