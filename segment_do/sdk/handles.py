"""The agents' handles of this process: the same agent at the same platform is the same handle.

The last 1,024 handles used are kept; an older one stays the same for as long as the program holds it, and is forgotten
(with whom it was identified as) when it does not. What it has queued is delivered all the same.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Final, Generic, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from segment_do.errors import InvalidRequest
from segment_do.sdk.message import text_id

__all__ = ["Handles", "agent_id"]

KEPT: Final = 1_024

T = TypeVar("T")


def agent_id(agent: object) -> str:
    """The id of an agent: text or a number is one itself; of any other object its ``id``, else its ``name``.

    Attributes that are methods, None or empty do not count.

    Raises:
        InvalidRequest: there is none.
    """
    if isinstance(agent, (str, int, UUID, Enum)) and not isinstance(agent, bool):
        found = text_id("agent", agent)
        if found is not None:
            return found
    else:
        for attribute in ("id", "name"):
            value = getattr(agent, attribute, None)
            if value is None or callable(value):
                continue
            found = text_id(f"agent.{attribute}", value)
            if found is not None:
                return found
    raise InvalidRequest(
        f"A {type(agent).__name__} without an id or a name is no agent.", hint='For example Analytics.for_("tom").'
    )


class Handles(Generic[T]):
    """A bounded map from key to handle, for any number of threads. A forked child keeps it: handles start afresh there
    by themselves.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._recent: OrderedDict[Hashable, T] = OrderedDict()
        self._held: WeakValueDictionary[Hashable, T] = WeakValueDictionary()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._unlock)

    def get(self, key: Hashable, make: Callable[[], T], usable: Callable[[T], bool]) -> T:
        """The handle of ``key``; a new one when there is none, or none that is ``usable`` any more."""
        with self._lock:
            handle = self._held.get(key)
            if handle is None or not usable(handle):
                handle = make()
                self._held[key] = handle
            self._recent[key] = handle
            self._recent.move_to_end(key)
            if len(self._recent) > KEPT:
                self._recent.popitem(last=False)
            return handle

    def _unlock(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held it
