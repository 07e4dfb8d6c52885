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

-- What a recording comes to; and one that is deleted by hand is out of sight at
-- once, and can be brought back for a while.
ALTER TABLE calls ADD recording_bytes bigint NOT NULL DEFAULT 0, ADD recording_ms bigint NOT NULL DEFAULT 0,
    ADD recording_deleted_at timestamptz;
CREATE INDEX calls_recording_deleted ON calls (tenant_id, recording_deleted_at) WHERE recording_deleted_at IS NOT NULL;
-- +goose StatementBegin
CREATE FUNCTION audit_recording_deletion() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM note_audit(NEW.tenant_id, CASE WHEN NEW.recording_deleted_at IS NULL THEN 'recording.restore' ELSE 'recording.delete' END,
        'call:' || NEW.id, jsonb_build_object('bytes', NEW.recording_bytes));
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- When the file itself goes, that is the keeper's, whose proof says so.
CREATE CONSTRAINT TRIGGER audit_recording AFTER UPDATE ON calls DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.recording_deleted_at IS DISTINCT FROM NEW.recording_deleted_at AND NEW.recording <> '')
    EXECUTE FUNCTION audit_recording_deletion();

-- +goose Down
DROP TRIGGER audit_recording ON calls;
DROP FUNCTION audit_recording_deletion;
DROP INDEX calls_recording_deleted;
ALTER TABLE calls DROP recording_bytes, DROP recording_ms, DROP recording_deleted_at;
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
