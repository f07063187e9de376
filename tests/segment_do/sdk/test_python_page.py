"""docs/python.md: each example runs as it stands, serves a request over HTTP, and its event arrives."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

from segment_do.sdk.served import TellerOptions
from tests.segment_do.sdk import test_django as pages
from tests.segment_do.sdk.platform import Platform
from tests.segment_do.sdk.serving import asgi, wsgiref

PAGE = (Path(__file__).parents[3] / "docs" / "python.md").read_text()
FASTAPI, FLASK, DJANGO, *_OTHERS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NOT_FOR_USERS = {"clock", "chance", "new_id"}


def run(code: str, monkeypatch: pytest.MonkeyPatch, name: str) -> types.ModuleType:
    """An example as a module that can be imported."""
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(code, "docs/python.md", "exec"), vars(module))
    return module


@pytest.fixture(autouse=True)
def _this_platform(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENT_DO_URL", platform.url)


def paths(platform: Platform, client: Any) -> list[str]:
    client.close(5).wait()
    return [event["properties"]["path"] for event in platform.events]


def test_fastapi(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FastAPI example."""
    shop = run(FASTAPI, monkeypatch, "shop")
    with asgi(shop.app) as http:
        assert http.get("/users/ada").json() == "Hello ada"
        assert http.get("/health").status_code == 404
    assert paths(platform, shop.analytics) == ["/users/{name}"]


def test_flask(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Flask example, with its user."""
    shop = run(FLASK, monkeypatch, "shop")
    with wsgiref(shop.app) as http:
        assert http.get("/users/ada").text == "Hello ada"
    assert paths(platform, shop.analytics) == ["/users/<name>"]
    assert platform.events[0]["userId"] == "ada"


def test_django(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Django example, named in the settings."""
    shop = run(DJANGO, monkeypatch, "shop")
    monkeypatch.setattr(settings, "MIDDLEWARE", ["shop.Served"])
    monkeypatch.setattr(settings, "ROOT_URLCONF", pages.__name__)
    with wsgiref(WSGIHandler()) as http:
        assert http.get("/users/ada").text == "hello"
    assert paths(platform, shop.Served.analytics) == ["/users/<str:name>"]


def test_every_option_is_told() -> None:
    """The table names each option that is for users, and no other."""
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert told == set(TellerOptions.__annotations__) - NOT_FOR_USERS
