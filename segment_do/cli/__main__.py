"""`python -m segment_do.cli` is `segment-do`."""

from __future__ import annotations

from segment_do.cli import main

main()
