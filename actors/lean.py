"""Importing this keeps Arrow out of a process that has no use for it.

Ray imports Arrow wherever it is installed, and numpy with it, to register how data sets travel, which we never send: 30 MB and
a quarter of a second in each process, and every identity is a process. So whoever starts Ray imports this module first, and
each worker does before its first task (``RAY_preload_python_modules``, see :mod:`.node`). From then on importing Arrow says that
it is not installed; the one actor that does use it calls :func:`allow_arrow` first.
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["allow_arrow"]

_ARROW: Final = "pyarrow"


def allow_arrow() -> None:
    """Let this process import Arrow after all."""
    if sys.modules.get(_ARROW, _ARROW) is None:
        del sys.modules[_ARROW]


sys.modules.setdefault(_ARROW, None)  # type: ignore[arg-type]  # None is how Python is told; no change if it is there
