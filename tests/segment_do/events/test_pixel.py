"""Events in an image's address."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import MalformedBody
from segment_do.events.pixel import GIF, pixel_event

EVENT = {"writeKey": "k", "userId": "ü?>~", "event": "Email Opened", "properties": {"subject": "Hello"}}


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("escaped", [True, False])
def test_data_in_either_alphabet_padded_or_not(encode: Any, padded: bool, escaped: bool) -> None:
    """Base64 as clients write it, also where nobody escaped it for an address."""
    data = encode(json.dumps(EVENT, ensure_ascii=False).encode()).decode()
    data = data if padded else data.rstrip("=")
    query = "data=" + (quote(data, safe="") if escaped else data)
    assert json.loads(pixel_event(query.encode())) == EVENT


def test_fields_as_parameters() -> None:
    """Dots between the levels, blank values kept."""
    query = (
        b"writeKey=k&userId=u%201&event=Email+Opened&properties.subject=Hello&properties.list.id=&context.page.url=a.b"
    )
    assert json.loads(pixel_event(query)) == {
        "writeKey": "k",
        "userId": "u 1",
        "event": "Email Opened",
        "properties": {"subject": "Hello", "list": {"id": ""}},
        "context": {"page": {"url": "a.b"}},
    }


@pytest.mark.parametrize(
    "query",
    [b"data=%%%", b"data=a", b"a=1&a.b=2", b"&".join([b"a=1"] * 2000), b".".join([b"a"] * 40) + b"=1"],
)
def test_what_cannot_be_read_is_said(query: bytes) -> None:
    """A sentence, never a crash."""
    with pytest.raises(MalformedBody):
        pixel_event(query)


@given(st.binary(max_size=200))
def test_any_query_is_read_or_refused(query: bytes) -> None:
    """Whatever stands behind the question mark."""
    with contextlib.suppress(MalformedBody):
        pixel_event(query)


def test_the_image_is_one_point() -> None:
    """Its header says 1 by 1."""
    assert GIF[:10] == b"GIF89a\x01\x00\x01\x00"
