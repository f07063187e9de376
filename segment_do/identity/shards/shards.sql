-- What one shard has beside an identity's graph (../schema.sql). Written when the file is new, in the same transaction.

-- One row: under which layout this file was begun.
CREATE TABLE shard (
    layout    TEXT NOT NULL,
    last_bond INTEGER NOT NULL DEFAULT 0 -- bonds are never numbered again up to here, though they moved away
);

-- Links: this id, which this shard owns, belongs where its parent belongs. A parent is always smaller in the one order of all ids.
-- `id`: the first 63 bits of the profile id that this id makes.
CREATE TABLE link (
    kind         TEXT NOT NULL,
    value        TEXT NOT NULL,
    parent_kind  TEXT NOT NULL,
    parent_value TEXT NOT NULL,
    id           INTEGER NOT NULL,
    PRIMARY KEY (kind, value)
) WITHOUT ROWID;
CREATE INDEX link_of_id ON link (id);

-- Trees that have ids here, each named by its root, and the ids that lie in each. `generation` rises when an id's facts come from another
-- shard: what is told of an id in a higher generation is later, whichever way it went.
CREATE TABLE tree (
    number INTEGER PRIMARY KEY,
    kind   TEXT NOT NULL,
    value  TEXT NOT NULL,
    UNIQUE (kind, value)
);
CREATE TABLE resident (
    node       INTEGER PRIMARY KEY,
    tree       INTEGER NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX resident_of_tree ON resident (tree);

-- Letters to other shards that they have not confirmed, those of one step to one shard in a row; and the last that came from each.
CREATE TABLE letter (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    shard TEXT NOT NULL,
    body  BLOB NOT NULL
);
CREATE INDEX letter_to_shard ON letter (shard, seq);
CREATE TABLE heard (
    shard TEXT PRIMARY KEY,
    born  INTEGER NOT NULL,
    seq   INTEGER NOT NULL
) WITHOUT ROWID;
