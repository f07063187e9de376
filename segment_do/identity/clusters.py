"""Which ids are one profile: joined as bonds come in, and worked out anew where the order of events matters.

While everything that events ever brought together keeps within the limits, clusters only grow, and no order matters. Where a limit keeps
something apart, all that hangs together is *contested*: a later event is decided on top of what there is, an earlier one has the whole
component replayed in the order of its events, unless the result is sure to be the same (see :meth:`Clusters._is_as_if_last`).
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Sequence

from segment_do.identity.bonds import FORCED_RULES, Bonds, nodes_of, parts
from segment_do.identity.decision import Group, Id, canonical, decide, fits, replay
from segment_do.identity.ids import Cluster, Node, Nodes
from segment_do.identity.profile import profile_nodes, profile_root
from segment_do.identity.rules import Rules

__all__ = ["Clusters"]


class Clusters:
    """The tables ``profile`` and ``contested``. A batch: :meth:`join` for each bond that changed, then :meth:`write`."""

    def __init__(self, connection: sqlite3.Connection, rules: Rules, nodes: Nodes, bonds: Bonds) -> None:
        self._connection = connection
        self._rules = rules
        self._nodes = nodes
        self._bonds = bonds
        self._changed: dict[int, Cluster] = {}
        self._absorbed: dict[int, Cluster] = {}
        self._alone: list[tuple[Node, Cluster]] = []
        self._last: dict[int, tuple[int, str]] = {}
        self._pasts: dict[int, list[tuple[tuple[int, str], frozenset[Id]]]] = {}
        """Root → what joined the ids of a contested profile, when. Of those that late events of this batch touch."""
        self._replay: set[int] = set()
        self.moved: dict[int, Node] = {}
        """Nodes that belong to another profile than before the batch, or to one of another name."""
        self.left: set[int] = set()
        """Nodes that named a profile when a replay took some of its nodes away."""

    def join(self, nodes: Sequence[Node], timestamp: int, message_id: str, *, forced: bool, news: bool) -> None:
        """A bond is new, or (not ``news``) counts earlier than it was known to; ``nodes`` by priority, the highest first."""
        if self._replay and any(node.node in self._replay for node in nodes):
            self._replay.update(node.node for node in nodes)
            return
        if news and _are_plain(nodes):
            self._begin(nodes, (timestamp, message_id))
            return
        contested = {cluster.component for node in nodes if (cluster := node.cluster) is not None} - {None}
        if not contested and not news:
            return
        units = self._units(nodes)
        key = (timestamp, message_id)
        if not contested:
            if len(units) == 1:
                unit = units[0]
                if isinstance(unit, Cluster) and unit.last is not None:
                    unit.last = max(unit.last, key)
                return
            if fits([self._group(unit) for unit in units], self._rules, timestamp):
                self._merge(units, key)
                return
        last = None if forced or self._rules.windowed else self._last_of(units)
        groups = {id(unit): self._group(unit) for unit in units}
        accepted = decide([groups[id(node.cluster or node)] for node in nodes], self._rules, timestamp)
        in_order = last is not None and news and (self._rules.order == "arrival" or last < key)
        if last is None or not (in_order or self._is_as_if_last(nodes, accepted, key)):
            self._replay.update(node.node for node in nodes)
            return
        component = self._contest(nodes)
        joined = self._units(nodes[:accepted])
        if len(joined) > 1:
            self._merge(joined, key).component = component
        self._last[component] = key if in_order else max(last, key)

    def write(self) -> None:
        """Inside the batch's transaction, when nodes and bonds are in the file: store what changed, replay what has to be."""
        for node, cluster in self._alone:
            if not self._nodes.is_new(node):
                self._connection.execute(
                    "UPDATE external_id SET profile = ? WHERE node = ?", (cluster.end().root, node.node)
                )
        for root, cluster in self._absorbed.items():
            target = cluster.end().root
            self._connection.execute("DELETE FROM profile WHERE root = ?", (root,))
            if target != root:
                self._connection.execute(
                    "UPDATE external_id SET profile = ? WHERE profile = ? AND profile <> node", (target, root)
                )
                self._connection.execute("UPDATE external_id SET profile = ? WHERE node = ?", (target, root))
        self._store([cluster for cluster in self._changed.values() if cluster.into is None])
        self._connection.executemany(
            "INSERT OR REPLACE INTO contested VALUES (?, ?, ?)", [(key, *last) for key, last in self._last.items()]
        )
        if self._replay:
            self.replay(self._replay)

    def clear(self) -> None:
        """The batch is over, either way."""
        self._changed, self._absorbed, self._alone, self._last, self._pasts = {}, {}, [], {}, {}
        self._replay, self.moved, self.left = set(), {}, set()

    def replay(self, seeds: Iterable[int]) -> None:
        """Work out anew all that hangs together with these nodes, or did until now. Everything staged must be written."""
        seeds = set(seeds)
        for node in list(seeds):
            seeds.update(self._peers(node))
        members = self._bonds.component(seeds)
        names = self._names(members)
        numbers = {name: node for node, name in names.items()}
        bonds = self._bonds.of(members, names)
        groups, _decided = replay(bonds, self._rules)
        component_of = _connected(bonds, names.values())
        totals: dict[Id, Group] = {}
        first: dict[Id, int] = {}
        for name, node in numbers.items():
            component = component_of[name]
            totals.setdefault(component, Group([])).ids.append(name)
            first[component] = min(node, first.get(component, node))
        last: dict[Id, tuple[int, str]] = {}
        for bond in bonds:
            component, key = component_of[bond.ids[0]], (bond.timestamp, bond.message_id)
            last[component] = max(key, last.get(component, key))
        # A component is known by its smallest node.
        contested = {
            component: first[component]
            for component in last
            if self._rules.windowed or not fits([Group(totals[component].ids)], self._rules, 0)
        }
        made = {id(group): group for group in groups.values()}.values()
        inside = [([numbers[name] for name in group.ids], group.ids) for group in made]
        inside += [([node], [name]) for name, node in numbers.items() if name not in groups]
        self._replace(
            members,
            [
                (nodes, numbers[canonical(ids, self._rules)], contested.get(component_of[ids[0]]))
                for nodes, ids in inside
            ],
            {number: last[component] for component, number in contested.items()},
        )

    def replay_all(self) -> None:
        """Work out every profile anew, a component at a time: the rules are others now."""
        done: set[int] = set()
        last = 0
        while True:
            rows = self._connection.execute(
                "SELECT DISTINCT node FROM bond_of WHERE node > ? ORDER BY node LIMIT 1000", (last,)
            ).fetchall()
            if not rows:
                return
            for (node,) in rows:
                if node not in done:
                    members = self._bonds.component(self._peers(node))
                    done.update(members)
                    self.replay(members)
            last = rows[-1][0]
            done = {node for node in done if node > last}

    # Joining, in memory.

    def _units(self, nodes: Sequence[Node]) -> list[Node | Cluster]:
        """The profiles of nodes, each once: a cluster, or a node that is one by itself."""
        found: dict[int, Node | Cluster] = {}
        for node in nodes:
            unit = node.cluster or node
            found[id(unit)] = unit
        return list(found.values())

    def _group(self, unit: Node | Cluster) -> Group:
        group = Group([])
        group.counts = {unit.kind: 1} if isinstance(unit, Node) else self._counts(unit)
        return group

    def _counts(self, cluster: Cluster) -> dict[str, int]:
        if cluster.counts is None:
            cluster.counts = dict(
                self._connection.execute(
                    "SELECT kind, count(*) FROM (SELECT kind FROM external_id WHERE profile = ?1 AND profile <> node"
                    " UNION ALL SELECT kind FROM external_id WHERE node = ?1) GROUP BY kind",
                    (cluster.root,),
                ).fetchall()
            )
        return cluster.counts

    def _begin(self, nodes: Sequence[Node], key: tuple[int, str]) -> None:
        """Most clusters begin so: ids that are alone, an anonymous one and its user's."""
        cluster = Cluster(min(node.node for node in nodes), nodes[0], None)
        cluster.counts = {node.kind: 1 for node in nodes}
        cluster.last = key
        cluster.joined = tuple(nodes)
        for node in nodes:
            node.held_by = cluster
            self._alone.append((node, cluster))
        self._changed[id(cluster)] = cluster
        self._nodes.clusters[cluster.root] = cluster

    def _merge(self, units: Sequence[Node | Cluster], key: tuple[int, str]) -> Cluster:
        """Make these one cluster. The one with the smallest root takes the others in."""
        clusters = [unit for unit in units if isinstance(unit, Cluster)]
        singles = [unit for unit in units if isinstance(unit, Node)]
        counts: dict[str, int] = {}
        for unit in units:
            for kind, count in self._group(unit).counts.items():
                counts[kind] = counts.get(kind, 0) + count
        names = [unit if isinstance(unit, Node) else unit.canonical for unit in units]
        named = min(names, key=lambda node: (self._rules.rank(node.kind), node.value))
        root = min(unit.node if isinstance(unit, Node) else unit.root for unit in units)
        target = min(clusters, key=lambda cluster: cluster.root, default=None)
        if target is None or target.root != root:
            merged = Cluster(root, named, None)
            for cluster in clusters:
                self._absorb(cluster, merged)
            target = merged
        else:
            for cluster in clusters:
                if cluster is not target:
                    self._absorb(cluster, target)
        # All its ids have another name now, or ids came whose names are only in the file.
        if clusters and (len(clusters) > 1 or named is not clusters[0].canonical):
            target.renamed = True
        for cluster in clusters:
            target.renamed |= cluster.renamed
            if cluster is not target:
                target.joined += cluster.joined
        for node in singles:
            node.held_by = target
            target.joined += (node,)
            self._alone.append((node, target))
        lasts = [cluster.last for cluster in clusters]
        target.canonical, target.counts = named, counts
        target.last = None if None in lasts else max(key, *(last for last in lasts if last is not None), key)
        self._changed[id(target)] = target
        self._nodes.clusters[target.root] = target
        return target

    def _absorb(self, cluster: Cluster, target: Cluster) -> None:
        cluster.into = target
        self._absorbed[cluster.root] = target

    def _contest(self, nodes: Sequence[Node]) -> int:
        """Make the components of these nodes one, contested; returns its number."""
        components = {cluster.component for node in nodes if (cluster := node.cluster) is not None} - {None}
        units = self._units(nodes)
        component = min(
            [each for each in components if each is not None]
            or [min(unit.node if isinstance(unit, Node) else unit.root for unit in units)]
        )
        others = components - {component}
        if others:
            # Two quarrels meet: every profile of the smaller numbers' components moves over.
            for other in others:
                self._connection.execute("UPDATE profile SET component = ? WHERE component = ?", (component, other))
                self._connection.execute("DELETE FROM contested WHERE component = ?", (other,))
                self._last.pop(other, None)  # type: ignore[arg-type]
            for cluster in self._nodes.clusters.values():
                if cluster.component in others:
                    cluster.component = component
        for unit in units:
            if isinstance(unit, Node):
                cluster = Cluster(unit.node, unit, component)
                cluster.counts = {unit.kind: 1}
                unit.held_by = cluster
                self._nodes.clusters[cluster.root] = cluster
                self._changed[id(cluster)] = cluster
            elif unit.component != component:
                unit.component = component
                self._changed[id(unit)] = unit
        return component

    def _last_of(self, units: Sequence[Node | Cluster]) -> tuple[int, str] | None:
        """(timestamp, message id) of the last bond of the components that these lie in; None where only a replay could tell."""
        found: tuple[int, str] = (-(2**63), "")
        for unit in units:
            if isinstance(unit, Node):
                continue  # an id that is alone, and not contested, has no bonds
            last = unit.last
            if unit.component is not None:
                last = (
                    self._last.get(unit.component)
                    or self._connection.execute(
                        "SELECT timestamp, message_id FROM contested WHERE component = ?", (unit.component,)
                    ).fetchone()
                )
            elif last is None:
                if id(unit) in self._changed:
                    return None  # some of its bonds are in the file and some are not; a replay knows them all
                last = unit.last = self._bonds.last(self._peers(unit.root))
            if last is not None:
                found = max(found, (last[0], last[1]))
        return found

    def _is_as_if_last(self, nodes: Sequence[Node], accepted: int, key: tuple[int, str]) -> bool:
        """Whether it is sure that a late bond does to profiles what it would do as the last, joining the first so many ids; ``nodes`` by priority.

        It was joining those at its time if what they are now fits together: groups were smaller. Then all that was joined later is joined
        still, because it is part of that, and all that was left out is left out still, because groups are no smaller. And it was joining no
        more, if what at least was one profile with these ids at the time does not fit together with the next. Nothing of it holds by arrival.
        """
        if self._rules.order == "arrival" or self._bonds.forced:
            return False
        if accepted > 1 and not fits(
            [self._group(unit) for unit in self._units(nodes[:accepted])], self._rules, key[0]
        ):
            return False  # somebody joined them by hand
        if accepted == len(nodes):
            return True
        held = frozenset[Id]().union(*(self._held_at(node, key) for node in nodes[: accepted + 1]))
        return not fits([Group(held)], self._rules, key[0])

    def _held_at(self, node: Node, key: tuple[int, str]) -> frozenset[Id]:
        """Ids that were one profile with a node's before a bond; not all, where this batch changed it."""
        found = frozenset([(node.kind, node.value)])
        cluster = node.cluster
        if cluster is None or cluster.component is None or id(cluster) in self._changed:
            return found
        if cluster.root not in self._pasts:
            self._pasts[cluster.root] = self._past(cluster)
        past = [ids for at, ids in self._pasts[cluster.root] if at < key]
        while True:  # at most once an id of the profile
            grown = found.union(*(ids for ids in past if not found.isdisjoint(ids)))
            if grown == found:
                return found
            found = grown

    def _past(self, cluster: Cluster) -> list[tuple[tuple[int, str], frozenset[Id]]]:
        """What joined the ids of a profile, when: of each bond the ids up to the first that is of another profile. That one was left
        out then, and groups only grow. None of it is said where somebody joined ids by hand, whatever the limits say.
        """
        members = set(self._peers(cluster.root))
        rows = self._bonds.within(members)
        if any(row[4] in FORCED_RULES for row in rows):
            return []
        names = self._names(members.union(*(nodes_of(row[1]) for row in rows)))
        inside = {names[node] for node in members}
        found = []
        for _number, key, timestamp, message_id, _rule in rows:
            joined = frozenset(itertools.takewhile(inside.__contains__, self._bonds.ordered(key, names)))
            found.append(((timestamp, message_id), joined))
        return found

    # The file.

    def _store(self, clusters: Sequence[Cluster]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO profile (root, canonical, component) VALUES (?, ?, ?)",
            [(each.root, each.canonical.node, each.component) for each in clusters],
        )
        for cluster in clusters:
            if cluster.renamed:
                for node in self._peers(cluster.root):
                    self.moved[node] = self._nodes.by_number(node)
            else:
                # An id that was alone and names the profile now has the name that it had.
                self.moved.update((node.node, node) for node in cluster.joined if node is not cluster.canonical)
            cluster.joined, cluster.renamed = (), False

    def _peers(self, node: int) -> list[int]:
        """All nodes of a node's profile, as the file has them."""
        return profile_nodes(self._connection, profile_root(self._connection, node))

    def _names(self, nodes: Iterable[int]) -> dict[int, Id]:
        found: dict[int, Id] = {}
        unknown = []
        for node in nodes:
            known = self._nodes.alive.get(node)
            if known is None:
                unknown.append(node)
            else:
                found[node] = (known.kind, known.value)
        for some in parts(unknown):
            rows = self._connection.execute(
                "SELECT node, kind, external_id.value FROM json_each(?) JOIN external_id ON node = json_each.value",
                (json.dumps(some),),
            )
            found.update((node, (kind, value)) for node, kind, value in rows)
        return found

    def _replace(
        self,
        members: set[int],
        profiles: Sequence[tuple[list[int], int, int | None]],
        contested: dict[int, tuple[int, str]],
    ) -> None:
        """Store what a replay found of these nodes: profiles (nodes, the one that names it, component) and the last bond of each component.
        Of a large component most stays as it is: only what is another than before is written.
        """
        before: dict[int, tuple[int, int]] = {}
        rows: dict[int, tuple[int, int | None]] = {}
        for some in parts(list(members)):
            for node, root, named, component in self._connection.execute(
                "SELECT node, external_id.profile, canonical, component FROM json_each(?) JOIN external_id ON node = json_each.value"
                " LEFT JOIN profile ON profile.root = external_id.profile",
                (json.dumps(some),),
            ):
                before[node] = (root, node if named is None else named)
                if named is not None:
                    rows[root] = (named, component)
                self._nodes.clusters.pop(root, None)
                if (known := self._nodes.alive.get(node)) is not None:
                    known.held_by = None
        now = {
            min(nodes): (named, component)
            for nodes, named, component in profiles
            if len(nodes) > 1 or component is not None
        }
        execute = self._connection.executemany
        execute(
            "UPDATE external_id SET profile = ? WHERE node = ?",
            [
                (root, node)
                for nodes, *_rest in profiles
                for root in [min(nodes)]
                for node in nodes
                if before[node][0] != root
            ],
        )
        execute("DELETE FROM profile WHERE root = ?", [(root,) for root in rows if root not in now])
        execute(
            "INSERT OR REPLACE INTO profile VALUES (?, ?, ?)",
            [(root, *row) for root, row in now.items() if rows.get(root) != row],
        )
        ended = {component for _named, component in rows.values()} - {None, *contested}
        execute("DELETE FROM contested WHERE component = ?", [(component,) for component in ended])
        execute(
            "INSERT OR REPLACE INTO contested VALUES (?, ?, ?)",
            [(component, *last) for component, last in contested.items()],
        )
        # The file is right again: nodes may be read from it.
        for nodes, named, component in profiles:
            if len(nodes) > 1 or component is not None:
                self._know(nodes, named, component)
            for node in nodes:
                if before[node][1] != named or node in self.moved:
                    self.moved[node] = self._nodes.by_number(node)
                    self.left.add(before[node][1])

    def _know(self, nodes: Sequence[int], named: int, component: int | None) -> None:
        """These are one cluster for whoever of them is in memory."""
        known = [node for each in nodes if (node := self._nodes.alive.get(each)) is not None]
        if known:
            cluster = Cluster(min(nodes), self._nodes.by_number(named), component)
            cluster.canonical.held_by = cluster
            self._nodes.clusters[cluster.root] = cluster
            for node in known:
                node.held_by = cluster


def _are_plain(nodes: Sequence[Node]) -> bool:
    """Ids that are alone, of one type each: no limit can keep them apart."""
    for node in nodes:
        if node.held_by is not None:
            return False
    return len({node.kind for node in nodes}) == len(nodes)


def _connected(bonds: Iterable[object], names: Iterable[Id]) -> dict[Id, Id]:
    """Id → an id that stands for all that bonds connect with it, refused or not."""
    above: dict[Id, Id] = {name: name for name in names}

    def top(name: Id) -> Id:
        while above[name] != name:
            above[name] = above[above[name]]
            name = above[name]
        return name

    for bond in bonds:
        first, *rest = bond.ids  # type: ignore[attr-defined]
        for other in rest:
            above[top(other)] = top(first)
    return {name: top(name) for name in list(above)}
