"""Where an identity lives: identity → actor name, and nothing else.

Every process computes the same answer, so no directory has to be asked or kept.
"""

from __future__ import annotations

from collections.abc import Callable

import xxhash

from segment_do.settings import IdentitySettings
from segment_do.units import shown_name

__all__ = ["CONTROL", "NAMESPACE", "QUEUE", "WAREHOUSE", "identity_actor"]

NAMESPACE = "segment_do"
"""Ray namespace of all named actors."""
CONTROL = "control"
QUEUE = "queue"
WAREHOUSE = "warehouse"


def identity_actor(settings: IdentitySettings) -> Callable[[str], str]:
    """The naming function: ``identity:tom`` (dedicated; ``identity:tom#3`` for a shard), or ``identity-pool:3`` (pool).

    It takes the name of a graph: an identity's, or a shard's (:func:`segment_do.identity.shards.unit_name`).
    """
    if settings.placement == "dedicated":
        return lambda unit: f"identity:{shown_name(unit)}"
    actors = settings.pool_actors
    return lambda unit: f"identity-pool:{xxhash.xxh3_64_intdigest(unit.encode(errors='surrogatepass')) % actors}"
