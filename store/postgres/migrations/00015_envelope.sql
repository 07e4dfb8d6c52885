-- +goose Up

-- Keys that seal a tenant's texts and recordings, wrapped by a key that is not
-- here. One that was destroyed stays as a row, so that it shows.
CREATE TABLE data_keys (
    tenant_id    uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    id           uuid NOT NULL,
    wrapped      bytea,
    provider     text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    retired_at   timestamptz,
    destroyed_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL)),
    CHECK (destroyed_at IS NULL OR retired_at IS NOT NULL)
);
CREATE UNIQUE INDEX data_keys_current ON data_keys (tenant_id) WHERE retired_at IS NULL;
ALTER TABLE data_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON data_keys USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, UPDATE ON data_keys TO parley_app;

GRANT SELECT (tenant_id) ON data_keys TO parley_locate;
CREATE POLICY locate ON data_keys FOR SELECT TO parley_locate USING (true);

-- What was said stands sealed beside the columns that have it in clear, where
-- those rows are older. One text a row: what belongs together is sealed at once.
ALTER TABLE turns ADD sealed bytea;                -- {"generated", "sent", "heard"}
ALTER TABLE conversation_history ADD sealed bytea; -- {"event", "messages", "trace", "base"}
ALTER TABLE call_inbox ADD sealed bytea;           -- data
-- An event's data hold what it has sealed as {"$sealed": base64}, beside what is
-- counted. Older ones are sealed, or erased, where they stand.
GRANT UPDATE (data) ON events TO parley_app;
-- They find what stands in clear, until all of it is sealed.
CREATE INDEX turns_clear ON turns (tenant_id) WHERE sealed IS NULL AND (generated <> '' OR sent <> '' OR heard <> '');
CREATE INDEX conversation_history_clear ON conversation_history (tenant_id)
    WHERE sealed IS NULL AND (event IS NOT NULL OR messages <> '[]' OR trace <> '[]' OR base IS NOT NULL);
CREATE INDEX events_clear ON events (tenant_id) WHERE NOT data ? '$sealed' AND data <> '{}' AND type <> ALL (array['session_started',
    'node_changed', 'session_status_changed', 'session_updated', 'session_deleted', 'call_started', 'call_status_changed',
    'call_turn', 'call_ended', 'webhook_disabled']);

-- +goose StatementBegin
CREATE FUNCTION locate_data_keys(after uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT DISTINCT k.tenant_id, k.tenant_id FROM data_keys k WHERE k.tenant_id > $1 ORDER BY 1 LIMIT 200 $$;
REVOKE EXECUTE ON FUNCTION locate_data_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION locate_data_keys TO parley_app;
ALTER FUNCTION locate_data_keys OWNER TO parley_locate;

CREATE FUNCTION audit_data_key() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    action text := 'data_key.create';
BEGIN
    IF TG_OP = 'UPDATE' THEN
        action := CASE WHEN OLD.destroyed_at IS DISTINCT FROM NEW.destroyed_at THEN 'data_key.destroy'
                       WHEN OLD.wrapped IS DISTINCT FROM NEW.wrapped THEN 'data_key.rewrap'
                       ELSE 'data_key.retire' END;
    END IF;
    PERFORM note_audit(NEW.tenant_id, action, 'data_key:' || NEW.id, jsonb_build_object('provider', NEW.provider));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_data_key AFTER INSERT OR UPDATE ON data_keys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_data_key();

-- +goose Down
DROP INDEX events_clear, conversation_history_clear, turns_clear;
REVOKE UPDATE (data) ON events FROM parley_app;
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_data_keys;
RESET ROLE;
-- What is sealed cannot be read without the keys: it goes with them.
ALTER TABLE call_inbox DROP sealed;
ALTER TABLE conversation_history DROP sealed;
ALTER TABLE turns DROP sealed;
DROP TABLE data_keys;
DROP FUNCTION audit_data_key;
