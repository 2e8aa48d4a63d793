"""Terms of audit rows, and bitmaps of the rows of one block that have a term.

What belongs here: numbers and bits. What does not: what a row's terms mean (`broker.domain.searching`), where they are
kept (`broker.store.search_index`).

The record is cut into blocks of `BLOCK` rows. A term is the exact value of a field, or, for texts, one of `GRAMS`
buckets of runs of three letters: what the buckets find has still to be compared, and however odd texts are, a block has
no more terms of texts than that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from zlib import crc32

from broker.domain.searching import grams

BLOCK = 4096
"""Rows that are indexed together."""

GRAMS = 4096
"""Buckets of runs of letters."""

_BYTES = BLOCK // 8
_WORDS = struct.Struct(f"<{BLOCK // 64}Q")
_AS_OFFSETS = BLOCK // 16 - 1
"""So many offsets are shorter than the bitmap."""


def block_of(seq: int) -> int:
    """The block in which a row is."""
    return (seq - 1) // BLOCK


def first_of(block: int) -> int:
    """The number of the first row of a block."""
    return block * BLOCK + 1


def value_term(field: str, value: str) -> int:
    """The term of rows whose `field` has this value."""
    digest = blake2b(f"{field}\0{value}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 2 | 1 << 62  # beyond the buckets, within what a column holds


def text_terms(folded: str) -> set[int]:
    """The terms that a row has if one of its texts contains `folded`; none when it is too short for that."""
    return {crc32(gram.encode(errors="surrogatepass")) % GRAMS for gram in grams(folded)}


def bitmap(offsets: Iterable[int]) -> int:
    """The bitmap of these rows: bit 0 is the block's first."""
    found = bytearray(_BYTES)
    for offset in offsets:
        found[offset >> 3] |= 1 << (offset & 7)
    return int.from_bytes(found, "little")


def offsets(bits: int) -> Iterator[int]:
    """The rows that are in a bitmap, ascending."""
    for place, word in enumerate(_WORDS.unpack(bits.to_bytes(_BYTES, "little"))):
        left = word
        while left:
            lowest = left & -left
            yield place * 64 + lowest.bit_length() - 1
            left ^= lowest


def packed(bits: int) -> bytes:
    """A bitmap as it is kept: the offsets of its rows when they are few, else the bits."""
    if bits.bit_count() > _AS_OFFSETS:
        return bits.to_bytes(_BYTES, "little")
    return struct.pack(f"<{bits.bit_count()}H", *offsets(bits))


def unpacked(kept: bytes) -> int:
    """The bitmap that `packed` made `kept` of."""
    if len(kept) == _BYTES:
        return int.from_bytes(kept, "little")
    return bitmap(struct.unpack(f"<{len(kept) // 2}H", kept))
