"""Which URLs and addresses a destination may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from destinations.address import check_url, is_refused
from segment_do.errors import InvalidRequest


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1",
        "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "fec0::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::a9fe:a9fe",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::1",
        "not an address", "", "0177.0.0.1", "2130706433",
    ],
)  # fmt: skip
def test_refused_addresses(address: str) -> None:
    """Everything that is not plainly the public internet, and every IPv6 form that carries such an IPv4 address."""
    assert is_refused(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_public_addresses(address: str) -> None:
    """Public addresses pass, in every spelling."""
    assert not is_refused(address)


@given(st.ip_addresses(v=4))
def test_carried_addresses_are_judged_by_what_they_carry(address: object) -> None:
    """An IPv4 address gets the same judgement plain, mapped into IPv6, and behind NAT64."""
    assert is_refused(f"::ffff:{address}") == is_refused(str(address)) == is_refused(f"64:ff9b::{address}")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "javascript:alert(1)", "//example.com/x",
        "example.com/hook", "http://", "http:///x", "https://user:pass@example.com/", "http://user@example.com/",
        "http://example.com:99999/", "http://example.com:0/", "http://[::1/", "", "http://exa mple.com/\x00", 5, None,
        "http://example.com/" + "x" * 3000, "unix:///var/run/docker.sock",
    ],
)  # fmt: skip
def test_urls_that_no_destination_may_have(url: object) -> None:
    """Only http and https, with a host and without credentials, whatever the guard is set to."""
    with pytest.raises(InvalidRequest) as refused:
        check_url(url, allow_private_addresses=True)
    assert "pass" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://[::1]:8080/", "https://169.254.169.254/latest", "http://10.1.2.3/"]
)
def test_private_addresses_are_refused_when_they_are_written_down(url: str) -> None:
    """With the guard on, an address in the URL itself is refused at once; with it off, it is fine."""
    with pytest.raises(InvalidRequest):
        check_url(url, allow_private_addresses=False)
    assert check_url(url, allow_private_addresses=True) == url
