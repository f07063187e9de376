"""The Serve application that ``ray_config.yaml`` names: the one place where the parts are put together."""

from __future__ import annotations

from typing import Any

from ray import serve

from actors.control.actor import make_control
from actors.ingress.deployment import Ingress
from actors.queue.actor import make_queue
from actors.warehouse.actor import make_warehouse
from segment_do.identity.shards.begun import check_layouts
from segment_do.settings import Settings, load_settings

__all__ = ["build", "start_actors"]


def build(arguments: dict[str, Any]) -> serve.Application:
    """Start the named actors that are not there yet, and bind the ingress.

    ``arguments`` are settings (``args`` in ``ray_config.yaml``) for where neither the settings file nor the environment speaks.
    """
    settings = load_settings(**arguments)
    settings.paths.create()
    settings.paths.ensure_token()
    check_layouts(settings)
    start_actors(settings)
    sized = Ingress.options(num_replicas=settings.ingress.replicas)  # type: ignore[attr-defined]
    return sized.bind(settings)


def start_actors(settings: Settings) -> dict[str, Any]:
    """Control, queue and warehouse actors, detached; those that live already are left alone."""
    return {
        "control": make_control(settings),
        "queue": make_queue(settings),
        "warehouse": make_warehouse(settings),
    }
