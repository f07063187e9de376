"""Who goes first when the processors are busy: the door.

A client waits for the answer; nobody waits for what is behind the journal. So the actors behind it give way to the ingress, and
catch up when there is time. They get a share all the same (niceness is a weight, not a queue).
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["give_way"]

_NICENESS: Final = 5


def give_way() -> None:
    """Lower this process's share of a busy processor to about a third of the ingress's."""
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), _NICENESS))
