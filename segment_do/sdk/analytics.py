"""`Analytics`: six calls, each queued at once and settled by the server's acknowledgement.

A call builds and checks its event, queues it and returns; a thread sends. Nothing here blocks (unless
``on_full="block"``) or needs an event loop. A call raises what is wrong with the call itself; what goes wrong afterwards
is in its receipt, on the log (``segment_do``), and told to ``on_error``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import date, datetime
from types import TracebackType
from typing import Any, Final, Self, Unpack
from uuid import UUID

from segment_do.errors import InvalidEvent, SegmentDoError, SettingsError
from segment_do.sdk.handles import Handles, agent_id
from segment_do.sdk.message import build, new_message_id, text_id
from segment_do.sdk.options import OptionKeywords, Options
from segment_do.sdk.outbox import Entry
from segment_do.sdk.profile import Profile
from segment_do.sdk.receipt import BatchReceipt, Completion, Receipt
from segment_do.sdk.sender import Sender
from segment_do.sdk.source import AgentSource, FixedSource, Place
from segment_do.sdk.testing import Recording, active, recording

__all__ = ["Analytics", "Fields", "Id", "Time"]

Fields = Mapping[str, Any]
"""Properties, traits, context, integrations: a mapping of anything that :mod:`segment_do.sdk.values` can write."""

Id = str | int | UUID
"""Ids are text on the wire; numbers become their digits. "" counts as none."""

Time = datetime | date | str
"""A datetime (without a zone: local time), a date (its midnight UTC), or ISO 8601 text."""


class Analytics:
    """A client of one source: ``Analytics(write_key, host=…)``, or :meth:`for_` an agent.

    Every call takes ``user_id``, ``anonymous_id``, ``timestamp`` (default now), ``context``, ``integrations`` and
    ``message_id`` (default a new one; the platform counts each once) by keyword, returns a :class:`Receipt` at once, and
    raises:

    - :class:`InvalidEvent`: the event breaks Segment's spec, has a value without JSON, or is larger than 32 KB;
    - :class:`Busy`: the queue is full and ``on_full="raise"``;
    - :class:`ClientClosed`: after :meth:`close`.

    ``await`` the receipt, or ``wait()`` on it, to know that the platform has stored the event; or drop it. Threads, event
    loops and forked children may share a client. Options: :class:`~segment_do.sdk.options.Options`.
    """

    def __init__(self, write_key: str, *, host: str | None = None, **options: Unpack[OptionKeywords]) -> None:
        """
        Args:
            write_key: of the source, as ``segment-do sources`` lists it.
            host: the platform's address; default ``SEGMENT_DO_URL``, else ``http://127.0.0.1:8000``.

        Raises:
            SettingsError: an argument cannot be used.
        """
        chosen = Options(**options)
        self._begin(None, Sender(FixedSource(write_key, host), chosen), chosen)

    @classmethod
    def for_(
        cls,
        agent: object,
        *,
        host: str | None = None,
        token: str | None = None,
        home: str | os.PathLike[str] | None = None,
        **options: Unpack[OptionKeywords],
    ) -> Self:
        """The handle of an agent: text, or any object with an ``id`` or a ``name`` (methods do not count).

        The same agent at the same platform gives the same handle. Returns at once: the platform is looked for, and the
        agent's source made there, when the first event is sent. The platform is ``host`` with ``token``, else
        ``SEGMENT_DO_URL`` with ``SEGMENT_DO_TOKEN``, else the one that runs from ``home`` (``SEGMENT_DO_HOME``,
        ``~/.segment_do``). While there is none, events are kept and tried again. A token that is refused fails the
        receipts with :class:`Unauthorized`.

        The handle speaks for the agent: an event that names no id has ``userId`` = the agent, or, after
        ``identify(user_id)`` on the handle, that user, until the next ``identify`` or :meth:`reset`. This holds for
        everybody who shares the handle, which is the whole process: where one agent serves several users at a time, pass
        ``user_id=`` with each call instead. ``options`` count when the handle is made.

        Raises:
            InvalidRequest: the agent has neither id nor name.
            SettingsError: an argument cannot be used.
        """
        name = agent_id(agent)
        place = Place.find(host, token, home)

        def make() -> Analytics:
            handle = cls.__new__(cls)
            chosen = Options(**options)
            handle._begin(name, Sender(AgentSource(name, place), chosen), chosen, place)
            return handle

        found = _handles.get((cls, name, place), make, lambda handle: not handle._sender.closed)
        assert isinstance(found, cls)
        return found

    @classmethod
    def testing(cls, *, error: SegmentDoError | None = None) -> AbstractContextManager[Recording]:
        """Record events instead of sending them; see :func:`segment_do.sdk.testing.recording`."""
        return recording(error=error)

    def _begin(self, agent: str | None, sender: Sender, options: Options, place: Place | None = None) -> None:
        self._agent = agent
        self._place = place
        self._identified: str | None = None
        self._sender = sender
        self._hurry = sender.hurry
        self._wall = options.timing.wall
        self._options = options
        self._close_seconds = options.exit_timeout_seconds

    @property
    def agent(self) -> str | None:
        """The agent that this handle belongs to; None for a client with a write key."""
        return self._agent

    @property
    def options(self) -> Options:
        """How this client behaves."""
        return self._options

    def track(
        self,
        event: str,
        properties: Fields | None = None,
        *,
        user_id: Id | None = None,
        anonymous_id: Id | None = None,
        timestamp: Time | None = None,
        context: Fields | None = None,
        integrations: Fields | None = None,
        message_id: str | None = None,
    ) -> Receipt:
        """Something happened: ``track("Code Review Completed", {"pr": 123})``."""
        return self._send(
            {"type": "track", "event": event, "properties": properties},
            user_id, anonymous_id, timestamp, context, integrations, message_id,
        )  # fmt: skip

    def identify(
        self,
        user_id: Id | None = None,
        traits: Fields | None = None,
        *,
        anonymous_id: Id | None = None,
        timestamp: Time | None = None,
        context: Fields | None = None,
        integrations: Fields | None = None,
        message_id: str | None = None,
    ) -> Receipt:
        """Who somebody is: ``identify("ralph@agents.do", {"role": "developer"})``.

        On an agent's handle a ``user_id`` also becomes the one whom the handle speaks for. Without any id the traits are
        those of whom it speaks for now: ``tom.identify(traits={"model": "x"})`` describes the agent itself.
        """
        receipt = self._send(
            {"type": "identify", "traits": traits},
            user_id, anonymous_id, timestamp, context, integrations, message_id,
        )  # fmt: skip
        if self._agent is not None:
            user = text_id("userId", user_id)
            if user is not None:
                self._speak_for(user)
        return receipt

    def page(
        self,
        name: str | None = None,
        properties: Fields | None = None,
        *,
        category: str | None = None,
        user_id: Id | None = None,
        anonymous_id: Id | None = None,
        timestamp: Time | None = None,
        context: Fields | None = None,
        integrations: Fields | None = None,
        message_id: str | None = None,
    ) -> Receipt:
        """A page was seen: ``page("Pricing", {"url": "https://…"})``."""
        return self._send(
            {"type": "page", "name": name, "category": category, "properties": properties},
            user_id, anonymous_id, timestamp, context, integrations, message_id,
        )  # fmt: skip

    def screen(
        self,
        name: str | None = None,
        properties: Fields | None = None,
        *,
        category: str | None = None,
        user_id: Id | None = None,
        anonymous_id: Id | None = None,
        timestamp: Time | None = None,
        context: Fields | None = None,
        integrations: Fields | None = None,
        message_id: str | None = None,
    ) -> Receipt:
        """A screen of an app was seen."""
        return self._send(
            {"type": "screen", "name": name, "category": category, "properties": properties},
            user_id, anonymous_id, timestamp, context, integrations, message_id,
        )  # fmt: skip

    def group(
        self,
        group_id: Id,
        traits: Fields | None = None,
        *,
        user_id: Id | None = None,
        anonymous_id: Id | None = None,
        timestamp: Time | None = None,
        context: Fields | None = None,
        integrations: Fields | None = None,
        message_id: str | None = None,
    ) -> Receipt:
        """Whom the event speaks of belongs to a group (a company, a team); ``traits`` are the group's."""
        return self._send(
            {"type": "group", "groupId": group_id, "traits": traits},
            user_id, anonymous_id, timestamp, context, integrations, message_id,
        )  # fmt: skip

    def alias(
        self,
        user_id: Id | None = None,
        previous_id: Id | None = None,
        *,
        anonymous_id: Id | None = None,
        timestamp: Time | None = None,
        context: Fields | None = None,
        integrations: Fields | None = None,
        message_id: str | None = None,
    ) -> Receipt:
        """``user_id`` was known as ``previous_id`` (which is required). The new id comes first, as in analytics.js."""
        return self._send(
            {"type": "alias", "previousId": previous_id},
            user_id, anonymous_id, timestamp, context, integrations, message_id,
        )  # fmt: skip

    def batch(self, events: Iterable[Fields]) -> BatchReceipt:
        """Many events at once, spelled as on the wire: ``[{"type": "track", "event": …, "userId": …}, …]``.

        What an event leaves out is filled in as in the single calls. All events are queued, or none: one that is invalid
        raises, naming its index. The size is not limited by Segment's batch limits (they are sent in as many requests as
        it takes), only by the queue's.
        """
        entries: list[Entry] = []
        for index, fields in enumerate(events):
            try:
                entries.append(self._entry(fields))
            except InvalidEvent as error:
                raise InvalidEvent(f"Event {index}: {error.message}", hint=error.hint, code=error.code) from None
        if entries:
            self._hand_over(entries)
        return BatchReceipt(entry.receipt for entry in entries)

    def reset(self) -> None:
        """An agent's handle speaks for the agent itself again, whomever it identified."""
        self._speak_for(None)

    def profile(self, external_id: str) -> Profile:
        """A person or account as the agent's identity knows it: ``await tom.profile("user_id:u1").traits()``.

        Named by one of its ids, ``type:value``, or by its profile id. Asks with the admin token, so for agents' handles alone.

        Raises:
            InvalidRequest: the id is neither.
            SettingsError: a client with a write key, which reads nothing.
        """
        if self._agent is None or self._place is None:
            raise SettingsError(
                "A client with a write key reads no profiles.", hint="Use Analytics.for_(agent), or the Profile API."
            )
        return Profile(self._agent, external_id, self._place)

    def flush(self) -> Completion:
        """Send what is queued now; the result is settled when all of it is acknowledged or has failed.

        ``await client.flush()`` or ``client.flush().wait(timeout)``. It never raises for an event: receipts tell.
        """
        return self._sender.flush()

    def close(self, timeout: float | None = None) -> Completion:
        """Take no more events, deliver what is queued, and stop; ``await`` it or ``wait()``.

        After ``timeout`` seconds (default ``exit_timeout_seconds``) what is left fails with
        :class:`~segment_do.sdk.outbox.NotDelivered` and is told on the log. Closing again is harmless. For an agent that
        was closed, :meth:`for_` gives a new handle.
        """
        return self._sender.close(self._close_seconds if timeout is None else timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close().wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        who = "" if self._agent is None else f"{self._agent!r} "
        return f"<Analytics {who}at {self._sender}>"

    def _send(
        self,
        fields: dict[str, Any],
        user_id: Id | None,
        anonymous_id: Id | None,
        timestamp: Time | None,
        context: Fields | None,
        integrations: Fields | None,
        message_id: str | None,
    ) -> Receipt:
        fields["userId"] = user_id
        fields["anonymousId"] = anonymous_id
        fields["timestamp"] = timestamp
        fields["context"] = context
        fields["integrations"] = integrations
        fields["messageId"] = message_id
        entry = self._entry(fields)
        self._hand_over((entry,))
        return entry.receipt

    def _entry(self, fields: Fields) -> Entry:
        message = build(fields, speaker=self._speaker(), now=self._wall(), new_id=self._new_id)
        return Entry(message.data, Receipt(message.message_id, self._hurry))

    def _hand_over(self, entries: list[Entry] | tuple[Entry, ...]) -> None:
        recorder = active()
        if recorder is None:
            self._sender.send(entries)
        else:
            recorder.take(self._agent, entries)

    def _new_id(self) -> str:
        return new_message_id(int(self._wall() * 1_000), os.urandom(10))

    def _speaker(self) -> str | None:
        recorder = active()
        identified = self._identified if recorder is None else recorder.speakers.get(self)
        return identified or self._agent

    def _speak_for(self, user: str | None) -> None:
        recorder = active()
        if recorder is None:
            self._identified = user
        else:
            recorder.speakers[self] = user


_handles: Final[Handles[Analytics]] = Handles()
