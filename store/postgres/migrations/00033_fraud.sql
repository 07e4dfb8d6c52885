-- +goose Up

-- Where a dial goes to: ISO 3166-1, or a calling code; empty for older ones. By
-- these two indexes is counted what looks like toll fraud.
ALTER TABLE dials ADD country text NOT NULL DEFAULT '';
CREATE INDEX dials_made ON dials (tenant_id, created_at) INCLUDE (callee, country, created_by);
CREATE INDEX dials_country ON dials (tenant_id, country, created_at);

-- What keeps a tenant's outbound calls from being begun, or did: its last one.
CREATE TABLE outbound_stops (
    tenant_id  uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    signal     text NOT NULL,
    count      int NOT NULL,
    threshold  int NOT NULL,
    about      text NOT NULL, -- countries, or how the numbers begin
    caused_by  text NOT NULL, -- "key:id"
    stopped_at timestamptz NOT NULL,
    lifted_at  timestamptz    -- null: it holds
);
ALTER TABLE outbound_stops ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON outbound_stops USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON outbound_stops TO parley_app;

-- +goose StatementBegin
CREATE FUNCTION audit_outbound_stop() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM note_audit(NEW.tenant_id, CASE WHEN NEW.lifted_at IS NULL THEN 'outbound.stop' ELSE 'outbound.resume' END,
        'tenant:' || NEW.tenant_id, jsonb_build_object('signal', NEW.signal, 'count', NEW.count, 'threshold', NEW.threshold,
        'caused_by', NEW.caused_by, 'stopped_at', NEW.stopped_at));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_change AFTER INSERT OR UPDATE ON outbound_stops DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_outbound_stop();

-- +goose Down
DROP TABLE outbound_stops;
DROP FUNCTION audit_outbound_stop;
DROP INDEX dials_made, dials_country;
ALTER TABLE dials DROP country;
