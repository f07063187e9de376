"""The public port: shared among a platform's replicas, and with nobody else."""

from __future__ import annotations

import pytest

from actors.ingress.port import open_socket
from segment_do.errors import SettingsError


def test_replicas_share_the_port_and_a_second_platform_is_told() -> None:
    """Who asks for it alone hears that it is taken, though those who share it would go on sharing."""
    first = open_socket("127.0.0.1", 0)
    port = first.getsockname()[1]
    open_socket("127.0.0.1", port).close()
    with pytest.raises(SettingsError) as caught:
        open_socket("127.0.0.1", port, shared=False)
    assert f"127.0.0.1:{port}" in caught.value.message
    first.close()
    open_socket("127.0.0.1", port, shared=False).close()
