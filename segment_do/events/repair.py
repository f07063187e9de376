"""Bodies that are almost JSON: what clients really send, put right without costing the events beside them.

Only bodies that the strict parser refused come here, so nothing of this is on the fast path. All of it is
linear in the body and none of it recurses, whatever the nesting.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["SplitBatch", "repair_text", "split_batch"]

_ESCAPE = re.compile(
    rb"\\(?:(?P<pair>u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|(?s:.))"
)
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\(?s:.))*+"|[\[\]{},:]')


def repair_text(body: bytes) -> bytes:
    """Lone surrogates (``\\ud83d``, a truncated emoji) and bytes that are not UTF-8 become U+FFFD.

    Pairs and escaped backslashes are left as they are; the result may still not be JSON.
    """
    if b"\\u" in body:
        body = _ESCAPE.sub(lambda found: b"\\ufffd" if found.lastgroup == "lone" else found.group(), body)
    if not body.isascii():
        body = body.decode("utf-8", "replace").encode()
    return body


class SplitBatch(NamedTuple):
    """A batch body cut at its top-level commas: the envelope with an empty batch, and each event's bytes."""

    envelope: bytes
    events: list[bytes]


def split_batch(body: bytes) -> SplitBatch | None:
    """Find the events of ``{"batch": […], …}`` by brackets and strings alone, so that each can be read by itself.

    None where the brackets do not match or there is no batch: then the body as a whole is malformed.
    """
    depth = 0
    key: bytes | None = None  # the last string at depth 1
    awaiting_value = False
    opened = -1  # where the batch's own bracket is
    closed = -1
    start = 0
    events: list[bytes] = []
    stack = bytearray()
    for token in _TOKEN.finditer(body):
        text = token.group()
        mark = text[:1]
        if mark == b'"':
            if depth == 1 and not awaiting_value:
                key = text
            continue
        if mark in (b"[", b"{"):
            if depth == 1 and mark == b"[" and key == b'"batch"' and awaiting_value and opened < 0:
                opened, start = token.start(), token.end()
            stack += mark
            depth += 1
        elif mark in (b"]", b"}"):
            if not stack or stack.pop() + 2 != mark[0]:  # [ and ], { and } are two apart in ASCII
                return None
            depth -= 1
            if depth == 1 and opened >= 0 and closed < 0 and mark == b"]":
                closed = token.start()
                last = body[start:closed].strip()
                if last or events:
                    events.append(last)
        elif mark == b":":
            awaiting_value = awaiting_value or depth == 1
        elif depth == 1:
            awaiting_value = False
        elif depth == 2 and opened >= 0 and closed < 0:
            events.append(body[start : token.start()].strip())
            start = token.end()
    if depth or closed < 0:
        return None
    return SplitBatch(body[: opened + 1] + body[closed:], events)
