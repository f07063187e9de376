-- One identity's graph. Written by segment_do/identity/database.py when the file is new; one file an identity.
-- Times are microseconds since the epoch, UTC; days are UTC days since the epoch.
BEGIN IMMEDIATE;

-- One row. `identity` is bytes because an identity's name may be any text, lone surrogates included.
CREATE TABLE meta (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    identity BLOB NOT NULL,
    born     INTEGER NOT NULL, -- second in which the file was made: a graph that begins anew is told from its forerunner
    epoch    INTEGER NOT NULL
);

-- Nodes of the graph: user_id, anonymous_id, group_id. `node` is ours, dense, never reused.
-- `last_seen` is rounded down to the hour, so that an id costs at most one write an hour.
CREATE TABLE external_id (
    node       INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    UNIQUE (kind, value)
);

-- The earliest event, by (timestamp, message_id), that carried an anonymous id and a user id: it decides.
CREATE TABLE link (
    anonymous  INTEGER PRIMARY KEY,
    user       INTEGER NOT NULL,
    timestamp  INTEGER NOT NULL,
    message_id TEXT NOT NULL
);
CREATE INDEX link_of_user ON link (user, timestamp, message_id);

-- Last write wins a name, by (timestamp, message_id, value). `value` is JSON text as it was sent.
CREATE TABLE trait (
    node       INTEGER NOT NULL,
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    timestamp  INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY (node, name)
) WITHOUT ROWID;

-- Group calls: which user or anonymous id belongs to which group_id.
CREATE TABLE membership (
    member  INTEGER NOT NULL,
    account INTEGER NOT NULL,
    PRIMARY KEY (member, account)
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

PRAGMA user_version = 1;
COMMIT;
