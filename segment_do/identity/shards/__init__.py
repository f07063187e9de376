"""One identity over several graphs: which shard an event goes to, and how ids that belong together come to lie in one."""

from segment_do.identity.shards.layout import Layout, identity_of, unit_name

__all__ = ["Layout", "identity_of", "unit_name"]
