"""Computed traits and audiences: figures of what people did, as pure functions of sets of events. Knows of no storage."""

from segment_do.computed.announcement import COMPUTED_SOURCE, Space, announcement, computation_id
from segment_do.computed.conditions import Condition, Where
from segment_do.computed.definition import (
    MAX_DEFINITIONS,
    Audience,
    ComputedTrait,
    Definition,
    Expression,
    Whose,
    blank,
    check_audience,
    read_definition,
    wrong,
)
from segment_do.computed.expression import Known
from segment_do.computed.folds import State
from segment_do.computed.measure import DAY_MICROSECONDS, Measure, read_properties
from segment_do.computed.past import PastPart, PastWanted

__all__ = [
    "COMPUTED_SOURCE",
    "DAY_MICROSECONDS",
    "MAX_DEFINITIONS",
    "Audience",
    "ComputedTrait",
    "Condition",
    "Definition",
    "Expression",
    "Known",
    "Measure",
    "PastPart",
    "PastWanted",
    "Space",
    "State",
    "Where",
    "Whose",
    "announcement",
    "blank",
    "check_audience",
    "computation_id",
    "read_definition",
    "read_properties",
    "wrong",
]
