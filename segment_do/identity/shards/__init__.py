"""One identity over several graphs: which shard an event goes to, and how ids that belong together come to lie in one."""

from segment_do.identity.shards.layout import Layout, layouts, splitter

__all__ = ["Layout", "layouts", "splitter"]
