-- +goose Up

-- Pages of these origins may call a tenant's API from a browser, by Bearer.
CREATE TABLE tenant_origins (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    origin     text NOT NULL CHECK (origin ~ '^https?://[a-z0-9_.:\[\]-]+$' AND length(origin) <= 280),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, origin)
);
CREATE INDEX tenant_origins_origin ON tenant_origins (origin);
ALTER TABLE tenant_origins ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenant_origins USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, DELETE ON tenant_origins TO parley_app;

-- A browser asks before it sends, without saying whom it will send to.
GRANT SELECT (tenant_id, id, origin) ON tenant_origins TO parley_locate;
CREATE POLICY locate ON tenant_origins FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_tenant_origin(origin text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT o.tenant_id, o.id FROM tenant_origins o WHERE o.origin = $1 LIMIT 1 $$;
DO $$
BEGIN
    REVOKE EXECUTE ON FUNCTION locate_tenant_origin(text) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION locate_tenant_origin(text) TO parley_app;
    ALTER FUNCTION locate_tenant_origin(text) OWNER TO parley_locate;
END $$;

CREATE FUNCTION audit_origin() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit(NEW.tenant_id, 'origin.add', 'origin:' || NEW.id, jsonb_build_object('origin', NEW.origin));
    ELSE
        PERFORM note_audit(OLD.tenant_id, 'origin.remove', 'origin:' || OLD.id, jsonb_build_object('origin', OLD.origin));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON tenant_origins DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_origin();
CREATE CONSTRAINT TRIGGER audit_delete AFTER DELETE ON tenant_origins DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_origin();

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_tenant_origin;
RESET ROLE;
DROP TABLE tenant_origins;
DROP FUNCTION audit_origin;
