"""The one module of ``destinations`` that opens sockets.

One request, one answer, never an exception for what the network does. Promised: only http and https; no redirect is
followed, no cookie kept, no proxy taken from the environment, no URL logged; at most 64 KB of an answer are read; an
attempt ends after ``timeout_seconds`` whatever the other side does; at most ``concurrency`` requests are under way,
others wait their turn.

It speaks through httpx's transport, below ``httpx.AsyncClient``: what the client adds (redirects, cookies, auth from
the URL, a log line with the URL) is what must not happen here, and costs 0.2 ms of CPU a request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from socket import SOCK_STREAM, gaierror, getaddrinfo
from typing import Any

import httpcore
import httpx

from destinations.address import is_refused
from destinations.base import Outcome, Request
from segment_do.settings import DeliverySettings

__all__ = ["Http", "Resolve"]

MAX_RESPONSE_BYTES = 64 * 1024
KEPT_RESPONSE_BYTES = 4 * 1024
MAX_ADDRESSES = 4
KEEPALIVE_SECONDS = 4.0
"""Idle connections are closed before servers (5 s is a common default) close them under a request."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a name, best first.

Raises:
    gaierror: there are none.
"""


class Http:
    """Sends requests for one destination: its connections, its name look-ups, nobody else's.

    ``resolve`` and ``refuse`` are parameters for tests; with ``allow_private_addresses`` the guard is off.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        *,
        resolve: Resolve | None = None,
        refuse: Callable[[str], bool] = is_refused,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_seconds = settings.timeout_seconds
        # Requests wait here and never in httpcore's pool: one that is cancelled there at the moment it is given a
        # connection takes the connection's place in the pool with it, for good (httpcore 1.0.9).
        self._places = asyncio.Semaphore(settings.concurrency)
        self._lookups = _Lookups() if resolve is None else None
        self._transport = _Transport(
            network=_Network(
                resolve or self._lookups,  # type: ignore[arg-type]  # one of the two is there
                None if settings.allow_private_addresses else refuse,
                settings.timeout_seconds,
            ),
            tls=tls or _tls_context(),
            max_idle=settings.concurrency,
        )

    async def __call__(self, request: Request) -> Outcome:
        """One attempt. Every failure of the network is an outcome; cancellation passes through."""
        try:
            message = httpx.Request(
                request.method,
                request.url,
                headers=[("Accept-Encoding", "identity"), ("Accept", "*/*"), *request.headers],
                content=request.body,
            )
        except (httpx.InvalidURL, ValueError, TypeError):
            return Outcome(error="unsendable", detail="The URL or a header cannot be sent.")
        if message.url.scheme not in ("http", "https"):
            return Outcome(error="unsendable", detail="Only http and https URLs are requested.")
        async with self._places:
            return await self._exchange(message)

    async def _exchange(self, message: httpx.Request) -> Outcome:
        response: httpx.Response | None = None
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._transport.handle_async_request(message)
                try:
                    await _read(response, body)
                finally:
                    await response.aclose()
        except TimeoutError:
            if response is None:
                return Outcome(error="timeout", detail=f"No answer within {self._timeout_seconds:g} seconds.")
        except AddressRefused:
            return Outcome(
                error="address_refused",
                detail="The name leads to a loopback, private or reserved address, which is switched off here.",
            )
        except (httpx.TransportError, httpcore.ProtocolError, OSError) as error:
            if response is None:
                return _failure(error)
        assert response is not None
        # A body that stops half-way changes nothing: the status has said what became of the events.
        return Outcome(
            status=response.status_code,
            detail=f"Answered {response.status_code}.",
            retry_after=response.headers.get("retry-after"),
            response=bytes(body[:KEPT_RESPONSE_BYTES]),
        )

    async def close(self) -> None:
        """Close all connections. To be called when no request is under way."""
        await self._transport.aclose()
        if self._lookups is not None:
            self._lookups.close()


class AddressRefused(Exception):
    """The guard refuses where a name leads."""


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's transport over a network that checks addresses. httpx has no parameter for one; httpcore does."""

    def __init__(self, *, network: httpcore.AsyncNetworkBackend, tls: ssl.SSLContext, max_idle: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=max_idle,
            keepalive_expiry=KEEPALIVE_SECONDS,
            http1=True,
            http2=False,
            network_backend=network,
        )


class _Network(httpcore.AsyncNetworkBackend):
    """TCP to addresses that were looked up once, checked, and then used: Host and SNI keep the name."""

    def __init__(self, resolve: Resolve, refuse: Callable[[str], bool] | None, timeout_seconds: float) -> None:
        self._tcp = httpcore.AnyIOBackend()
        self._timeout_seconds = timeout_seconds
        self._resolve = resolve
        self._refuse = refuse

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        # One bad address refuses the name: which of them gets connected must not be the answerer's choice.
        if self._refuse is not None and any(map(self._refuse, addresses)):
            raise AddressRefused
        *others, last = addresses[:MAX_ADDRESSES]
        # A share of the time each: an address that leads nowhere must leave some for the next.
        share = self._timeout_seconds / (len(others) + 1)
        for address in others:
            try:
                return await self._connect(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._connect(last, port, None, local_address, socket_options)

    async def _connect(
        self,
        address: str,
        port: int,
        seconds: float | None,
        local_address: str | None,
        socket_options: Iterable[Any] | None,
    ) -> httpcore.AsyncNetworkStream:
        return await self._tcp.connect_tcp(
            address, port, timeout=seconds, local_address=local_address, socket_options=socket_options
        )


class _Lookups:
    """Name look-ups in a thread of the destination's own.

    In the loop's shared threads a name server that does not answer for one destination would make all others wait.
    Look-ups of one name at one time are one look-up; nothing is remembered (the system's resolver does that).
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="look-up")
        self._under_way: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        key = (host, port)
        found = self._under_way.get(key)
        if found is None:
            loop = asyncio.get_running_loop()
            found = loop.run_in_executor(self._threads, partial(_look_up, host, port))
            self._under_way[key] = found
            found.add_done_callback(partial(self._done, key))
        # Shielded: one waiter's timeout must not fail the others.
        return await asyncio.shield(found)

    def _done(self, key: tuple[str, int], found: asyncio.Future[list[str]]) -> None:
        del self._under_way[key]
        if not found.cancelled():
            found.exception()  # seen, also when nobody waits for it any more

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = getaddrinfo(host, port, type=SOCK_STREAM)
    except UnicodeError as error:  # a label that IDNA cannot write
        raise gaierror(str(error)) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@lru_cache(maxsize=1)  # loading the certificates takes 30 ms and megabytes: once a process
def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def _read(response: httpx.Response, body: bytearray) -> None:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for part in response.stream:
        body += part
        if len(body) >= MAX_RESPONSE_BYTES:
            return  # closing an unread answer closes its connection: cheaper than reading what nobody wants


def _failure(error: BaseException) -> Outcome:
    causes = list(_causes(error))
    if any(isinstance(cause, gaierror) for cause in causes):
        return Outcome(error="name_not_found", detail="The host's name cannot be looked up.")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Outcome(error="connection_refused", detail="The host refuses connections on this port.")
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Outcome(error="tls", detail=f"The host's certificate is not accepted: {cause.verify_message}.")
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Outcome(error="tls", detail="TLS could not be agreed with the host.")
    if any(isinstance(cause, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)) for cause in causes):
        return Outcome(error="connection_reset", detail="The connection broke before there was an answer.")
    if any(isinstance(cause, httpx.TimeoutException) for cause in causes):
        return Outcome(error="timeout", detail="The host does not take the connection.")
    return Outcome(error="network", detail=f"The request could not be made ({type(error).__name__}).")


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or error.__context__
