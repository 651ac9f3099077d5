-- Types are those that PostgreSQL and SQLite both know. Times are Unix times in seconds, digests
-- are hexadecimal, and an empty text stands for what is not there.

CREATE TABLE organisation (
    name TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

-- One row. Whoever changes anything locks it first, so changes come one after the other.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, '');

CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    call_name TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
);

CREATE TABLE begin_codes (
    hash TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE groups_of_endpoints (
    name TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE codes (
    hash TEXT PRIMARY KEY,
    group_name TEXT NOT NULL REFERENCES groups_of_endpoints (name) ON DELETE CASCADE,
    approval BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_by TEXT NOT NULL
);

CREATE TABLE endpoints (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    group_name TEXT NOT NULL REFERENCES groups_of_endpoints (name),
    state TEXT NOT NULL,
    because TEXT NOT NULL,
    key_hash TEXT NOT NULL UNIQUE,
    step_before TEXT NOT NULL,
    step_now TEXT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    report TEXT NOT NULL
);
CREATE INDEX endpoints_by_group ON endpoints (group_name, id);

CREATE TABLE livepcs (
    name TEXT PRIMARY KEY,
    location TEXT NOT NULL,
    mirrors TEXT NOT NULL
);

CREATE TABLE assignments (
    livepc TEXT NOT NULL REFERENCES livepcs (name),
    scope TEXT NOT NULL,
    PRIMARY KEY (livepc, scope)
);
CREATE INDEX assignments_by_scope ON assignments (scope);

CREATE TABLE anchors (
    sha256 TEXT PRIMARY KEY,
    root TEXT NOT NULL,
    added_at BIGINT NOT NULL
);
