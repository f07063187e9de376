"""From the lines of an uploaded file to records: Segment's bulk form of the Object API.

Promised: a line that breaks the rules is set aside with its reason and costs no other line anything. The same line of the same
part of the same sync always gets the same message id, so whoever reads a file twice stores it once. A pack is bounded, and so
is what is in memory, however long a line claims to be. Nothing here touches disk, network or clock.

Rules: a line is ``{"id": …, "collection": …, "properties": {…}}``, with the rules that :mod:`.objects` has for each;
blank lines count as lines and hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from segment_do.errors import InvalidRequest, MalformedBody, TooLarge
from segment_do.events.intake import Caller
from segment_do.events.objects import MAX_OBJECT_BYTES, object_record
from segment_do.events.record import OBJECT, REJECTED, Record, encode_record
from segment_do.events.repair import repair_text

__all__ = ["MAX_LINE_BYTES", "MOST_REJECTED", "Part", "Rows", "lines_of", "rest_rejected", "rows_of"]

MAX_LINE_BYTES: Final = 2 * MAX_OBJECT_BYTES
"""A longer line is not read: blanks and escapes may take some room, but not as much as an object itself."""

MOST_REJECTED: Final = 10_000
"""Lines of one sync that are set aside one by one. Beyond them they are counted, and told in one record at the end: a file of
nothing but line ends and rubbish must not grow a hundredfold on its way."""

_PACK_BYTES: Final = 256 * 1024  # at which a pack is closed; with the object that reached it, it has at most 656 KB
_LINES_AT_ONCE: Final = 20_000  # read without a word to whoever asked, where they make no pack
_KEPT_OF_REJECTED: Final = 32_768


class _Line(msgspec.Struct, gc=False):
    collection: Any = None


_decode_line: Final[Callable[[Any], _Line]] = msgspec.json.Decoder(_Line).decode
_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Part(NamedTuple):
    """Which file it is: ``number`` counts the parts of a sync from 1; ``received_at`` is when the sync was finished, µs."""

    sync_id: str
    number: int
    source_id: str
    received_at: int


class Rows(NamedTuple):
    """Some lines as records: ``pack`` holds ``records`` of them, perhaps none. ``line`` is the last one read, ``objects`` of the
    lines were objects, and ``rejected`` broke a rule, of which those above :data:`MOST_REJECTED` are not in the pack."""

    pack: bytes
    records: int
    objects: int
    rejected: int
    line: int


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a text that comes in pieces, without their ends; of one that is too long, a byte more than is allowed."""
    rest = b""
    for piece in pieces:
        first, *others = piece.split(b"\n")
        rest = (rest + first)[: MAX_LINE_BYTES + 1]
        if others:
            yield rest
            yield from others[:-1]
            rest = others[-1]
    if rest:
        yield rest


def rows_of(lines: Iterable[bytes], part: Part, *, after: int = 0, rejected: int = 0) -> Iterator[Rows]:
    """Records of a part's lines, in their order, leaving out the first ``after``. ``rejected``: how many lines of the sync were
    before those."""
    caller = Caller(part.source_id)
    rows: list[bytes] = []
    size = objects = refused = number = told = 0
    for number, line in enumerate(lines, 1):
        if number > after and line and not line.isspace():
            try:
                row = _row(line, part, number, caller)
                objects += 1
            except InvalidRequest as error:
                refused += 1
                row = _aside(line, part, number, error) if rejected + refused <= MOST_REJECTED else b""
            if row:
                rows.append(row)
                size += len(row)
        if size >= _PACK_BYTES or number - told >= _LINES_AT_ONCE:
            yield Rows(b"".join(rows), len(rows), objects, refused, number)
            rejected += refused
            rows, size, objects, refused, told = [], 0, 0, 0, number
    if rows or refused:
        yield Rows(b"".join(rows), len(rows), objects, refused, number)


def rest_rejected(part: Part, rejected: int) -> Rows | None:
    """After the last part: the record that tells of the lines that were not set aside one by one; None where there are none."""
    if rejected <= MOST_REJECTED:
        return None
    told = {
        "code": "too_many_rejected",
        "message": f"{rejected:,} lines of sync {part.sync_id} broke a rule; the first {MOST_REJECTED:,} are kept one by one.",
        "type": OBJECT,
    }
    row = _rejected(f"rejected:{part.sync_id}:rest", part, "too_many_rejected", told)
    return Rows(row, 1, 0, 0, 0)


def _row(line: bytes, part: Part, number: int, caller: Caller) -> bytes:
    if len(line) > MAX_LINE_BYTES:
        raise TooLarge(f"The line has more than {MAX_LINE_BYTES:,} bytes.", code="line_too_long")
    line = repair_text(line)
    try:
        collection = _decode_line(line).collection
    except _UNREADABLE as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedBody(f"The line cannot be read: {reason}.", code="malformed_object") from None
    return object_record(collection, line, caller, part.received_at, lambda: f"{part.sync_id}:{part.number}:{number}")


def _aside(line: bytes, part: Part, number: int, error: InvalidRequest) -> bytes:
    message_id = f"rejected:{part.sync_id}:{part.number}:{number}"
    told = {
        "code": error.code,
        "message": f"Line {number:,} of part {part.number} of sync {part.sync_id}: {error.message}",
        "index": number - 1,
        "type": OBJECT,
        "messageId": message_id,
        "payload": line[:_KEPT_OF_REJECTED].decode("utf-8", "replace"),
    }
    return _rejected(message_id, part, error.code, told)


def _rejected(message_id: str, part: Part, code: str, told: dict[str, Any]) -> bytes:
    return encode_record(
        Record(
            message_id, REJECTED, part.source_id, None, None, code,
            part.received_at, part.received_at, None, None, None, _encode(told),
        )
    )  # fmt: skip
