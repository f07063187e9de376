"""The one door to the network."""

from __future__ import annotations

import pytest

from segment_do.errors import SettingsError
from segment_do.sdk.transport import HttpTransport, TransportFailed, checked_url, is_loopback
from tests.segment_do.sdk.platform import CUT, Platform


@pytest.fixture
def transport() -> HttpTransport:
    return HttpTransport()


def post(transport: HttpTransport, url: str, body: bytes = b"{}") -> tuple[int, int]:
    answer = transport.post(url, {"Authorization": "Basic c2VjcmV0"}, body, 5)
    return answer.status, len(answer.body)


def test_connections_are_kept_and_can_be_let_go(platform: Platform, transport: HttpTransport) -> None:
    """Two requests, one connection; after `close` a new one."""
    ports = []
    for _ in range(2):
        post(transport, platform.url + "/v1/batch")
        ports.append(platform.peers[-1])
    transport.close()
    post(transport, platform.url + "/v1/batch")
    transport.close()
    assert ports[0] == ports[1] != platform.peers[-1]


def test_a_huge_answer_is_not_read_to_its_end(platform: Platform, transport: HttpTransport) -> None:
    """Answers are bounded like everything else; the next request works."""
    platform.answers.append((200, {}, b"x" * 20_000_000))
    status, size = post(transport, platform.url + "/v1/batch")
    assert status == 200
    assert size < 2_000_000
    assert post(transport, platform.url + "/v1/batch")[0] == 200
    transport.close()


def test_redirects_are_not_followed(platform: Platform, transport: HttpTransport) -> None:
    """Credentials go where the program said."""
    platform.answers.append((307, {"Location": platform.url + "/elsewhere"}, {}))
    assert post(transport, platform.url + "/v1/batch")[0] == 307
    assert [request.path for request in platform.requests] == ["/v1/batch"]
    transport.close()


def test_no_answer_is_one_kind_of_failure_without_secrets(platform: Platform, transport: HttpTransport) -> None:
    """Cut or refused: the same error, and no header in it."""
    platform.answers.append(CUT)
    for url in (platform.url, "http://127.0.0.1:1"):
        with pytest.raises(TransportFailed) as caught:
            post(transport, url + "/v1/batch")
        assert "c2VjcmV0" not in str(caught.value)
    transport.close()


def test_base_urls() -> None:
    """What may be a host, and which hosts are this machine."""
    assert checked_url("https://cdp.example/base/") == "https://cdp.example/base"
    for wrong in ("", "cdp.example", "ftp://cdp.example", "http://", "http://u:p@h", "http://h?x=1", "http://h:x"):
        with pytest.raises(SettingsError):
            checked_url(wrong)
    assert [is_loopback(url) for url in ("http://localhost:1", "http://127.8.0.1", "http://[::1]:8000")] == [True] * 3
    assert not is_loopback("http://cdp.example")
    assert not is_loopback("http://127.0.0.1.example")
