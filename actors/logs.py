"""Where log lines go: JSON lines to a file a component in ``<home>/logs``, and nothing that is secret."""

from __future__ import annotations

import logging
import logging.handlers

import structlog

from segment_do.settings import Settings

__all__ = ["configure_logs"]

_FILE_BYTES = 16 * 2**20
_FILES = 4


def configure_logs(settings: Settings, component: str) -> None:
    """Send this process's log lines to ``<home>/logs/<component>.log``; four files of 16 MB are kept."""
    settings.paths.create()
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in component)[:80]
    handler = logging.handlers.RotatingFileHandler(
        settings.paths.logs / f"{safe}.log", maxBytes=_FILE_BYTES, backupCount=_FILES - 1, delay=True
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for chatty in ("httpx", "httpcore", "pyiceberg", "ray"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
