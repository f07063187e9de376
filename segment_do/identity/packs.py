"""Packs as they come to a graph."""

from __future__ import annotations

import msgspec

from segment_do.errors import CorruptData
from segment_do.events.record import Record, decode_pack

__all__ = ["decode_packs"]


def decode_packs(packs: list[tuple[bytes, int]]) -> list[Record]:
    """The records of packs, each given with its count, in order.

    Raises:
        CorruptData: a pack does not hold so many.
    """
    try:
        if len(packs) == 1:
            return decode_pack(*packs[0])
        return [record for pack, count in packs for record in decode_pack(pack, count)]
    except msgspec.DecodeError as error:
        raise CorruptData(
            "A pack does not hold the records it should.", hint="This is a bug; please report it."
        ) from error
