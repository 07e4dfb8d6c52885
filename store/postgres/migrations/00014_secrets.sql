-- +goose Up

-- What is known of tenants' secrets: where a value stands, never the value.
CREATE TABLE secrets (
    tenant_id    uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    key          text NOT NULL,
    reference    text NOT NULL,    -- "vault://mount/tenants/{tenant}/key@3"
    own          boolean NOT NULL, -- the value was put through us, and goes with the row
    hosts        text[] NOT NULL CHECK (cardinality(hosts) > 0),
    revision     int NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    updated_by   text NOT NULL DEFAULT '', -- as in audit
    last_used_at timestamptz,              -- to the minute
    PRIMARY KEY (tenant_id, key),
    -- A row that leads to another tenant's values is not even written.
    CHECK (position('/' || tenant_id || '/' IN reference) > 0)
);
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON secrets USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON secrets TO parley_app;

-- +goose StatementBegin
CREATE FUNCTION audit_secret() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM note_audit(OLD.tenant_id, 'secret.delete', 'secret:' || OLD.key, jsonb_build_object('revision', OLD.revision));
    ELSE
        PERFORM note_audit(NEW.tenant_id, 'secret.put', 'secret:' || NEW.key, jsonb_build_object(
            'reference', NEW.reference, 'hosts', to_jsonb(NEW.hosts), 'revision', NEW.revision));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON secrets DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_secret();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON secrets DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.revision <> NEW.revision) EXECUTE FUNCTION audit_secret();
CREATE CONSTRAINT TRIGGER audit_delete AFTER DELETE ON secrets DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_secret();

-- +goose Down
DROP TABLE secrets;
DROP FUNCTION audit_secret;
