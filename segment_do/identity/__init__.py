"""The identity graph: deduplicate, resolve, keep traits, hand on. Plain Python over SQLite, one folder an identity."""

from segment_do.identity.graph import Applied, Graph
from segment_do.identity.outbox import OutboxEntry
from segment_do.identity.profile import ExternalId, Profile, profile_id

__all__ = ["Applied", "ExternalId", "Graph", "OutboxEntry", "Profile", "profile_id"]
