"""The mapping language: what a JSON document becomes, declared as JSON.

A mapping is raw values, which stand for themselves, and directives, objects with one key that begins with ``@``, which take values
from the payload: ``{"userId": {"@path": "$.customer.email"}}``. Its vocabulary is Segment's, so that mappings written for its Actions
destinations work here; docs/mapping.md has each directive, and where ours does something else.

Promised: a mapping is checked whole before it is first used; applying it costs time and memory in proportion to the payload, within a
budget; nothing in it can reach outside the payload. Nothing here touches disk, network or clock.
"""

from segment_do.mapping.mapping import Mapping, compile_mapping

__all__ = ["Mapping", "compile_mapping"]
