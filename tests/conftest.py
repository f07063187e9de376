"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long one example takes is the machine's business, and that of what else runs on it; the tests that bound a cost count what was done.
settings.register_profile("here", deadline=None)
settings.load_profile("here")
