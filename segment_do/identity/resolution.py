"""What a batch of new events says about people: ids seen, ids brought together, traits, memberships.

Nothing is written before :meth:`Resolution.write`, which stores every changed id, bond and trait once. An event
that cannot be used is passed on untouched and counted; its neighbours go on.

An event belongs to the profile of its id of highest priority, which no limit ever takes from it. ``identify`` sets traits of that id.
``group`` sets traits of its group and makes that id a member; so does ``context.groupId``. ``alias`` joins nothing, which is Segment's own
rule, unless the rules say otherwise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from segment_do.errors import NotFound
from segment_do.events.record import EXTERNAL_ID, NOT_EVENTS, Record
from segment_do.identity.bonds import FORCED_RULES, Bonds
from segment_do.identity.clusters import Clusters
from segment_do.identity.computation import Computation
from segment_do.identity.computed import Computed
from segment_do.identity.decision import Id
from segment_do.identity.elsewhere import Elsewhere
from segment_do.identity.identifiers import Identifiers, Reader, people_of
from segment_do.identity.ids import Node, Nodes, Unusable
from segment_do.identity.profile import profile_id
from segment_do.identity.rules import ACCOUNT_TYPES, Rules
from segment_do.identity.traits import GroupCall, Traits, read_group, read_previous_id, read_traits

__all__ = ["Resolution"]

_TO_READ = frozenset({"identify", "group", "alias"}) | NOT_EVENTS

_IN_EVENTS = ACCOUNT_TYPES | {"user_id", "anonymous_id"}
"""Types that the warehouse finds in events themselves; of the others it is told when they are new, too."""


class Resolution:
    """One batch at a time: :meth:`absorb`, :meth:`write`, :meth:`tell`, then :meth:`commit` or :meth:`rollback`."""

    def __init__(self, connection: sqlite3.Connection, rules: Rules) -> None:
        self._connection = connection
        self.shard: Elsewhere | None = None
        """Where the identity is laid out over several graphs."""
        self.begin(rules)

    def begin(self, rules: Rules) -> None:
        """Go by these rules from here on, and forget what was read by others. Between batches, or before the first."""
        connection = self._connection
        self.rules = rules
        self._reader = Reader(rules)
        self._nodes = Nodes(connection, rules)
        self.bonds = Bonds(connection, rules)
        if self.shard is not None:
            self.bonds.number_from(self.shard.next_bond)
        self.clusters = Clusters(connection, rules, self._nodes, self.bonds)
        self.traits = Traits(connection)
        self.computed = Computed(connection)
        self.computed.moves = self.shard is not None
        self._memberships: set[tuple[int, str, str]] = set()
        self._members: set[tuple[int, str, str]] = set()
        self._owners: list[tuple[Record, Node]] = []
        self._accounts: list[tuple[Record, Node]] = []
        self._unusable: list[Record] = []
        self._new: list[Node] = []
        # Where a user id decides and no window matters, an event with both ids known together needs no further look.
        self._user_first = rules.rank("user_id") < rules.rank("anonymous_id") and not rules.windowed

    def prepare(self) -> None:
        """Before a batch: keep what is remembered within its bound."""
        self._nodes.rotate()

    @property
    def held(self) -> int:
        """Ids in memory."""
        return len(self._nodes.alive)

    def read(self, records: Sequence[Record]) -> list[Identifiers | None]:
        """What is inside events' payloads, for :meth:`absorb`."""
        read = self._reader.read
        return [None if record.type in NOT_EVENTS else read(record) for record in records]

    def recall(self, record: Record, inside: Identifiers | None) -> list[Node] | None:
        """See :meth:`.ids.Nodes.recall`."""
        return self._nodes.recall(record, () if inside is None else inside.people)

    def absorb(self, records: Sequence[Record], insides: Sequence[Identifiers | None]) -> int:
        """Take in new events; returns how many could not be used. :meth:`tell` sets each one's ``profile_id``."""
        nodes = self._nodes
        users, anonymous_ids = nodes.young["user_id"], nodes.young["anonymous_id"]
        owners, user_first = self._owners, self._user_first
        self._expect(records, insides)
        traits: dict[str, str] | None = None
        group: GroupCall | None = None
        previous: str | None = None
        # This loop is the platform's hot path: a user seen before costs two look-ups and a comparison.
        for record, inside in zip(records, insides, strict=True):
            try:
                kind = record.type
                if kind in _TO_READ:
                    # Read first: an event that turns out unusable must have touched nothing.
                    if kind == "identify":
                        traits = read_traits(record.payload)
                    elif kind == "group":
                        group = read_group(record.payload)
                    elif kind == "alias":
                        previous = read_previous_id(record.payload) if self.rules.alias == "merge" else None
                    else:
                        continue
                timestamp = record.timestamp
                user = anonymous = None
                if record.user_id:
                    user = users.get(record.user_id)
                    if user is None or not user.first_seen < timestamp < user.seen_until:
                        user = nodes.get("user_id", record.user_id, timestamp, record.source_id, record.message_id)
                if record.anonymous_id:
                    anonymous = anonymous_ids.get(record.anonymous_id)
                    if anonymous is None or not anonymous.first_seen < timestamp < anonymous.seen_until:
                        anonymous = nodes.get(
                            "anonymous_id", record.anonymous_id, timestamp, record.source_id, record.message_id
                        )
                if (inside is not None and inside.people) or not user_first:
                    owner = self._bring_together(user, anonymous, inside.people if inside else (), record)
                elif user is not None:
                    owner = user
                    if anonymous is not None:
                        known = anonymous.bonds.get(user.node)
                        if known is None or (timestamp <= known[0] and (timestamp, record.message_id) < known):
                            self._bond((user, anonymous), record, kind)
                else:
                    owner = anonymous
                if owner is not None:
                    owners.append((record, owner))
                    if inside is not None:
                        for account in inside.accounts:
                            self._join_account(owner, *account, record)
                if traits is not None:
                    if owner is not None and traits:
                        self.traits.stage(owner, traits, timestamp, record.message_id, record.source_id)
                    traits = None
                elif group is not None:
                    named = self.rules.accepted("group_id", group.group_id)
                    if named is not None:
                        self._join_account(owner, "group_id", named, record, group.traits)
                    group = None
                elif previous is not None:
                    if user is not None:
                        self._alias(user, previous, record)
                    previous = None
            except Unusable:
                traits = group = previous = None
                self._unusable.append(record)
        return len(self._unusable)

    def write(self) -> int:
        """Inside the batch's transaction: store what changed; returns how many trait names found no room."""
        self._new = self._nodes.write()
        self.bonds.write()
        self.clusters.write()
        if self._memberships:
            self._connection.executemany(
                "INSERT INTO membership VALUES (?, ?, ?) ON CONFLICT DO NOTHING", self._memberships
            )
        if self._members:
            self._connection.executemany("INSERT INTO member VALUES (?, ?, ?) ON CONFLICT DO NOTHING", self._members)
        return self.traits.write()

    def tell(self, now: int, cause: Record | None = None) -> list[Record]:
        """After :meth:`write`, in the same transaction: give each event its ``profile_id``; returns what became of ids and of computed
        values, as records. ``cause`` is the event that they are told with where no event of the batch is their own. ``now``: microseconds.
        """
        for record, owner in self._owners:
            held = owner.held_by  # in full, and not by the node's own properties: every event comes by here
            named = owner if held is None else held.canonical if held.into is None else owner.named
            record.profile_id = named.spelled or named.own_id
        for record in self._unusable:
            record.profile_id = self._belongs_to(record)
        cause = self._owners[-1][0] if self._owners else cause
        if cause is None and self._accounts:  # a group call of nobody: blocked ids alone
            cause = self._accounts[-1][0]
        if cause is None:
            return []
        told = self._told(cause)
        if self.computed.active:
            self.computed.stage(self._owners, now)
            if self._accounts:
                self.computed.stage(self._accounts, now, "accounts")
            told += self._computed(cause, now)
        return told

    def became(self, trigger: Record, now: int) -> list[Record]:
        """What became of ids, and of computed values, by what was just changed by hand; ``trigger`` stands for the change."""
        moved = [self._moved(node, trigger) for node in self.clusters.moved.values()]
        return moved + self._computed(trigger, now) if self.computed.active else moved

    def _computed(self, trigger: Record, now: int) -> list[Record]:
        return self.computed.write(self.clusters.moved, self.clusters.left, trigger.message_id, now)

    def _told(self, cause: Record) -> list[Record]:
        """What became of ids by the batch, as records: those that moved, and new ones that no column of an event carries."""
        told = self.clusters.moved | {node.node: node for node in self._new if node.kind not in _IN_EVENTS}
        if not told:
            return []
        # A batch may hold many people's events: each id is told with the last one of its own profile.
        last = {record.profile_id: record for record, _owner in self._owners}
        return [self._moved(node, last.get(node.profile_id, cause)) for node in told.values()]

    def node(self, kind: str, value: str) -> Node | None:
        """The node of an id that an event carried before."""
        accepted = self.rules.accepted(kind, value)
        return None if accepted is None else self._nodes.find(kind, accepted)

    def find(self, kind: str, value: str) -> Node | None:
        """The node of an id whose value is as the rules make it."""
        return self._nodes.find(kind, value)

    def known(self, kind: str, value: str) -> Node:
        """The node of an id that an event carried before.

        Raises:
            NotFound: none did.
        """
        found = self.node(kind, value)
        if found is None:
            raise NotFound(f"No event carried the {kind} {value!r}.")
        return found

    def fill(self, computation: Computation, records: Sequence[Record], now: int) -> int:
        """Inside a transaction: count events of before a computation for it alone, and change nothing else; returns how many."""
        self._nodes.rotate()
        owners = self._owners_of if computation.definition.collection == "users" else self._accounts_of
        return self.computed.fill(computation, records, owners, now)

    def adopt_id(
        self, kind: str, value: str, first_seen: int, last_seen: int, source: str, message_id: str
    ) -> tuple[Node, bool]:
        """See :meth:`.ids.Nodes.adopt`."""
        return self._nodes.adopt(kind, value, first_seen, last_seen, source, message_id)

    def forget_id(self, node: int, kind: str, value: str) -> None:
        """See :meth:`.ids.Nodes.forget`."""
        self._nodes.forget(node, kind, value)

    def numbered(self, number: int) -> Node:
        """The node of a number that the file knows."""
        return self._nodes.by_number(number)

    def finish(self) -> None:
        """Inside a transaction that changed something by hand: store the rest of it."""
        self.bonds.write()
        self.clusters.write()

    def commit(self) -> None:
        """The batch's transaction is durable."""
        self._nodes.commit()
        self.bonds.commit()
        if self.shard is not None:
            self.shard.commit()
        self._clear()

    def rollback(self) -> None:
        """The batch's transaction is undone."""
        self._nodes.rollback()
        if self.shard is not None:
            self.shard.rollback()
        self._clear()

    def _clear(self) -> None:
        self.bonds.clear()
        self.clusters.clear()
        self.traits.clear()
        self.computed.clear()
        self._memberships.clear()
        self._members.clear()
        self._owners, self._accounts, self._unusable, self._new = [], [], [], []

    def ids(self, record: Record, inside: Identifiers | None) -> list[Id]:
        """The ids of people that an event carries, see :func:`.identifiers.people_of`."""
        return people_of(record, inside, self.rules)

    def _owners_of(self, record: Record) -> list[Node]:
        """The id that an event belongs to, if the graph knows it: the one of highest priority."""
        ids = self.ids(record, self._reader.read(record))
        owner = self._nodes.find(*ids[0]) if ids else None
        return [] if owner is None else [owner]

    def _accounts_of(self, record: Record) -> list[Node]:
        """The accounts that an event names, as far as the graph knows them."""
        inside = self._reader.read(record) if self._owners_of(record) else None
        return [node for each in (inside.accounts if inside else ()) if (node := self._nodes.find(*each)) is not None]

    def _expect(self, records: Sequence[Record], insides: Sequence[Identifiers | None]) -> None:
        """Read what the batch will ask for and no cache has, in few statements instead of several an event."""
        users, anonymous_ids = self._nodes.young["user_id"], self._nodes.young["anonymous_id"]
        new_users = {value for record in records if (value := record.user_id) and value not in users}
        new_anonymous = {value for record in records if (value := record.anonymous_id) and value not in anonymous_ids}
        wanted = [named for inside in insides if inside is not None for each in inside for named in each]
        for kind, values in (("user_id", new_users), ("anonymous_id", new_anonymous)):
            for value in values:
                accepted = self.rules.accepted(kind, value)
                if accepted is not None:
                    wanted.append((kind, accepted))
        if wanted and self._nodes.expect(wanted) and self._user_first:
            self.bonds.expect(
                (user, anonymous)
                for record, inside in zip(records, insides, strict=True)
                if (inside is None or not inside.people)
                and (user := users.get(record.user_id or "")) is not None
                and (anonymous := anonymous_ids.get(record.anonymous_id or "")) is not None
            )

    def _belongs_to(self, record: Record) -> str | None:
        for kind, value in (("user_id", record.user_id), ("anonymous_id", record.anonymous_id)):
            accepted = self.rules.accepted(kind, value) if value else None
            if accepted is not None:
                known = self._nodes.find(kind, accepted)
                return profile_id(kind, accepted) if known is None else known.profile_id
        return None

    def _bring_together(
        self, user: Node | None, anonymous: Node | None, inside: Sequence[tuple[str, str]], record: Record
    ) -> Node | None:
        """Bond all ids of an event; returns the one of highest priority."""
        timestamp, source, message_id = record.timestamp, record.source_id, record.message_id
        found = [node for node in (user, anonymous) if node is not None]
        for kind, value in inside:
            node = self._nodes.get(kind, value, timestamp, source, message_id)
            if node is not None and node not in found:
                found.append(node)
        if not found:
            return None
        rank = self.rules.rank
        found.sort(key=lambda node: (rank(node.kind), node.value))
        if len(found) > 1:
            self._bond(found, record, record.type)
        return found[0]

    def _bond(self, nodes: Sequence[Node], record: Record, rule: str) -> None:
        changed = self.bonds.stage(nodes, record, "" if rule in FORCED_RULES else rule, self._nodes.first_new)
        if changed != "known":
            self.clusters.join(nodes, record.timestamp, record.message_id, forced=False, news=changed == "new")

    def _alias(self, user: Node, previous: str, record: Record) -> None:
        """Join the previous id to the user: an anonymous id, unless it was seen as a user's."""
        kind = None if self.shard is None else self.shard.previous_kind(record)
        if kind is None:
            kind = "anonymous_id" if self.node("user_id", previous) is None else "user_id"
        other = self._nodes.get(kind, previous, record.timestamp, record.source_id, record.message_id)
        if other is None or other is user:
            return
        rank = self.rules.rank
        nodes = sorted((user, other), key=lambda node: (rank(node.kind), node.value))
        changed = self.bonds.stage(nodes, record, "alias", self._nodes.first_new)
        if changed != "known":
            self.clusters.join(nodes, record.timestamp, record.message_id, forced=True, news=changed == "new")

    def count_account(
        self, account: Id, member: Id | None, traits: dict[str, str], record: Record, *, counted: bool = True
    ) -> None:
        """What an event says of an account, where the event itself is applied in another shard. ``counted``: what is computed may look at
        the event.

        Raises:
            Unusable: no clock shows such a time.
        """
        node = self._nodes.get(*account, record.timestamp, record.source_id, record.message_id)
        if node is None:
            return
        if member is not None:
            self._members.add((node.node, *member))
        if traits:
            self.traits.stage(node, traits, record.timestamp, record.message_id, record.source_id)
        if counted and self.computed.of_accounts:
            self._accounts.append((record, node))

    def _join_account(
        self, member: Node | None, kind: str, value: str, record: Record, traits: dict[str, str] | None = None
    ) -> None:
        if self.shard is not None and not self.shard.keeps((kind, value)):
            self.shard.send_account((kind, value), member, traits or {}, record)
        else:
            self.count_account(
                (kind, value), None if member is None else (member.kind, member.value), traits or {}, record
            )
        if member is not None:
            self._memberships.add((member.node, kind, value))

    def _moved(self, node: Node, trigger: Record) -> Record:
        """What the warehouse is told of an id: whose it is now, and since which event."""
        canonical = node.profile_id
        told: dict[str, object] = {
            "type": node.kind,
            "id": node.value,
            "segment_id": node.own_id,
            "canonical_segment_id": canonical,
            "event": {"type": trigger.type, "message_id": trigger.message_id, "name": trigger.event},
        }
        if self.shard is not None and (generation := self.shard.generation(node)):
            told["generation"] = generation
        return Record(
            f"{trigger.message_id}/{node.node}", EXTERNAL_ID, trigger.source_id, None, None, node.kind,
            trigger.timestamp, trigger.received_at, None, None, None, msgspec.json.encode(told), canonical,
        )  # fmt: skip
