"""TLS on the public port, with certificates made here."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest

from actors.ingress.certificates import follow_certificates, server_context
from segment_do.errors import SettingsError
from segment_do.settings import TlsSettings
from tests.actors.inprocess import path
from tests.certificates import make_certificate


async def test_the_same_door_behind_tls(tmp_path: Path) -> None:
    """Tracking and settings over HTTPS; settings fetched there say https; the plain port goes on."""
    made, key = make_certificate(tmp_path, "first", "127.0.0.1")
    async with path(tmp_path / "home", tls=TlsSettings(certificate=made, key=key, port=0)) as running:
        url = f"https://127.0.0.1:{running.replica.tls_port}"
        async with httpx.AsyncClient(base_url=url, verify=ssl.create_default_context(cafile=made)) as client:
            body = {"writeKey": "key-tom", "userId": "u", "event": "E"}
            assert (await client.post("/v1/t", json=body)).json() == {"success": True}
            told = (await client.get("/v1/projects/key-tom/settings")).json()["integrations"]["Segment.io"]
            assert (told["protocol"], told["apiHost"]) == ("https", f"{url.removeprefix('https://')}/v1")
        assert (await running.post("/v1/track", {"userId": "u", "event": "E"})).status_code == 200
        await running.logged(2)


async def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path) -> None:
    """New connections get the new one; files that do not fit leave the old one in place."""
    made, key = make_certificate(tmp_path, "first", "127.0.0.1")
    settings = TlsSettings(certificate=made, key=key, port=0)
    context = server_context(settings)
    assert context is not None
    server = await asyncio.start_server(lambda _r, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    following = asyncio.create_task(follow_certificates(context, settings, seconds=0.01))

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port))

    try:
        first = await asyncio.to_thread(shown)
        made.write_text("half of a certif")
        for _ in range(5):
            assert await asyncio.to_thread(shown) == first
        renewed, renewed_key = make_certificate(tmp_path, "second", "127.0.0.1")
        renewed.replace(made)
        renewed_key.replace(key)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(shown) == first:
                pass
        assert await asyncio.to_thread(shown) == made.read_text()
    finally:
        following.cancel()
        server.close()
        await server.wait_closed()


def test_what_does_not_fit_is_said_at_the_start(tmp_path: Path) -> None:
    """A missing file, half of a pair, a key of another certificate: a sentence that names the files."""
    made, key = make_certificate(tmp_path, "one", "127.0.0.1")
    _other, other_key = make_certificate(tmp_path, "two", "127.0.0.1")
    for settings in (
        TlsSettings(certificate=made),
        TlsSettings(certificate=made, key=tmp_path / "nothing"),
        TlsSettings(certificate=made, key=other_key),
    ):
        with pytest.raises(SettingsError):
            server_context(settings)
    assert server_context(TlsSettings()) is None
    assert server_context(TlsSettings(certificate=made, key=key)) is not None
