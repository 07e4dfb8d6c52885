-- +goose Up

-- Who did what, for good: the application may add and read, and nothing else.
-- Entries of a tenant are numbered from 1 without a gap, under its lock, so that
-- one that is missing shows.
CREATE TABLE audit (
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    seq        bigint NOT NULL,
    at         timestamptz NOT NULL,
    actor      text NOT NULL,            -- "user:id", "key:id", or "system"
    action     text NOT NULL,            -- "flow.publish"
    object     text NOT NULL,            -- "flow:id"
    detail     jsonb NOT NULL DEFAULT '{}',
    request_id text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX audit_object ON audit (tenant_id, object, seq DESC);
ALTER TABLE audit ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit USING (tenant_id = current_tenant());
GRANT SELECT, INSERT ON audit TO parley_app;

-- +goose StatementBegin
CREATE FUNCTION number_audit() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit ' || NEW.tenant_id, 0));
    NEW.seq := coalesce((SELECT max(a.seq) FROM audit a WHERE a.tenant_id = NEW.tenant_id), 0) + 1;
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
-- Who and on which request stand beside the tenant in the transaction. A tenant
-- that is being deleted keeps nothing.
CREATE FUNCTION note_audit(tenant uuid, action text, object text, detail jsonb) RETURNS void LANGUAGE sql
    SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO audit (tenant_id, actor, action, object, detail, request_id)
    SELECT t.id, coalesce(nullif(current_setting('app.actor', true), ''), 'system'), action, object, detail,
           coalesce(current_setting('app.request', true), '')
    FROM tenants t WHERE t.id = tenant $$;
-- +goose StatementEnd
CREATE TRIGGER number BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION number_audit();

-- A flow publishes a version in each environment; new sessions begin in one of
-- them. The pointers leave the flow's row for rows of their own.
CREATE TABLE flow_environments (
    tenant_id      uuid NOT NULL,
    flow_id        uuid NOT NULL,
    name           text NOT NULL,
    published_id   uuid NOT NULL,
    canary_id      uuid,
    canary_percent int NOT NULL DEFAULT 0 CHECK (canary_percent BETWEEN 0 AND 99),
    PRIMARY KEY (flow_id, name),
    CHECK ((canary_id IS NULL) = (canary_percent = 0)),
    FOREIGN KEY (tenant_id, flow_id) REFERENCES flows (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, flow_id, published_id) REFERENCES flow_versions (tenant_id, flow_id, id) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (tenant_id, flow_id, canary_id) REFERENCES flow_versions (tenant_id, flow_id, id) DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE flows NO FORCE ROW LEVEL SECURITY;
INSERT INTO flow_environments (tenant_id, flow_id, name, published_id, canary_id, canary_percent)
SELECT tenant_id, id, 'live', published_id, canary_id, canary_percent FROM flows WHERE published_id IS NOT NULL;
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE flows FORCE ROW LEVEL SECURITY;
ALTER TABLE flow_environments ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON flow_environments USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON flow_environments TO parley_app;

GRANT SELECT (flow_id, name) ON flow_environments TO parley_locate;
CREATE POLICY locate ON flow_environments FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
SET LOCAL ROLE parley_locate;
CREATE OR REPLACE FUNCTION locate_public_flow(flow uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT f.tenant_id, f.id FROM flows f JOIN flow_environments e ON e.flow_id = f.id AND e.name = 'live'
    WHERE f.id = $1 AND f.public $$;
RESET ROLE;
-- +goose StatementEnd

REVOKE SELECT (published_id) ON flows FROM parley_locate;
ALTER TABLE flows
    DROP CONSTRAINT flows_tenant_id_id_published_id_fkey, DROP CONSTRAINT flows_canary,
    DROP published_id, DROP canary_id, DROP canary_percent,
    ADD draft      jsonb, -- work in progress, faults and all
    ADD drafted_at timestamptz;
ALTER TABLE flow_versions
    ADD label text GENERATED ALWAYS AS (document ->> 'version') STORED, -- what its author calls it: "1.4.0"
    ADD hash  text NOT NULL DEFAULT '';                                 -- of the canonical document; empty: older than this
ALTER TABLE flow_publications
    ADD environment text NOT NULL DEFAULT 'live',
    ADD withdraws   uuid; -- the version that this one takes back

-- Each change notes itself, whoever makes it, in its own transaction and at the
-- end of it: the lock of the numbering is always the last one taken.
-- +goose StatementBegin
CREATE FUNCTION audit_flow() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v flow_versions;
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'flows' THEN
        IF TG_OP = 'INSERT' THEN
            PERFORM note_audit(NEW.tenant_id, 'flow.create', 'flow:' || NEW.id, jsonb_build_object('name', NEW.name));
        ELSE
            PERFORM note_audit(NEW.tenant_id, 'flow.change', 'flow:' || NEW.id, jsonb_build_object(
                'name', NEW.name, 'previous_name', OLD.name, 'public', NEW.public, 'previous_public', OLD.public));
        END IF;
    WHEN 'flow_versions' THEN
        PERFORM note_audit(NEW.tenant_id, 'flow.version', 'flow:' || NEW.flow_id, jsonb_build_object(
            'number', NEW.number, 'version', NEW.label, 'hash', NEW.hash));
    ELSE
        SELECT * INTO v FROM flow_versions WHERE id = NEW.version_id;
        PERFORM note_audit(NEW.tenant_id, CASE WHEN NEW.withdraws IS NULL THEN 'flow.publish' ELSE 'flow.rollback' END,
            'flow:' || NEW.flow_id, jsonb_build_object('number', v.number, 'version', v.label, 'hash', v.hash,
                'environment', NEW.environment, 'percent', NEW.percent));
    END CASE;
    RETURN NULL;
END $$;
CREATE FUNCTION audit_conversation() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM note_audit(OLD.tenant_id, 'session.delete', 'session:' || OLD.id, jsonb_build_object(
            'channel', OLD.channel, 'status', OLD.status, 'revision', OLD.revision));
    ELSE
        PERFORM note_audit(NEW.tenant_id, 'session.quarantine', 'session:' || NEW.id, jsonb_build_object(
            'revision', NEW.revision, 'hash', NEW.state_hash));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON flows DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_flow();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON flows DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((OLD.name, OLD.public) IS DISTINCT FROM (NEW.name, NEW.public)) EXECUTE FUNCTION audit_flow();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON flow_versions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_flow();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON flow_publications DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_flow();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON conversations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.quarantined_at IS NULL AND NEW.quarantined_at IS NOT NULL) EXECUTE FUNCTION audit_conversation();
CREATE CONSTRAINT TRIGGER audit_delete AFTER DELETE ON conversations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_conversation();

-- +goose Down
DROP TRIGGER audit_delete ON conversations;
DROP TRIGGER audit_update ON conversations;
DROP TRIGGER audit_insert ON flow_publications;
DROP TRIGGER audit_insert ON flow_versions;
DROP TRIGGER audit_update ON flows;
DROP TRIGGER audit_insert ON flows;
DROP FUNCTION audit_conversation, audit_flow;
ALTER TABLE flow_publications DROP environment, DROP withdraws;
ALTER TABLE flow_versions DROP label, DROP hash;
ALTER TABLE flows
    DROP draft, DROP drafted_at,
    ADD published_id   uuid,
    ADD canary_id      uuid,
    ADD canary_percent int NOT NULL DEFAULT 0 CHECK (canary_percent BETWEEN 0 AND 99),
    ADD CHECK ((canary_id IS NULL) = (canary_percent = 0)),
    ADD FOREIGN KEY (tenant_id, id, published_id)
        REFERENCES flow_versions (tenant_id, flow_id, id) DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT flows_canary FOREIGN KEY (tenant_id, id, canary_id)
        REFERENCES flow_versions (tenant_id, flow_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE flows NO FORCE ROW LEVEL SECURITY;
ALTER TABLE flow_environments NO FORCE ROW LEVEL SECURITY;
UPDATE flows f SET published_id = e.published_id, canary_id = e.canary_id, canary_percent = e.canary_percent
FROM flow_environments e WHERE e.flow_id = f.id AND e.name = 'live';
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE flows FORCE ROW LEVEL SECURITY;
GRANT SELECT (published_id) ON flows TO parley_locate;
-- +goose StatementBegin
SET LOCAL ROLE parley_locate;
CREATE OR REPLACE FUNCTION locate_public_flow(flow uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT f.tenant_id, f.id FROM flows f WHERE f.id = $1 AND f.public AND f.published_id IS NOT NULL $$;
RESET ROLE;
-- +goose StatementEnd
DROP TABLE flow_environments;
DROP FUNCTION note_audit;
DROP TABLE audit;
DROP FUNCTION number_audit;
