-- +goose Up

-- Each entry of the audit trail is sealed soon after it commits: a chain of MACs
-- a tenant, under a key that the database does not know.
CREATE TABLE audit_seals (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    seq       bigint NOT NULL,
    mac       bytea NOT NULL CHECK (octet_length(mac) = 32),
    PRIMARY KEY (tenant_id, seq)
);
ALTER TABLE audit_seals ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_seals USING (tenant_id = current_tenant());
GRANT SELECT, INSERT ON audit_seals TO parley_app;

-- People stand in entries by their ids. What writes an address or a number all
-- the same, within a name or an error, writes it in vain: an entry is for good,
-- and a person is not.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION number_audit() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.detail <> '{}' THEN
        NEW.detail := regexp_replace(regexp_replace(NEW.detail::text,
            '[[:alnum:]._%+-]+@[[:alnum:].-]+\.[[:alpha:]]{2,}', '[personal]', 'g'), '\+[0-9]{7,15}', '[personal]', 'g')::jsonb;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit ' || NEW.tenant_id, 0));
    NEW.seq := coalesce((SELECT max(a.seq) FROM audit a WHERE a.tenant_id = NEW.tenant_id), 0) + 1;
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
-- +goose StatementEnd

GRANT SELECT (id) ON tenants TO parley_locate;
GRANT SELECT (tenant_id, seq) ON audit, audit_seals TO parley_locate;
CREATE POLICY locate_audit ON tenants FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate_audit ON audit FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate_audit ON audit_seals FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_unsealed() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT t.id, t.id FROM tenants t
    WHERE (SELECT max(a.seq) FROM audit a WHERE a.tenant_id = t.id)
        > coalesce((SELECT max(s.seq) FROM audit_seals s WHERE s.tenant_id = t.id), 0)
    ORDER BY random() LIMIT 200 $$; -- some may be stuck
CREATE FUNCTION locate_audited(after uuid, most integer) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT t.id, t.id FROM tenants t WHERE t.id > $1 ORDER BY t.id LIMIT $2 $$;
DO $$
DECLARE f regprocedure;
BEGIN
    FOREACH f IN ARRAY ARRAY['locate_unsealed()', 'locate_audited(uuid, integer)']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO parley_app', f);
        EXECUTE format('ALTER FUNCTION %s OWNER TO parley_locate', f);
    END LOOP;
END $$;
-- +goose StatementEnd

-- Where a tenant's flows and webhooks may call, and how much in an hour. No
-- hosts: anywhere public. Zero: no bound but the operator's.
CREATE TABLE egress_policies (
    tenant_id  uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    hosts      text[] NOT NULL DEFAULT '{}',
    calls      bigint NOT NULL DEFAULT 0 CHECK (calls >= 0),
    bytes      bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    seconds    bigint NOT NULL DEFAULT 0 CHECK (seconds >= 0),
    revision   int NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE egress_policies ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON egress_policies USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, UPDATE ON egress_policies TO parley_app;
-- +goose StatementBegin
CREATE FUNCTION audit_egress() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM note_audit(NEW.tenant_id, 'egress.change', 'tenant:' || NEW.tenant_id, jsonb_build_object(
        'hosts', NEW.hosts, 'calls', NEW.calls, 'bytes', NEW.bytes, 'seconds', NEW.seconds,
        'previous_hosts', OLD.hosts, 'previous_calls', OLD.calls, 'previous_bytes', OLD.bytes, 'previous_seconds', OLD.seconds));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_change AFTER INSERT OR UPDATE ON egress_policies DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_egress();

-- +goose Down
DROP TABLE egress_policies;
DROP FUNCTION audit_egress;
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_unsealed, locate_audited;
RESET ROLE;
DROP POLICY locate_audit ON audit;
DROP POLICY locate_audit ON tenants;
REVOKE SELECT (tenant_id, seq) ON audit FROM parley_locate;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION number_audit() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit ' || NEW.tenant_id, 0));
    NEW.seq := coalesce((SELECT max(a.seq) FROM audit a WHERE a.tenant_id = NEW.tenant_id), 0) + 1;
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
-- +goose StatementEnd
DROP TABLE audit_seals;
