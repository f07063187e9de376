"""What a batch of new events says about people: ids seen, links, traits, memberships.

Nothing is written before :meth:`Resolution.write`, which stores every changed id, link and trait once. An event
that cannot be used is passed on untouched and counted; its neighbours go on.

Rules of this version: an event that carries a user_id belongs to that user; one with an anonymous_id alone
to the user that id is linked to, else to itself. ``identify`` sets traits of the user_id if present, else of the
anonymous_id. ``group`` sets traits of its group and makes that same id a member. ``alias`` joins nothing
(Segment's own rule), and ``context.traits`` are not traits of the profile.
"""

from __future__ import annotations

import sqlite3

from segment_do.events.record import REJECTED, Record
from segment_do.identity.ids import Node, Nodes, Unusable
from segment_do.identity.profile import profile_id
from segment_do.identity.traits import GroupCall, Traits, read_group, read_traits

__all__ = ["Resolution"]

_TO_READ = frozenset({"identify", "group", REJECTED})


class Resolution:
    """One batch at a time: :meth:`absorb`, :meth:`write`, then :meth:`commit` or :meth:`rollback`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._nodes = Nodes(connection)
        self._traits = Traits(connection)
        self._memberships: set[tuple[int, int]] = set()

    def absorb(self, records: list[Record]) -> int:
        """Take in new events and set each one's ``profile_id``; returns how many could not be used."""
        nodes = self._nodes
        nodes.rotate()
        users, anonymous_ids = nodes.young["user_id"], nodes.young["anonymous_id"]
        unusable: list[Record] = []
        anonymous_only: list[tuple[Record, Node]] = []
        traits: dict[str, str] | None = None
        group: GroupCall | None = None
        # This loop is the platform's hot path: a user seen before costs two look-ups and a comparison.
        for record in records:
            try:
                if record.type in _TO_READ:
                    if record.type == REJECTED:
                        continue
                    # Read first: an event that turns out unusable must have touched nothing.
                    if record.type == "identify":
                        traits = read_traits(record.payload)
                    else:
                        group = read_group(record.payload)
                timestamp = record.timestamp
                user = anonymous = None
                if record.user_id:
                    user = users.get(record.user_id)
                    if user is None:
                        user = nodes.get("user_id", record.user_id, timestamp)
                    elif not user.first_seen <= timestamp < user.seen_until:
                        nodes.touch(user, timestamp)
                    record.profile_id = user.canonical
                if record.anonymous_id:
                    anonymous = anonymous_ids.get(record.anonymous_id)
                    if anonymous is None:
                        anonymous = nodes.get("anonymous_id", record.anonymous_id, timestamp)
                    elif not anonymous.first_seen <= timestamp < anonymous.seen_until:
                        nodes.touch(anonymous, timestamp)
                    if user is None:
                        anonymous_only.append((record, anonymous))
                    elif timestamp <= anonymous.linked_at:
                        nodes.link(anonymous, user, timestamp, record.message_id)
                if traits is not None:
                    self._identify(user or anonymous, traits, record)
                    traits = None
                elif group is not None:
                    self._group(user or anonymous, group, record)
                    group = None
            except Unusable:
                traits = group = None
                unusable.append(record)
        # Only now: a link later in the batch counts for all of it.
        for record, node in anonymous_only:
            record.profile_id = node.canonical
        for record in unusable:
            record.profile_id = self._belongs_to(record)
        return len(unusable)

    def write(self) -> int:
        """Inside the batch's transaction; returns how many trait names found no room."""
        self._nodes.write()
        if self._memberships:
            self._connection.executemany(
                "INSERT INTO membership (member, account) VALUES (?, ?) ON CONFLICT DO NOTHING", self._memberships
            )
        return self._traits.write()

    def commit(self) -> None:
        """The batch's transaction is durable."""
        self._nodes.commit()
        self._traits.clear()
        self._memberships.clear()

    def rollback(self) -> None:
        """The batch's transaction is undone."""
        self._nodes.rollback()
        self._traits.clear()
        self._memberships.clear()

    def _identify(self, node: Node | None, traits: dict[str, str], record: Record) -> None:
        if node is not None and traits:
            self._traits.stage(node, traits, record.timestamp, record.message_id)

    def _group(self, member: Node | None, call: GroupCall, record: Record) -> None:
        node = self._nodes.get("group_id", call.group_id, record.timestamp)
        if member is not None:
            self._memberships.add((member.node, node.node))
        if call.traits:
            self._traits.stage(node, call.traits, record.timestamp, record.message_id)

    def _belongs_to(self, record: Record) -> str | None:
        if record.user_id:
            return profile_id("user_id", record.user_id)
        if record.anonymous_id:
            known = self._nodes.find("anonymous_id", record.anonymous_id)
            return known.canonical if known else profile_id("anonymous_id", record.anonymous_id)
        return None
