"""Functions that users write: Python that runs apart from the platform, without files, network, environment or other modules' reach.

Promised: whatever a function does, it costs its own call alone; it ends within its time and its memory, and leaves nothing behind for
the next call. The language is a subset of Python (docs/webhooks.md says which).
"""

from segment_do.functions.python import Functions, PythonFunction, check_python

__all__ = ["Functions", "PythonFunction", "check_python"]
