"""Which ids are one profile: joined as bonds come in, and worked out anew where the order of events matters.

While everything that events ever brought together keeps within the limits, clusters only grow, and no order matters. Where a limit keeps
something apart, all that hangs together is *contested*: a later event is decided on top of what there is, an earlier one has the whole
component replayed in the order of its events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from segment_do.identity.bonds import Bonds
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
        if not news or forced or self._rules.windowed or not self._is_last(units, key):
            self._replay.update(node.node for node in nodes)
            return
        groups = {id(unit): self._group(unit) for unit in units}
        accepted = decide([groups[id(node.cluster or node)] for node in nodes], self._rules, timestamp)
        component = self._contest(nodes)
        if accepted > 1:
            self._merge(self._units(nodes[:accepted]), key).component = component
        self._last[component] = key

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
        self._changed, self._absorbed, self._alone, self._last = {}, {}, [], {}
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
        for name in names.values():
            totals.setdefault(component_of[name], Group([])).ids.append(name)
        contested = {
            root: not fits([Group(total.ids)], self._rules, 0) or self._rules.windowed for root, total in totals.items()
        }
        before = self._profiles(members)
        self._forget(members, before)
        done: set[int] = set()
        for name, node in numbers.items():
            if node in done:
                continue
            ids = groups[name].ids if name in groups else [name]
            inside = [numbers[each] for each in ids]
            done.update(inside)
            component = component_of[name]
            marked = min(numbers[each] for each in totals[component].ids) if contested[component] else None
            self._place(inside, numbers[canonical(ids, self._rules)], marked)
        for component, total in totals.items():
            if contested[component]:
                last = max(
                    (bond.timestamp, bond.message_id) for bond in bonds if component_of[bond.ids[0]] == component
                )
                marked = min(numbers[each] for each in total.ids)
                self._connection.execute("INSERT OR REPLACE INTO contested VALUES (?, ?, ?)", (marked, *last))
        self._note_moves(before, members)

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

    def _is_last(self, units: Sequence[Node | Cluster], key: tuple[int, str]) -> bool:
        """Whether a bond counts after every other of the components that it touches."""
        if self._rules.order == "arrival":
            return True
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
                    return False  # some of its bonds are in the file and some are not; a replay knows them all
                last = unit.last = self._bonds.last(self._peers(unit.root))
            if last is not None and tuple(last) >= key:
                return False
        return True

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
        found = {}
        for node in nodes:
            known = self._nodes.alive.get(node)
            found[node] = (
                (known.kind, known.value)
                if known is not None
                else self._connection.execute("SELECT kind, value FROM external_id WHERE node = ?", (node,)).fetchone()
            )
        return found

    def _profiles(self, nodes: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Node → (root of its profile, node that names it)."""
        return {
            node: self._connection.execute(
                "SELECT profile, coalesce(canonical, node) FROM external_id LEFT JOIN profile ON root = profile"
                " WHERE node = ?",
                (node,),
            ).fetchone()
            for node in nodes
        }

    def _forget(self, nodes: Iterable[int], before: dict[int, tuple[int, int]]) -> None:
        roots = {root for root, _named in before.values()}
        self._connection.executemany(
            "DELETE FROM contested WHERE component = (SELECT component FROM profile WHERE root = ?)",
            [(root,) for root in roots],
        )
        self._connection.executemany("DELETE FROM profile WHERE root = ?", [(root,) for root in roots])
        for root in roots:
            self._nodes.clusters.pop(root, None)
        for node in nodes:
            if (known := self._nodes.alive.get(node)) is not None:
                known.held_by = None

    def _place(self, nodes: Sequence[int], named: int, component: int | None) -> None:
        """Store what a replay found: these are one profile."""
        root = min(nodes)
        self._connection.executemany(
            "UPDATE external_id SET profile = ? WHERE node = ? AND profile <> ?", [(root, node, root) for node in nodes]
        )
        if len(nodes) == 1 and component is None:
            return
        self._connection.execute("INSERT OR REPLACE INTO profile VALUES (?, ?, ?)", (root, named, component))
        known = [node for each in nodes if (node := self._nodes.alive.get(each)) is not None]
        if known:
            cluster = Cluster(root, self._nodes.by_number(named), component)
            cluster.canonical.held_by = cluster
            self._nodes.clusters[root] = cluster
            for node in known:
                node.held_by = cluster

    def _note_moves(self, before: dict[int, tuple[int, int]], members: Iterable[int]) -> None:
        after = self._profiles(members)
        for node, (_root, named) in after.items():
            if before[node][1] != named or node in self.moved:
                self.moved[node] = self._nodes.by_number(node)
                self.left.add(before[node][1])


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
