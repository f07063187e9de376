-- One identity's graph. Written by segment_do/identity/database.py when the file is new; one file an identity.
-- Times are microseconds since the epoch, UTC; days are UTC days since the epoch.
BEGIN IMMEDIATE;

-- One row. `identity` is bytes because an identity's name may be any text, lone surrogates included.
CREATE TABLE meta (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    identity BLOB NOT NULL,
    born     INTEGER NOT NULL, -- second in which the file was made: a graph that begins anew is told from its forerunner
    epoch    INTEGER NOT NULL,
    rules    TEXT, -- this identity's own rules, JSON; NULL: those of the settings
    forced   INTEGER NOT NULL DEFAULT 0 -- whether ids were ever joined whatever the limits say, by hand or by an alias
);

-- Nodes of the graph: one external id each. `node` is ours, dense, never reused.
-- `profile` is the smallest node of the profile that it belongs to. `first_seen`, `source` and `message_id` are those of the
-- earliest event that carried it; `last_seen` is rounded down to the hour, so that an id costs at most one write an hour.
-- `short` is made of kind and value: the first 63 bits of its profile id. Two ids may share one, so whoever looks for an id compares
-- kind and value, too. An index of numbers is half as large as one of texts, and spreads new ids no wider than those do.
CREATE TABLE external_id (
    node       INTEGER PRIMARY KEY,
    short      INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    profile    INTEGER NOT NULL,
    source     TEXT NOT NULL,
    message_id TEXT NOT NULL
);
CREATE INDEX external_id_of_short ON external_id (short);
-- Most profiles are one id alone; those are not in here.
CREATE INDEX external_id_of_profile ON external_id (profile) WHERE profile <> node;

-- Profiles of several ids, and those of one that lie in a contested component. `canonical` is the node that names the profile.
-- A component is everything that events ever brought together; it is contested once a limit kept some of it apart.
CREATE TABLE profile (
    root      INTEGER PRIMARY KEY,
    canonical INTEGER NOT NULL,
    component INTEGER
);
CREATE INDEX profile_of_component ON profile (component) WHERE component IS NOT NULL;

-- The last bond of a contested component, in the order in which bonds count: a later one needs no look at the others.
CREATE TABLE contested (
    component  INTEGER PRIMARY KEY,
    timestamp  INTEGER NOT NULL,
    message_id TEXT NOT NULL
);

-- Ids that one event carried together: of each such set (and day, where a limit holds for some time only) the earliest event.
-- `nodes` is the set: 8 bytes each, ascending, then the day, then "!" where it holds whatever the limits say. `cut` is when somebody undid it.
CREATE TABLE bond (
    bond       INTEGER NOT NULL UNIQUE,
    nodes      BLOB PRIMARY KEY,
    timestamp  INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    source     TEXT NOT NULL,
    rule       TEXT NOT NULL, -- type of the event; `alias` and `manual` hold whatever the limits say
    cut        INTEGER
) WITHOUT ROWID; -- asked for by its nodes, for nearly every event of a profile that was not active lately
CREATE TABLE bond_of (
    node INTEGER NOT NULL,
    bond INTEGER NOT NULL,
    PRIMARY KEY (node, bond)
) WITHOUT ROWID;

-- What people did by hand: merges, splits, cuts, changed rules.
CREATE TABLE audit (
    line   INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL
);

-- Last write wins a name, by (timestamp, message_id, value, source). `value` is JSON text as it was sent.
CREATE TABLE trait (
    node       INTEGER NOT NULL,
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    timestamp  INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    source     TEXT NOT NULL,
    PRIMARY KEY (node, name)
) WITHOUT ROWID;

-- Earlier values of a trait: of each that is not the one in `trait`, the last event that set it. At most 9 a name (see the trigger), those
-- set last; which remain is a function of the events, in whatever order they came.
CREATE TABLE trait_history (
    node       INTEGER NOT NULL,
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    timestamp  INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    source     TEXT NOT NULL,
    PRIMARY KEY (node, name, value)
) WITHOUT ROWID;
CREATE TRIGGER trait_replaced AFTER UPDATE OF value ON trait WHEN OLD.value <> NEW.value
BEGIN
    DELETE FROM trait_history WHERE node = NEW.node AND name = NEW.name AND value = NEW.value;
    INSERT INTO trait_history VALUES (OLD.node, OLD.name, OLD.value, OLD.timestamp, OLD.message_id, OLD.source);
END;
CREATE TRIGGER trait_history_bounded AFTER INSERT ON trait_history
BEGIN
    DELETE FROM trait_history WHERE node = NEW.node AND name = NEW.name AND value = (
        SELECT value FROM trait_history WHERE node = NEW.node AND name = NEW.name
        ORDER BY timestamp DESC, message_id DESC, value DESC LIMIT 1 OFFSET 9
    );
END;
CREATE TRIGGER trait_gone AFTER DELETE ON trait
BEGIN
    DELETE FROM trait_history WHERE node = OLD.node AND name = OLD.name;
END;

-- Accounts of a user or anonymous id: group calls, and groups that events name in their context. Named, not numbered: the account may
-- lie in another shard. `member` is the same from the account's side.
CREATE TABLE membership (
    node  INTEGER NOT NULL,
    kind  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (node, kind, value)
) WITHOUT ROWID;
CREATE TABLE member (
    node  INTEGER NOT NULL,
    kind  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (node, kind, value)
) WITHOUT ROWID;

-- Computed traits and audiences. `number` is never used twice. `body` is the definition, JSON. `filling`: events of before `since`
-- (microseconds) are still being counted, up to the position `filled` of `target` (NULL: not known yet), and nothing is told of values
-- yet. `cursor`: profiles of nodes up to it have been looked at since the definition changed; NULL: all. `declared`: it is from the
-- settings. `dropped`: replaced or deleted, its states are to go.
CREATE TABLE computation (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    key     TEXT NOT NULL,
    body    TEXT NOT NULL,
    since   INTEGER NOT NULL,
    filling INTEGER NOT NULL,
    filled  INTEGER NOT NULL DEFAULT -1,
    target  INTEGER,
    cursor  INTEGER,
    declared INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX computation_of_key ON computation (key) WHERE NOT dropped;

-- What the events of an external id add up to, for one figure (`part`) of a computation; by UTC day where it has a window, else day 0.
CREATE TABLE computed_state (
    computation INTEGER NOT NULL,
    node        INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    day         INTEGER NOT NULL,
    state       TEXT NOT NULL,
    PRIMARY KEY (computation, node, part, day)
) WITHOUT ROWID;
CREATE INDEX computed_state_of_day ON computed_state (computation, part, day) WHERE day <> 0;

-- What was last told of a profile, by the node that names it, or once did. `value` is JSON; one that says nothing (0, null, [], false) has
-- no row, or an empty one where ids may move to another graph. `until`: of a session that is over then.
CREATE TABLE computed_value (
    computation INTEGER NOT NULL,
    node        INTEGER NOT NULL,
    value       TEXT NOT NULL,
    updated_at  INTEGER NOT NULL, -- microseconds
    until       INTEGER, -- microseconds
    PRIMARY KEY (computation, node)
) WITHOUT ROWID;
CREATE INDEX computed_value_until ON computed_value (until) WHERE until IS NOT NULL;

-- While a computation is filled: keys of message ids that were received about when it began, and counted when they were applied.
CREATE TABLE computed_early (
    computation INTEGER NOT NULL,
    key         BLOB NOT NULL,
    PRIMARY KEY (computation, key)
) WITHOUT ROWID;

-- Accepted events that the queue has not confirmed. AUTOINCREMENT: a seq is never used twice, also after deletes.
CREATE TABLE outbox (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    count INTEGER NOT NULL,
    pack  BLOB NOT NULL
);

-- Keys of message ids (16 bytes each, joined), one row a batch and day, until they become a run.
CREATE TABLE seen_recent (
    id   INTEGER PRIMARY KEY,
    day  INTEGER NOT NULL,
    keys BLOB NOT NULL
);

-- Immutable sorted files of keys: seen/<id>.run. A file without a row here is left over from a crash.
CREATE TABLE seen_run (
    id    INTEGER PRIMARY KEY,
    day   INTEGER NOT NULL,
    count INTEGER NOT NULL
);

PRAGMA user_version = 9;
COMMIT;
