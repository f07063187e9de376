"""The ledger's SQL: its schema, and the statements of ``ledger.py``. Placeholders only; nothing is put together."""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 1

# Triggers keep the two counts that bounds depend on, so that no statement can leave them wrong.
SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE cursors (consumer TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE retries (
    destination TEXT NOT NULL, offset INTEGER NOT NULL, message_id TEXT NOT NULL,
    attempts INTEGER NOT NULL, first_failed_at INTEGER NOT NULL, next_at INTEGER NOT NULL,
    last_status INTEGER, last_reason TEXT NOT NULL, event BLOB NOT NULL,
    PRIMARY KEY (destination, offset)
);
CREATE INDEX retries_due ON retries (destination, next_at, offset);
CREATE INDEX retries_message ON retries (message_id);
CREATE TABLE dead (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL, offset INTEGER NOT NULL, message_id TEXT NOT NULL, at INTEGER NOT NULL,
    attempts INTEGER NOT NULL, status INTEGER, response TEXT NOT NULL, reason TEXT NOT NULL, event BLOB NOT NULL,
    UNIQUE (destination, offset)
);
CREATE INDEX dead_age ON dead (destination, number);
CREATE INDEX dead_message ON dead (message_id);
CREATE TABLE counters (
    destination TEXT PRIMARY KEY, delivered INTEGER NOT NULL DEFAULT 0, skipped INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0, retrying INTEGER NOT NULL DEFAULT 0, dead INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TRIGGER retries_in AFTER INSERT ON retries
BEGIN UPDATE counters SET retrying = retrying + 1 WHERE destination = NEW.destination; END;
CREATE TRIGGER retries_out AFTER DELETE ON retries
BEGIN UPDATE counters SET retrying = retrying - 1 WHERE destination = OLD.destination; END;
CREATE TRIGGER dead_in AFTER INSERT ON dead
BEGIN UPDATE counters SET dead = dead + 1 WHERE destination = NEW.destination; END;
CREATE TRIGGER dead_out AFTER DELETE ON dead
BEGIN UPDATE counters SET dead = dead - 1 WHERE destination = OLD.destination; END;
PRAGMA user_version = 1;
COMMIT;
"""

# Dead letters that a replay has chosen; written down first, because moving them changes what the choice depends on.
CHOSEN: Final = "CREATE TEMP TABLE chosen (number INTEGER PRIMARY KEY)"

CURSORS: Final = "SELECT consumer, offset FROM cursors"
CURSOR_OF: Final = "SELECT offset FROM cursors WHERE consumer = ?"
FIRST_CURSOR: Final = "INSERT OR IGNORE INTO cursors (consumer, offset) VALUES (?, ?)"
SET_CURSOR: Final = "INSERT OR REPLACE INTO cursors (consumer, offset) VALUES (?, ?)"

# The triggers count in this row; it has to be there before them.
FIRST_COUNTERS: Final = "INSERT OR IGNORE INTO counters (destination) VALUES (?)"
COUNTS: Final = "SELECT delivered, skipped, dropped, retrying, dead FROM counters WHERE destination = ?"
ADD_DELIVERED: Final = "UPDATE counters SET delivered = delivered + ? WHERE destination = ?"
ADD_SKIPPED: Final = "UPDATE counters SET skipped = skipped + ? WHERE destination = ?"

ADD_RETRY: Final = """
INSERT INTO retries (destination, offset, message_id, attempts, first_failed_at, next_at, last_status, last_reason,
    event)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
RETRY_AGAIN: Final = """
UPDATE retries SET attempts = ?, next_at = ?, last_status = ?, last_reason = ? WHERE destination = ? AND offset = ?"""
RETRY_GONE: Final = "DELETE FROM retries WHERE destination = ? AND offset = ?"
RETRIES_BETWEEN_GONE: Final = "DELETE FROM retries WHERE destination = ? AND offset >= ? AND offset < ?"
DUE: Final = """
SELECT offset, message_id, attempts, first_failed_at, next_at, last_status, last_reason, event
FROM retries WHERE destination = ? AND next_at <= ? ORDER BY next_at, offset LIMIT ?"""
NEXT_DUE: Final = "SELECT min(next_at) FROM retries WHERE destination = ?"

ADD_DEAD: Final = """
INSERT INTO dead (destination, offset, message_id, at, attempts, status, response, reason, event)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
ADD_DEAD_IF_RETRIED: Final = """
INSERT INTO dead (destination, offset, message_id, at, attempts, status, response, reason, event)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM retries WHERE destination = ? AND offset = ?)"""
DEAD_BETWEEN_GONE: Final = "DELETE FROM dead WHERE destination = ? AND offset >= ? AND offset < ?"
COUNT_EXCESS: Final = "UPDATE counters SET dropped = dropped + max(0, dead - ?) WHERE destination = ?"
DROP_EXCESS: Final = """
DELETE FROM dead WHERE number IN (
    SELECT number FROM dead WHERE destination = ? ORDER BY number
    LIMIT max(0, (SELECT dead FROM counters WHERE destination = ?) - ?))"""
NEWEST_DEAD: Final = """
SELECT offset, message_id, at, attempts, status, response, reason, event
FROM dead WHERE destination = ? ORDER BY number DESC LIMIT ?"""

CHOOSE_NONE: Final = "DELETE FROM chosen"
CHOOSE_DEAD: Final = """
INSERT INTO chosen SELECT number FROM dead WHERE destination = ? ORDER BY number
LIMIT max(0, ? - (SELECT retrying FROM counters WHERE destination = ?))"""
RETRY_CHOSEN: Final = """
INSERT INTO retries (destination, offset, message_id, attempts, first_failed_at, next_at, last_status, last_reason,
    event)
SELECT destination, offset, message_id, 0, ?, ?, status, reason, event
FROM dead WHERE number IN (SELECT number FROM chosen)"""
CHOSEN_GONE: Final = "DELETE FROM dead WHERE number IN (SELECT number FROM chosen)"
REPLAYED: Final = """
SELECT (SELECT count(*) FROM chosen), delivered, skipped, dropped, retrying, dead
FROM counters WHERE destination = ?"""

FORGET: Final = (
    "DELETE FROM retries WHERE destination = ?",
    "DELETE FROM dead WHERE destination = ?",
    "DELETE FROM counters WHERE destination = ?",
    "DELETE FROM cursors WHERE consumer = ?",
)
FIND: Final = """
SELECT destination, 'dead' FROM dead WHERE message_id = ?
UNION ALL SELECT destination, 'retrying' FROM retries WHERE message_id = ?"""
