-- What endpoints are to do. A number is that of the change which ordered it, so it only grows; a
-- time of 0 stands for what has not come.

CREATE TABLE actions (
    id BIGINT PRIMARY KEY,
    endpoint TEXT NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    action TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    done_at BIGINT NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX actions_by_endpoint ON actions (endpoint, done_at, id);
