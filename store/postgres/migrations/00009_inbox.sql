-- +goose Up

-- Events from outside for calls in progress: the process that serves a call
-- takes them from here, whichever process they were sent to.
CREATE TABLE call_inbox (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    call_id   uuid NOT NULL,
    event     text NOT NULL CHECK (length(event) BETWEEN 1 AND 100),
    data      jsonb,
    at        timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, call_id) REFERENCES calls (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX call_inbox_call ON call_inbox (tenant_id, call_id, id);
ALTER TABLE call_inbox ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON call_inbox USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, DELETE ON call_inbox TO parley_app;

-- +goose Down
DROP TABLE call_inbox;
