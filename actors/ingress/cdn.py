"""What browsers and phones fetch before they send: an SDK's settings, its script, the script's chunks.

The addresses are those that Segment's SDKs ask of its CDN, so that a changed host name is enough (contract, sections 1.1 and 1.7).
Everything is open to pages of any origin, and nothing here is secret: a write key is in every page anyway. Settings are
made for each request; scripts are read once, kept gzipped beside, and served with a validator.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from actors.ingress.answers import Headers, Send, cors, error_body, send_answer, status_of
from actors.ingress.body import Receive
from actors.ingress.keys import Keys
from actors.ingress.tracking_app import answer_others
from segment_do.errors import NotFound, SegmentDoError
from segment_do.settings import BrowserSettings

__all__ = ["OWN_NAME", "OWN_SCRIPTS", "Cdn", "script_path", "sdk_settings"]

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SETTINGS: Final = re.compile(r"^(?:/v1)?/projects/([^/]{1,200})/settings/?$")
_SCRIPT: Final = re.compile(r"^/analytics\.js/v1/([^/]{1,200})/(?:platform/)?analytics(?:\.min)?\.js$")
_CHUNK: Final = re.compile(r"^/analytics-next/bundles/([A-Za-z0-9][A-Za-z0-9._-]{0,120}\.js)(?:\.gz)?$")
_NOWHERE: Final = re.compile(r"^/next-integrations/")
_HOST: Final = re.compile(r"^[A-Za-z0-9._\-\[\]:]{1,255}$")
OWN_SCRIPTS: Final = Path(__file__).parent.parent.parent / "segment_do" / "browser" / "dist"
OWN_NAME: Final = "analytics.min.js"
_THEIR_NAME: Final = "standalone.js"
_ID_COOKIE: Final = "ajs_anonymous_id"
_ID_SECONDS: Final = 365 * 24 * 3600
_LARGEST_SCRIPT_BYTES: Final = 4 * 2**20
_MOST_SCRIPTS: Final = 200  # of a folder of the operator's; the rest is not served


def script_path(write_key: str) -> str:
    """Where a snippet finds the script, which then knows its key and its host by that address."""
    return f"/analytics.js/v1/{write_key}/{OWN_NAME}"


def sdk_settings(
    write_key: str, host: str, protocol: str, prefix: str = "", consent_categories: Sequence[str] = ()
) -> dict[str, Any]:
    """Settings as SDKs load them: events go to ``{protocol}://{host}{prefix}/v1``, and telemetry nowhere.

    Exactly one integration, or analytics-next loads code for the others; objects where Kotlin wants objects (contract, 1.7).
    """
    consent = {"allCategories": list(consent_categories), "hasUnmappedDestinations": True}
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": f"{host}{prefix}/v1",
                "protocol": protocol,
                "unbundledIntegrations": [],
            }
        },
        "metrics": {"sampleRate": 0},
        "plan": {},
        "edgeFunction": {},
        "middlewareSettings": {},
        # No destination has categories of its own yet, so all of them get what no category withholds.
        **({"consentSettings": consent} if consent_categories else {}),
    }


class _Script(NamedTuple):
    plain: bytes
    packed: bytes
    tag: bytes


class Cdn:
    """ASGI application: its own paths, with and without the operator's prefix; everything else goes to ``elsewhere``."""

    def __init__(self, settings: BrowserSettings, keys: Keys, elsewhere: App) -> None:
        self._settings = settings
        self._keys = keys
        self._elsewhere = elsewhere
        folder = settings.script_directory
        self._main = _THEIR_NAME if folder else OWN_NAME
        self._scripts = _load(folder or OWN_SCRIPTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope.get("path", "")
        prefix = self._settings.prefix
        under_prefix = bool(prefix) and path.startswith(f"{prefix}/")
        if under_prefix:
            path = path[len(prefix) :]
            scope = {**scope, "path": path}
        own = re.match(r"^/([^/]{1,200})\.js$", path) if under_prefix else None
        if found := _SETTINGS.match(path):
            answering = self._answer_settings(scope, send, found[1], prefix if under_prefix else "")
        elif found := _SCRIPT.match(path) or own:
            answering = self._answer_script(scope, send, self._main)
        elif found := _CHUNK.match(path):
            answering = self._answer_script(scope, send, found[1])
        elif _NOWHERE.match(path):
            answering = _fail(scope, send, NotFound("This platform has no device-mode integrations."))
        else:
            await self._elsewhere(scope, receive, send)
            return
        if scope["method"] in ("GET", "HEAD"):
            await answering
        else:
            answering.close()
            await answer_others(scope, send, "GET, HEAD, OPTIONS")

    async def _answer_settings(self, scope: Scope, send: Send, write_key: str, prefix: str) -> None:
        try:
            if await self._keys.resolve(write_key) is None:
                raise NotFound("The write key is not known.", hint="`segment-do sources list` shows those there are.")
        except SegmentDoError as error:
            await _fail(scope, send, error)
            return
        protocol, host = self._reached_at(scope)
        headers = [*_open_to(scope), (b"cache-control", b"private, max-age=60")]
        told = sdk_settings(write_key, host, protocol, prefix, self._settings.consent_categories)
        await send_answer(send, 200, msgspec.json.encode(told), headers)

    async def _answer_script(self, scope: Scope, send: Send, name: str) -> None:
        script = self._scripts.get(name)
        if script is None:
            await _fail(scope, send, NotFound(f"There is no script {name}."))
            return
        asked = dict(scope["headers"])
        packed = b"gzip" in asked.get(b"accept-encoding", b"")
        headers: Headers = [
            (b"content-type", b"application/javascript; charset=utf-8"),
            # What carries somebody's id must never be kept for somebody else.
            (b"cache-control", b"private, no-cache" if self._settings.cookie_domain else b"public, max-age=300"),
            (b"etag", script.tag),
            (b"vary", b"Accept-Encoding, Origin"),
            (b"x-content-type-options", b"nosniff"),
            *(header for header in _open_to(scope) if header[0] != b"vary"),
        ]
        if self._settings.cookie_domain:
            headers.append((b"set-cookie", self._id_cookie(asked.get(b"cookie", b""), self._reached_at(scope)[0])))
        if asked.get(b"if-none-match") == script.tag:
            await _send(send, 304, headers, b"")
            return
        if packed:
            headers.append((b"content-encoding", b"gzip"))
        await _send(send, 200, headers, script.packed if packed else script.plain)

    def _id_cookie(self, cookies: bytes, protocol: str) -> bytes:
        """The anonymous id that the browser has, or a new one, for another year: a script's own cookies may last a week."""
        known = ""
        try:
            morsel = SimpleCookie(cookies.decode("latin-1")).get(_ID_COOKIE)
            known = morsel.value if morsel else ""
        except CookieError:
            pass
        if not re.fullmatch(r"[A-Za-z0-9%\"._-]{1,200}", known):
            known = str(uuid.uuid4())
        domain = self._settings.cookie_domain
        secure = "; Secure" if protocol == "https" else ""
        return f"{_ID_COOKIE}={known}; Domain={domain}; Path=/; Max-Age={_ID_SECONDS}; SameSite=Lax{secure}".encode()

    def _reached_at(self, scope: Scope) -> tuple[str, str]:
        """Protocol and host under which the client reaches us."""
        if self._settings.public_url:
            protocol, _, host = self._settings.public_url.rstrip("/").partition("://")
            return protocol, host
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        return str(scope.get("scheme", "http")), host if _HOST.match(host) else "127.0.0.1"


def _load(folder: Path) -> dict[str, _Script]:
    scripts = {}
    for path in sorted(folder.glob("*.js"))[:_MOST_SCRIPTS]:
        if path.stat().st_size <= _LARGEST_SCRIPT_BYTES:
            plain = path.read_bytes()
            tag = f'"{hashlib.blake2b(plain, digest_size=12).hexdigest()}"'.encode()
            scripts[path.name] = _Script(plain, gzip.compress(plain, 9, mtime=0), tag)
    return scripts


def _open_to(scope: Scope) -> Headers:
    origin = dict(scope["headers"]).get(b"origin")
    return cors(origin) if origin else [(b"vary", b"Origin")]


async def _fail(scope: Scope, send: Send, error: SegmentDoError) -> None:
    await send_answer(send, status_of(error), error_body(error), _open_to(scope))


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = [] if status == 304 else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})
