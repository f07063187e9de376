"""The identity graph: deduplicate, resolve, keep traits, hand on. Plain Python over SQLite, one folder an identity."""

from segment_do.identity.about import MAX_LINKS, MAX_VALUES, Trait
from segment_do.identity.audit import AuditLine
from segment_do.identity.computation import Computation
from segment_do.identity.explanation import Edge, Step
from segment_do.identity.graph import Applied, Graph
from segment_do.identity.outbox import OutboxEntry
from segment_do.identity.profile import ComputedValue, ExternalId, Profile, profile_id
from segment_do.identity.revisions import Proposal
from segment_do.identity.rules import DEFAULT_RULES, IdType, Rules, read_rules
from segment_do.identity.rules_file import read_rules_file

__all__ = [
    "DEFAULT_RULES",
    "MAX_LINKS",
    "MAX_VALUES",
    "Applied",
    "AuditLine",
    "Computation",
    "ComputedValue",
    "Edge",
    "ExternalId",
    "Graph",
    "IdType",
    "OutboxEntry",
    "Profile",
    "Proposal",
    "Rules",
    "Step",
    "Trait",
    "profile_id",
    "read_rules",
    "read_rules_file",
]
