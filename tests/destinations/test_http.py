"""The one module that opens sockets, against real servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from socket import gaierror
from typing import Any

import pytest

from destinations.base import Outcome, Request
from destinations.http import Http
from segment_do.settings import DeliverySettings
from tests.certificates import make_certificate
from tests.destinations.receiver import HANG, RESET, Answer, Got, Receiver, raw_server


def settings(**given: Any) -> DeliverySettings:
    return DeliverySettings(**{"timeout_seconds": 5.0, "concurrency": 4, **given})


def post(url: str, body: bytes = b"{}") -> Request:
    return Request("POST", url, [("Content-Type", "application/json")], body)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    made = Http(settings())
    yield made
    await made.close()


def answering(*addresses: str) -> Callable[[str, int], Any]:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


async def test_request_arrives_as_it_was_built(http: Http) -> None:
    """Method, headers and the body's exact bytes; the answer's status, body and Retry-After come back."""
    body = b'{"a":1.0,"b":"\xc3\xa9"}'
    async with Receiver(lambda got: Answer(201, (("Retry-After", "7"),), b"thanks")) as receiver:
        outcome = await http(Request("PUT", receiver.url + "?a=b", [("X-Key", "k"), ("Content-Type", "x/y")], body))
    (got,) = receiver.got
    assert (got.method, got.path, got.body) == ("PUT", "/hook?a=b", body)
    assert got.headers["x-key"] == "k"
    assert got.headers["content-type"] == "x/y"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-length"] == str(len(body))
    assert outcome == Outcome(201, None, "Answered 201.", "7", b"thanks")


async def test_connections_are_kept(http: Http) -> None:
    """Requests one after another share a connection."""
    async with Receiver() as receiver:
        for _ in range(5):
            assert (await http(post(receiver.url))).status == 200
        assert receiver.connections == 1


async def test_redirect_is_not_followed(http: Http) -> None:
    """A redirect is an answer; nobody asks where it points."""
    async with Receiver() as elsewhere, Receiver(lambda got: Answer(307, (("Location", elsewhere.url),))) as receiver:
        assert (await http(post(receiver.url))).status == 307
        assert elsewhere.got == []


async def test_cookies_are_not_kept(http: Http) -> None:
    """What one answer sets does not come with the next request."""
    async with Receiver(lambda got: Answer(headers=(("Set-Cookie", "a=b"),))) as receiver:
        await http(post(receiver.url))
        await http(post(receiver.url))
    assert "cookie" not in receiver.got[1].headers


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events go where they are configured to go, whatever the process's environment says."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    http = Http(settings())
    async with Receiver() as receiver:
        assert (await http(post(receiver.url))).status == 200
    await http.close()


async def test_silent_receiver_times_out_and_frees_its_connections() -> None:
    """After many timeouts, more than there are connections, the next request goes through."""
    http = Http(settings(timeout_seconds=0.25))
    async with Receiver(lambda got: HANG) as receiver:
        outcomes = await asyncio.gather(*(http(post(receiver.url)) for _ in range(12)))
        assert {outcome.error for outcome in outcomes} == {"timeout"}
        receiver.reply = lambda got: Answer()
        assert (await http(post(receiver.url))).status == 200
    await http.close()


async def test_cancelled_requests_free_their_connections(http: Http) -> None:
    """Cancellation passes through, and leaves no connection behind that nobody uses."""
    async with Receiver(lambda got: HANG) as receiver:
        for _ in range(6):
            task = asyncio.create_task(http(post(receiver.url)))
            seen = len(receiver.got) + 1
            await receiver.until(lambda seen=seen: len(receiver.got) == seen)  # type: ignore[misc]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        receiver.reply = lambda got: Answer()
        assert (await http(post(receiver.url))).status == 200


async def test_broken_connection(http: Http) -> None:
    """A connection that is cut before the answer has its own reason."""
    async with Receiver(lambda got: RESET) as receiver:
        assert (await http(post(receiver.url))).error == "connection_reset"


async def test_refused_connection(http: Http) -> None:
    """Nobody listens: connection_refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        assert (await http(post(url))).error == "connection_refused"


async def test_name_that_does_not_exist() -> None:
    """No address: name_not_found, with or without the guard."""

    async def nowhere(host: str, port: int) -> list[str]:
        raise gaierror(socket.EAI_NONAME, "no such name")

    for allowed in (True, False):
        http = Http(settings(allow_private_addresses=allowed), resolve=nowhere)
        assert (await http(post("http://nowhere.invalid/"))).error == "name_not_found"
        await http.close()


async def test_next_address_is_tried() -> None:
    """Of several addresses, one that refuses does not hide one that answers."""
    async with Receiver() as receiver:
        http = Http(settings(), resolve=answering("127.0.0.2", "127.0.0.1"))
        assert (await http(post(f"http://hook.test:{receiver.port}/"))).status == 200
        await http.close()


async def test_large_answers_are_not_read(http: Http) -> None:
    """64 KB of an answer are read and 4 KB kept; an endless one ends the connection, not the engine."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()
            sent += 4096

    async with raw_server(endless) as url:
        outcome = await http(post(url))
        assert outcome.status == 200
        assert outcome.response == b"x" * 4096
        await http.close()
    assert sent < 32 * 2**20  # what sockets buffer, not what the server would send


async def test_status_counts_when_the_body_stalls() -> None:
    """A receiver that has said 200 has the event, whatever becomes of its answer's body."""

    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await asyncio.Event().wait()

    http = Http(settings(timeout_seconds=0.1))
    async with raw_server(stalling) as url:
        outcome = await http(post(url))
    assert (outcome.status, outcome.response) == (200, b"half")
    await http.close()


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 999999 What\r\n\r\n", b"HTTP/1.1 200", b"\x00" * 100]
)
async def test_answers_that_are_not_http(http: Http, answer: bytes) -> None:
    """A port that speaks something else is a network failure, never an exception."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with raw_server(other) as url:
        outcome = await http(post(url))
    assert (outcome.status, outcome.error) == (None, "connection_reset")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "unix:///x", "http://[::1", "nonsense"])
async def test_only_http_is_spoken(http: Http, url: str) -> None:
    """Other schemes are not requested, also where a stored URL was never checked."""
    assert (await http(post(url))).error == "unsendable"


async def test_header_that_cannot_be_sent(http: Http) -> None:
    """A header with a line break is refused, not written."""
    async with Receiver() as receiver:
        outcome = await http(Request("POST", receiver.url, [("X-Key", "a\r\nX-Other: b")], b""))
    assert outcome.status is None
    assert outcome.error in ("unsendable", "network")
    assert receiver.got == []


# The guard


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.8.9.10",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "[::ffff:169.254.169.254]",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "[fd00::1]",
        "[fe80::1]",
    ],
)
async def test_guard_refuses_every_spelling(host: str) -> None:
    """With the guard on, no way of writing a private address reaches it. A listener there hears nothing."""
    async with Receiver() as receiver:
        http = Http(settings(allow_private_addresses=False, timeout_seconds=2))
        outcome = await http(post(f"http://{host}:{receiver.port}/"))
        await http.close()
        assert outcome.error in ("address_refused", "name_not_found", "unsendable")  # httpx reads no octal quads
        assert receiver.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "017700000001", "0x7f.1", "localhost"])
async def test_without_the_guard_they_are_reached(host: str) -> None:
    """The table above means something: with the guard off, these spellings do lead to the listener."""
    async with Receiver() as receiver:
        http = Http(settings())
        assert (await http(post(f"http://{host}:{receiver.port}/"))).status == 200
        await http.close()


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.216.34", "127.0.0.1"), ("::1",), ("169.254.169.254",)])
async def test_guard_refuses_names_that_lead_inside(addresses: tuple[str, ...]) -> None:
    """One inner address among those of a name refuses the name."""
    http = Http(settings(allow_private_addresses=False), resolve=answering(*addresses))
    assert (await http(post("https://innocent.example/"))).error == "address_refused"
    await http.close()


async def test_the_address_that_was_checked_is_the_one_connected() -> None:
    """A name is looked up once a connection: an answer that changes afterwards is never seen. Host keeps the name."""
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    checked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    def refuse(address: str) -> bool:
        checked.append(address)
        return address != "127.0.0.1"  # stands for "public" here

    async with Receiver() as receiver:
        http = Http(settings(allow_private_addresses=False), resolve=rebinding, refuse=refuse)
        assert (await http(post(f"http://rebinding.test:{receiver.port}/"))).status == 200
        assert receiver.got[0].headers["host"] == f"rebinding.test:{receiver.port}"
        receiver.reply = lambda got: Answer(headers=(("Connection", "close"),))
        assert (await http(post(f"http://rebinding.test:{receiver.port}/"))).status == 200  # the kept connection
        assert (await http(post(f"http://rebinding.test:{receiver.port}/"))).error == "address_refused"
        await http.close()
    assert checked == ["127.0.0.1", "169.254.169.254"]


async def test_slow_look_up_holds_up_nobody_else() -> None:
    """A name server that does not answer for one destination leaves the look-ups of another alone."""
    stuck = asyncio.Event()

    async def never(host: str, port: int) -> list[str]:
        stuck.set()
        await asyncio.Event().wait()
        return []

    slow, other = Http(settings(timeout_seconds=0.5), resolve=never), Http(settings())
    async with Receiver() as receiver:
        waiting = [asyncio.create_task(slow(post("http://stuck.test/"))) for _ in range(4)]
        await stuck.wait()
        assert (await other(post(f"http://localhost:{receiver.port}/"))).status == 200
        assert not any(task.done() for task in waiting)
        assert {outcome.error for outcome in await asyncio.gather(*waiting)} == {"timeout"}
    await slow.close()
    await other.close()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "hook", "hook.test")[0]


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


async def test_tls_is_checked_against_the_name(certificate: Path) -> None:
    """The connection goes to the checked address; SNI and the certificate are about the name."""
    asked: list[str | None] = []
    context = serving(certificate)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    trust = ssl.create_default_context(cafile=certificate)
    http = Http(
        settings(allow_private_addresses=False),
        resolve=answering("127.0.0.1"),
        refuse=lambda address: False,
        tls=trust,
    )
    async with Receiver(tls=context) as receiver:
        assert (await http(post(f"https://hook.test:{receiver.port}/"))).status == 200
        assert asked == ["hook.test"]
        wrong_name = await http(post(f"https://other.test:{receiver.port}/"))
    await http.close()
    assert wrong_name.error == "tls"
    assert "other.test" in wrong_name.detail


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_unknown_certificate_is_not_accepted(certificate: Path) -> None:
    """A certificate nobody vouches for ends the attempt; nothing is sent."""
    http = Http(settings(), resolve=answering("127.0.0.1"))
    async with Receiver(tls=serving(certificate)) as receiver:
        outcome = await http(post(f"https://hook.test:{receiver.port}/"))
        assert outcome.error == "tls"
        assert receiver.got == []
    await http.close()


async def test_nothing_is_logged_about_urls(http: Http, caplog: pytest.LogCaptureFixture) -> None:
    """URLs hold secrets more often than not; a delivery leaves no line at INFO or above."""
    caplog.set_level("INFO")
    async with Receiver() as receiver:
        await http(post(receiver.url + "?token=hunter2"))
    assert caplog.text == ""


def test_got_is_what_was_sent() -> None:
    """The test server's own reading of bodies: an object and an array."""
    assert Got("POST", "/", {}, b'[{"messageId":"a"},{"messageId":"b"}]').ids == ["a", "b"]
    assert Got("POST", "/", {}, b'{"messageId":"a"}').ids == ["a"]
