"""TLS for the public port: certificate files of the operator's, read again when they change.

Renewed files (an ACME client writes them every few weeks) are taken for new connections without a restart; where the new
ones cannot be read, those that were read last go on, and the log says so.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog

from segment_do.errors import SettingsError
from segment_do.settings import TlsSettings

__all__ = ["follow_certificates", "server_context"]

log = structlog.get_logger(__name__)

_LOOK_SECONDS: Final = 30.0


def server_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """What TLS connections are accepted with; None where no certificate is set. TLS 1.2 and later, HTTP/1.1.

    Raises:
        SettingsError: a file is missing, or certificate and key do not belong together.
    """
    if settings.certificate is None and settings.key is None:
        return None
    if settings.certificate is None or settings.key is None:
        raise SettingsError("TLS needs both tls.certificate and tls.key.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load(context, settings)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"The certificate {settings.certificate} cannot be used with the key {settings.key}: {error}.",
            hint="Both are PEM files; the certificate's file holds its chain as well.",
        ) from error
    return context


async def follow_certificates(context: ssl.SSLContext, settings: TlsSettings, seconds: float = _LOOK_SECONDS) -> None:
    """Look at the files every so often, until cancelled."""
    seen = _stamps(settings)
    while True:
        await asyncio.sleep(seconds)
        found = _stamps(settings)
        if found == seen:
            continue
        try:
            _load(context, settings)
        except (OSError, ssl.SSLError) as error:  # half written, perhaps: look again
            log.warning("the renewed certificate cannot be used yet", error=str(error))
        else:
            seen = found
            log.info("certificate renewed", certificate=str(settings.certificate))


def _load(context: ssl.SSLContext, settings: TlsSettings) -> None:
    assert settings.certificate is not None
    # A password would be asked for on a terminal that nobody sits at.
    context.load_cert_chain(settings.certificate, settings.key, password=lambda: b"")


def _stamps(settings: TlsSettings) -> list[tuple[int, int]]:
    stamps = []
    for path in (settings.certificate, settings.key):
        try:
            found = Path(path or "").stat()
            stamps.append((found.st_mtime_ns, found.st_ino))
        except OSError:
            stamps.append((0, 0))
    return stamps
