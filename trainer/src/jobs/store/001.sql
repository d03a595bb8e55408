CREATE TABLE jobs (
    id                 TEXT PRIMARY KEY,
    name               TEXT NOT NULL,
    state              TEXT NOT NULL,
    reason             TEXT NOT NULL,
    priority           INTEGER NOT NULL,
    created_ms         INTEGER NOT NULL,
    started_ms         INTEGER,
    ended_ms           INTEGER,
    stage              TEXT NOT NULL,
    step               INTEGER NOT NULL,
    steps              INTEGER NOT NULL,
    attempts           INTEGER NOT NULL,
    asked              TEXT,
    idempotency_key    TEXT UNIQUE,
    toml               TEXT NOT NULL,
    base_dir           TEXT NOT NULL,
    skip_verifier_gate INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
    job_id  TEXT NOT NULL REFERENCES jobs (id),
    cursor  INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (job_id, cursor)
) STRICT, WITHOUT ROWID;
