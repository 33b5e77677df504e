"""The tables of the fake Stripe. `movements` is the oracle: rows are only ever added, which triggers enforce."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  created INTEGER NOT NULL,
  owner TEXT,                       -- the intent of a charge or refund, the payout of a balance transaction
  subject TEXT,                     -- the source of a balance transaction, the type of an event
  visible_at_ms INTEGER NOT NULL DEFAULT 0,
  document TEXT NOT NULL,
  private TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (kind, sequence);
CREATE INDEX IF NOT EXISTS objects_by_owner ON objects (owner, kind, sequence);
CREATE INDEX IF NOT EXISTS objects_by_subject ON objects (subject, kind, sequence);
CREATE TABLE IF NOT EXISTS metadata_index (
  key TEXT NOT NULL, value TEXT NOT NULL, object_id TEXT NOT NULL, PRIMARY KEY (key, value, object_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS movements (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  effect TEXT NOT NULL,
  intent TEXT,
  object_id TEXT NOT NULL,
  amount INTEGER NOT NULL,
  currency TEXT NOT NULL,
  metadata TEXT NOT NULL,
  idempotency_key TEXT,
  at_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS movements_by_intent ON movements (intent);
CREATE INDEX IF NOT EXISTS movements_by_object ON movements (object_id);
CREATE TRIGGER IF NOT EXISTS movements_are_never_changed BEFORE UPDATE ON movements
  BEGIN SELECT RAISE(ABORT, 'movements are append-only'); END;
CREATE TRIGGER IF NOT EXISTS movements_are_never_deleted BEFORE DELETE ON movements
  BEGIN SELECT RAISE(ABORT, 'movements are append-only'); END;
CREATE TABLE IF NOT EXISTS idempotency (
  key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
  request_id TEXT NOT NULL, created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL, subject TEXT NOT NULL, due_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'waiting', last_result TEXT
);
CREATE INDEX IF NOT EXISTS deliveries_waiting ON deliveries (due_ms) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS deliveries_by_event ON deliveries (event_id);
CREATE TABLE IF NOT EXISTS timers (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, due_ms INTEGER NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS timers_due ON timers (due_ms);
CREATE INDEX IF NOT EXISTS timers_by_subject ON timers (subject);
CREATE TABLE IF NOT EXISTS fired_faults (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, operation TEXT NOT NULL, kind TEXT NOT NULL,
  subject TEXT NOT NULL, cause TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS fired_faults_by_subject ON fired_faults (subject);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
