-- Work after a call is ordered with its end, and done once: its row is there from
-- then on, and leaves "pending" by one conditional update, which writes the event.

-- +goose Up
ALTER TABLE call_afterwork DROP CONSTRAINT call_afterwork_status_check,
    ADD CONSTRAINT call_afterwork_status_check CHECK (status IN ('pending', 'done', 'failed')),
    ADD outcome text NOT NULL DEFAULT '',          -- one of the agent's own labels
    ADD partial boolean NOT NULL DEFAULT false,    -- the call was too long to be read whole
    ADD attempts int NOT NULL DEFAULT 0;
DROP TRIGGER write_event ON call_afterwork;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION write_afterwork_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- What it says stays with the call: it may be anything.
    PERFORM write_event(NEW.tenant_id, NEW.call_id, 'call_summarized', NULL, NULL, jsonb_build_object('status', NEW.status,
        'summary', NEW.sealed IS NOT NULL OR NEW.summary <> '', 'outcome', nullif(NEW.outcome, ''), 'failure', nullif(NEW.failure, '')));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER write_event AFTER UPDATE OF status ON call_afterwork FOR EACH ROW
    WHEN (OLD.status = 'pending' AND NEW.status <> 'pending') EXECUTE FUNCTION write_afterwork_event();

-- +goose Down
DROP TRIGGER write_event ON call_afterwork;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION write_afterwork_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM write_event(NEW.tenant_id, NEW.call_id, 'call_summarized', NULL, NULL, jsonb_build_object('status', NEW.status,
        'summary', NEW.sealed IS NOT NULL OR NEW.summary <> '', 'failure', nullif(NEW.failure, '')));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER write_event AFTER INSERT ON call_afterwork FOR EACH ROW EXECUTE FUNCTION write_afterwork_event();
ALTER TABLE call_afterwork NO FORCE ROW LEVEL SECURITY;
DELETE FROM call_afterwork WHERE status = 'pending';
ALTER TABLE call_afterwork FORCE ROW LEVEL SECURITY;
ALTER TABLE call_afterwork DROP outcome, DROP partial, DROP attempts, DROP CONSTRAINT call_afterwork_status_check,
    ADD CONSTRAINT call_afterwork_status_check CHECK (status IN ('done', 'failed'));
