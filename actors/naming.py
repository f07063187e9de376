"""Where an identity lives: identity → actor name, and nothing else.

Every process computes the same answer, so no directory has to be asked or kept.
"""

from __future__ import annotations

from collections.abc import Callable

import xxhash

from segment_do.settings import IdentitySettings

__all__ = ["CONTROL", "NAMESPACE", "QUEUE", "WAREHOUSE", "identity_actor"]

NAMESPACE = "segment_do"
"""Ray namespace of all named actors."""
CONTROL = "control"
QUEUE = "queue"
WAREHOUSE = "warehouse"


def identity_actor(settings: IdentitySettings) -> Callable[[str], str]:
    """The naming function: ``identity:tom`` (dedicated), or ``identity-pool:3`` (pool)."""
    if settings.placement == "dedicated":
        return lambda identity: f"identity:{identity}"
    actors = settings.pool_actors
    return lambda identity: (
        f"identity-pool:{xxhash.xxh3_64_intdigest(identity.encode(errors='surrogatepass')) % actors}"
    )
