"""One ingress replica without Ray: keys, journal, dispatcher, door and API, wired together in one event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import structlog

from actors.ingress.api import Platform, control_api
from actors.ingress.bearer import Bearers
from actors.ingress.bulk.endpoint import BulkEndpoint
from actors.ingress.bulk.ingest import Ingest
from actors.ingress.bulk.sessions import Room, Sessions
from actors.ingress.bulk.store import JournalStore
from actors.ingress.cdn import Cdn
from actors.ingress.certificates import follow_certificates, server_context
from actors.ingress.demo import Demo
from actors.ingress.dispatcher import Apply, Dispatcher
from actors.ingress.door import Door
from actors.ingress.journal import Adopted, Journal, Run, abandoned, adopt
from actors.ingress.keys import Keys, KeySet
from actors.ingress.listener import serve
from actors.ingress.metrics import metrics_text
from actors.ingress.port import open_socket
from actors.ingress.profile_app import ProfileApp
from actors.ingress.token import TokenEndpoint
from actors.ingress.tracking_app import TrackingApp
from actors.ingress.waking import Waking
from actors.ingress.webhooks import WebhookApp
from segment_do.errors import NotReady
from segment_do.home import sync_directory
from segment_do.identity.shards import splitter
from segment_do.settings import Settings

__all__ = ["Replica"]

log = structlog.get_logger(__name__)

_DRAIN_SECONDS: Final = 10.0
_ADOPTED_AHEAD_BYTES: Final = 64 * 2**20


class Replica:
    """Start it in the event loop that serves the port; ``stop`` it in the same."""

    def __init__(
        self,
        settings: Settings,
        fetch_keys: Callable[[int], Awaitable[KeySet]],
        apply: Apply,
        name_for: Callable[[str], str],
        platform: Platform,
    ) -> None:
        self._settings = settings
        self._apply = apply
        self._name_for = name_for
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._serving: list[asyncio.Task[None]] = []
        self._adopting: set[Path] = set()
        self.adopted_events = 0
        self.port = settings.port
        self.tls_port: int | None = None
        self.keys = Keys(fetch_keys)
        self.dispatcher = Dispatcher(apply, name_for, split=splitter(settings.identity))
        self.journal = Journal(settings.paths.journal, settings.journal, self._dispatch)
        secret = settings.paths.ensure_oauth_secret()
        bearers = Bearers(self.keys, secret)
        self.door = Door(settings.ingress, self.keys, self.journal, bearers)
        api = control_api(platform, settings.paths.ensure_token())
        self.bulk, self.ingest = self._bulk(api)
        self.tokens = TokenEndpoint(settings, self.keys, secret, platform.redeem, self.bulk)
        self.webhooks = WebhookApp(settings.ingress, self.door, self.keys, bearers, self.tokens)
        profiles = ProfileApp(settings, self.keys, platform, self.webhooks)
        self.app: Cdn | Demo = Cdn(settings.browser, self.keys, TrackingApp(settings.ingress, self.door, profiles))
        if settings.demo_served:
            self.app = Demo(settings.browser, platform, self._stop, self.app)

    async def start(self) -> None:
        """Open the ports, follow the keys, look for journals of dead replicas.

        Raises:
            SettingsError: an address cannot be listened on, or the certificate cannot be used.
        """
        listening = open_socket(self._settings.host, self._settings.port)
        self.port = listening.getsockname()[1]
        tls = server_context(self._settings.tls)
        if tls is not None:
            secured = open_socket(self._settings.host, self._settings.tls.port)
            self.tls_port = secured.getsockname()[1]
            self._serving.append(self._serve(secured, tls))
            self._tasks.append(asyncio.create_task(follow_certificates(tls, self._settings.tls), name="certificates"))
        self._serving.append(self._serve(listening))
        self._tasks += [
            asyncio.create_task(self.keys.follow(), name="follow keys"),
            asyncio.create_task(self._adopt_for_ever(), name="adopt journals"),
            asyncio.create_task(Waking(self._settings, self._wake).run(), name="wake identities"),
        ]
        self._ingesting = asyncio.create_task(self.ingest.run(), name="store syncs")

    async def stop(self) -> None:
        """Stop listening, give the identities what they can take in ten seconds, leave the rest in the journal."""
        self._stop.set()
        await asyncio.wait(self._serving, timeout=10.0)
        self._ingesting.cancel()
        await asyncio.wait([self._ingesting])
        await asyncio.to_thread(self.ingest.close)
        await asyncio.to_thread(self.bulk.close)
        drained = await self.dispatcher.drained(_DRAIN_SECONDS)
        for task in (*self._tasks, *self._serving):
            task.cancel()
        await self.dispatcher.close()
        await self.webhooks.close()
        self.journal.close()
        log.info("replica stopped", drained=drained)

    async def prove_ready(self) -> None:
        """Raises what stands in the way of storing an event now.

        Raises:
            NotReady: write keys are not loaded yet.
            Busy, StorageFailed: the journal would refuse.
        """
        if not self.keys.loaded:
            raise NotReady("Write keys are not loaded yet.")
        await self.journal.prove()

    def status(self) -> dict[str, Any]:
        """For /api/status and /metrics."""
        return {
            **self.door.counts.as_dict(),
            **{f"journal_{name}": value for name, value in self.journal.status().items()},
            "applied_events": self.dispatcher.applied_events,
            "failed_calls": self.dispatcher.failed_calls,
            "adopted_events": self.adopted_events,
            **{f"bulk_{name}": value for name, value in self.ingest.status().items()},
            "bulk_parts": self.bulk.parts,
            "bulk_refused": self.bulk.refused,
            "issued_tokens": self.tokens.issued,
            "refused_tokens": self.tokens.refused,
        }

    def metrics(self) -> bytes:
        """Prometheus text."""
        return metrics_text(self.status())

    def _bulk(self, elsewhere: Any) -> tuple[BulkEndpoint, Ingest]:
        settings, root, journals = self._settings, self._settings.paths.syncs, self._settings.paths.journal
        root.mkdir(exist_ok=True, mode=0o700)
        sync_directory(root.parent)
        room = Room(root, settings.bulk.max_bytes, settings.journal.min_free_disk_bytes)
        ingest = Ingest(
            root,
            settings.bulk,
            room,
            JournalStore(self.journal, settings.bulk.ahead_bytes),
            journal=self.journal.folder.name,
            waiting=lambda name: (journals / name).exists(),
        )
        sessions = Sessions(root, settings.bulk, room)
        waits = settings.ingress.body_timeout_seconds
        return BulkEndpoint(settings.bulk, waits, self.door, sessions, ingest.wake, elsewhere), ingest

    def _serve(self, listening: socket.socket, tls: ssl.SSLContext | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(
            serve(self.app, self.door, listening, self._settings.ingress, self._stop, tls), name="serve"
        )

    def _dispatch(self, run: Run) -> None:
        self.dispatcher.offer(run, self.journal.confirm)

    async def _wake(self, identity: str) -> None:
        await self._apply(self._name_for(identity), [(identity, 0, b"")])

    async def _adopt_for_ever(self) -> None:
        while True:
            for folder in await asyncio.to_thread(abandoned, self._settings.paths.journal):
                if folder == self.journal.folder or folder in self._adopting:
                    continue
                self._adopting.add(folder)
                try:
                    adopted = await asyncio.to_thread(adopt, folder)
                    if adopted is not None:
                        await self._replay(adopted)
                except Exception:
                    # One journal that cannot be read must not keep the others' events from their identities.
                    log.exception("a journal was not adopted; it will be tried again", folder=folder.name)
                finally:
                    self._adopting.discard(folder)
            await asyncio.sleep(self._settings.journal.adopt_seconds)

    async def _replay(self, adopted: Adopted) -> None:
        """Give a dead replica's events to their identities, a bounded part at a time, then remove its folder."""
        log.info("adopting a journal", folder=adopted.folder.name)
        confirmed = asyncio.Event()
        events = 0

        def confirm(run: Run) -> None:
            adopted.confirm(run)
            confirmed.set()

        async def wait_below(size: int) -> None:
            while adopted.unapplied_bytes > size:
                confirmed.clear()
                await confirmed.wait()

        runs = adopted.runs()
        try:
            while (run := await asyncio.to_thread(next, runs, None)) is not None:
                events += run.events
                self.dispatcher.offer(run, confirm)
                await wait_below(_ADOPTED_AHEAD_BYTES)
            await wait_below(0)
        except BaseException:
            adopted.close(remove=False)
            raise
        adopted.close(remove=True)
        self.adopted_events += events
        log.info("journal adopted", folder=adopted.folder.name, events=events, torn_bytes=adopted.torn_bytes)
