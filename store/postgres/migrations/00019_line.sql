-- +goose Up

-- Agents have versions as flows have: the same tables, by another name. What an
-- agent is told stands in its versions; its row keeps what is not versioned.
CREATE TABLE agent_versions (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    agent_id   uuid NOT NULL,
    number     int NOT NULL,
    label      text NOT NULL DEFAULT '', -- what its author calls it
    hash       text NOT NULL DEFAULT '',
    document   jsonb NOT NULL,           -- the settings
    flow_id    uuid GENERATED ALWAYS AS ((document ->> 'flow_id')::uuid) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (agent_id, number),
    UNIQUE (tenant_id, agent_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, flow_id) REFERENCES flows (tenant_id, id)
);
CREATE TABLE agent_environments (
    tenant_id      uuid NOT NULL,
    agent_id       uuid NOT NULL,
    name           text NOT NULL,
    published_id   uuid NOT NULL,
    canary_id      uuid,
    canary_percent int NOT NULL DEFAULT 0 CHECK (canary_percent BETWEEN 0 AND 99),
    PRIMARY KEY (agent_id, name),
    CHECK ((canary_id IS NULL) = (canary_percent = 0)),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, agent_id, published_id) REFERENCES agent_versions (tenant_id, agent_id, id) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (tenant_id, agent_id, canary_id) REFERENCES agent_versions (tenant_id, agent_id, id) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE agent_publications (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    agent_id     uuid NOT NULL,
    version_id   uuid NOT NULL,
    environment  text NOT NULL DEFAULT 'live',
    percent      int NOT NULL CHECK (percent BETWEEN 1 AND 100),
    withdraws    uuid,
    published_by text NOT NULL DEFAULT '',
    published_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, agent_id, version_id) REFERENCES agent_versions (tenant_id, agent_id, id) ON DELETE CASCADE
);
CREATE INDEX agent_publications_agent ON agent_publications (tenant_id, agent_id, id DESC);
ALTER TABLE flow_versions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE flow_versions ALTER label DROP EXPRESSION; -- written by the program, for agents too
UPDATE flow_versions SET label = '' WHERE label IS NULL;
ALTER TABLE flow_versions FORCE ROW LEVEL SECURITY;
ALTER TABLE flow_versions ALTER label SET DEFAULT '', ALTER label SET NOT NULL;

-- What every agent is told today is its first version, and live.
ALTER TABLE agents NO FORCE ROW LEVEL SECURITY;
ALTER TABLE calls NO FORCE ROW LEVEL SECURITY;
INSERT INTO agent_versions (id, tenant_id, agent_id, number, document, created_at)
SELECT gen_random_uuid(), tenant_id, id, 1, settings, updated_at FROM agents;
INSERT INTO agent_environments (tenant_id, agent_id, name, published_id)
SELECT tenant_id, agent_id, 'live', id FROM agent_versions;
INSERT INTO agent_publications (id, tenant_id, agent_id, version_id, percent, published_at)
SELECT gen_random_uuid(), tenant_id, agent_id, id, 100, created_at FROM agent_versions;
SET CONSTRAINTS ALL IMMEDIATE;

-- A call stays with the version that it began with, and with the account that
-- its line belongs to. An account may be gone after its calls: no foreign key.
ALTER TABLE calls ADD agent_version_id uuid, ADD carrier_account_id uuid;
UPDATE calls c SET agent_version_id = v.id FROM agent_versions v WHERE v.agent_id = c.agent_id;
ALTER TABLE calls ALTER agent_version_id SET NOT NULL,
    ADD FOREIGN KEY (tenant_id, agent_id, agent_version_id) REFERENCES agent_versions (tenant_id, agent_id, id);
ALTER TABLE agents DROP kind, DROP flow_id, DROP settings, ADD draft jsonb, ADD drafted_at timestamptz;
ALTER TABLE agents FORCE ROW LEVEL SECURITY;
ALTER TABLE calls FORCE ROW LEVEL SECURITY;

-- Tenants' own accounts at carriers. Tokens are secrets of the tenant, by name.
CREATE TABLE carrier_accounts (
    id               uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name             text NOT NULL,
    kind             text NOT NULL CHECK (kind = 'twilio'),
    account_sid      text NOT NULL,
    token_secret     text NOT NULL,            -- signs webhooks
    old_token_secret text NOT NULL DEFAULT '', -- may sign them too, while rotating
    api_key_sid      text NOT NULL DEFAULT '', -- asks by REST; empty: the account itself, by its token
    api_key_secret   text NOT NULL DEFAULT '',
    region           text NOT NULL DEFAULT '',
    edge             text NOT NULL DEFAULT '',
    revision         int NOT NULL DEFAULT 1,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, account_sid)
);
CREATE INDEX carrier_accounts_sid ON carrier_accounts (account_sid);

-- A number is answered by the first of its routes that fits the time, else by
-- its agent.
ALTER TABLE numbers
    ADD display_name       text NOT NULL DEFAULT '',
    ADD timezone           text NOT NULL DEFAULT 'UTC', -- IANA
    ADD carrier_account_id uuid,                        -- null: the operator's
    ADD revision           int NOT NULL DEFAULT 1,
    ADD updated_at         timestamptz NOT NULL DEFAULT now(),
    ADD UNIQUE (tenant_id, id),
    ADD FOREIGN KEY (tenant_id, carrier_account_id) REFERENCES carrier_accounts (tenant_id, id);
CREATE INDEX numbers_agent ON numbers (tenant_id, agent_id);
CREATE INDEX numbers_account ON numbers (tenant_id, carrier_account_id) WHERE carrier_account_id IS NOT NULL;
CREATE TABLE number_routes (
    tenant_id uuid NOT NULL,
    number_id uuid NOT NULL,
    position  int NOT NULL, -- the first that fits counts
    agent_id  uuid,         -- null: the rule says what happens instead
    rule      jsonb NOT NULL,
    PRIMARY KEY (number_id, position),
    FOREIGN KEY (tenant_id, number_id) REFERENCES numbers (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX number_routes_agent ON number_routes (tenant_id, agent_id) WHERE agent_id IS NOT NULL;

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['agent_versions', 'agent_environments', 'agent_publications', 'carrier_accounts', 'number_routes'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;

-- Events name the flow of the version that a call runs.
CREATE OR REPLACE FUNCTION write_call_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    kind text := 'call_started';
    flow uuid;
    change jsonb;
BEGIN
    SELECT v.flow_id INTO flow FROM agent_versions v WHERE v.id = NEW.agent_version_id;
    change := jsonb_build_object('agent_id', NEW.agent_id, 'carrier', NEW.carrier, 'direction', NEW.direction,
        'from', nullif(NEW.caller, ''), 'to', nullif(NEW.callee, ''), 'status', NEW.status);
    IF TG_OP = 'UPDATE' THEN
        kind := 'call_status_changed';
        change := change || jsonb_build_object('previous_status', OLD.status, 'transfer_to', nullif(NEW.transfer_to, ''),
            'transfer_outcome', nullif(NEW.transfer_outcome, ''));
        IF NEW.status = 'ended' THEN
            kind := 'call_ended';
            change := change || jsonb_build_object('end_reason', NEW.end_reason,
                'duration_seconds', extract(epoch FROM NEW.ended_at - NEW.answered_at));
        END IF;
    END IF;
    PERFORM write_event(NEW.tenant_id, NEW.id, kind, flow, NULL, change);
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION write_turn_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    flow uuid;
BEGIN
    SELECT v.flow_id INTO flow FROM calls c JOIN agent_versions v ON v.id = c.agent_version_id WHERE c.id = NEW.call_id;
    -- What was said stays in the transcript: it may be anything.
    PERFORM write_event(NEW.tenant_id, NEW.call_id, 'call_turn', flow, NULL, jsonb_build_object('index', NEW.index,
        'speaker', NEW.speaker, 'interrupted', NEW.interrupted, 'input', nullif(NEW.input, ''), 'node', nullif(NEW.node, ''),
        'start_ms', NEW.start_ms, 'end_ms', NEW.end_ms));
    RETURN NULL;
END $$;

-- One function notes changes of flows and of agents; its argument says which.
CREATE FUNCTION audit_released() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    subject text := TG_ARGV[0];
    object text;
    v jsonb;
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM note_audit(OLD.tenant_id, subject || '.delete', subject || ':' || OLD.id, jsonb_build_object('name', OLD.name));
        RETURN NULL;
    END IF;
    object := subject || ':' || coalesce(to_jsonb(NEW) ->> (subject || '_id'), to_jsonb(NEW) ->> 'id');
    CASE TG_TABLE_NAME
    WHEN subject || 's' THEN
        IF TG_OP = 'INSERT' THEN
            PERFORM note_audit(NEW.tenant_id, subject || '.create', object, jsonb_build_object('name', NEW.name));
        ELSE
            PERFORM note_audit(NEW.tenant_id, subject || '.change', object, jsonb_build_object(
                'name', NEW.name, 'previous_name', OLD.name, 'public', NEW.public, 'previous_public', OLD.public));
        END IF;
    WHEN subject || '_versions' THEN
        PERFORM note_audit(NEW.tenant_id, subject || '.version', object, jsonb_build_object(
            'number', NEW.number, 'version', nullif(NEW.label, ''), 'hash', NEW.hash));
    ELSE
        EXECUTE format('SELECT jsonb_build_object(''number'', number, ''version'', nullif(label, ''''), ''hash'', hash) FROM %I WHERE id = $1',
            subject || '_versions') INTO v USING NEW.version_id;
        PERFORM note_audit(NEW.tenant_id, subject || CASE WHEN NEW.withdraws IS NULL THEN '.publish' ELSE '.rollback' END, object,
            v || jsonb_build_object('environment', NEW.environment, 'percent', NEW.percent));
    END CASE;
    RETURN NULL;
END $$;
DROP TRIGGER audit_insert ON flows;
DROP TRIGGER audit_update ON flows;
DROP TRIGGER audit_insert ON flow_versions;
DROP TRIGGER audit_insert ON flow_publications;
DROP FUNCTION audit_flow;
DO $$
DECLARE subject text;
BEGIN
    FOREACH subject IN ARRAY ARRAY['flow', 'agent'] LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION audit_released(%L)', subject || 's', subject);
        EXECUTE format('CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN ((OLD.name, OLD.public) IS DISTINCT FROM (NEW.name, NEW.public)) EXECUTE FUNCTION audit_released(%L)', subject || 's', subject);
        EXECUTE format('CREATE CONSTRAINT TRIGGER audit_delete AFTER DELETE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION audit_released(%L)', subject || 's', subject);
        EXECUTE format('CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION audit_released(%L)', subject || '_versions', subject);
        EXECUTE format('CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION audit_released(%L)', subject || '_publications', subject);
    END LOOP;
END $$;

CREATE FUNCTION audit_line() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    noun text := TG_ARGV[0];
    change text := CASE TG_OP WHEN 'INSERT' THEN '.create' WHEN 'UPDATE' THEN '.change' ELSE '.delete' END;
    r jsonb := to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END);
BEGIN
    PERFORM note_audit((r ->> 'tenant_id')::uuid, noun || change, noun || ':' || (r ->> 'id'),
        jsonb_strip_nulls(r - ARRAY['tenant_id', 'id', 'created_at', 'updated_at']));
    RETURN NULL;
END $$;
DO $$
DECLARE noun text;
BEGIN
    FOREACH noun IN ARRAY ARRAY['number', 'carrier_account'] LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER audit_change AFTER INSERT OR UPDATE OR DELETE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION audit_line(%L)', noun || 's', noun);
    END LOOP;
END $$;
-- +goose StatementEnd

-- Where a number stands, and whose account a webhook may be of: that of the
-- number it names first, then others of the same name at the carrier. Ids only.
GRANT SELECT (id, carrier_account_id) ON numbers TO parley_locate;
GRANT SELECT (id, tenant_id, account_sid, created_at) ON carrier_accounts TO parley_locate;
CREATE POLICY locate ON carrier_accounts FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_carrier_accounts(account_sid text, e164 text[]) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT a.tenant_id, a.id FROM carrier_accounts a WHERE a.account_sid = $1
    ORDER BY EXISTS (SELECT FROM numbers n WHERE n.carrier_account_id = a.id AND n.e164 = ANY ($2)) DESC, a.created_at, a.id
    LIMIT 5 $$;
DO $$
BEGIN
    REVOKE EXECUTE ON FUNCTION locate_carrier_accounts(text, text[]) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION locate_carrier_accounts(text, text[]) TO parley_app;
    ALTER FUNCTION locate_carrier_accounts(text, text[]) OWNER TO parley_locate;
END $$;
SET LOCAL ROLE parley_locate;
CREATE OR REPLACE FUNCTION locate_number(e164 text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT n.tenant_id, n.id FROM numbers n WHERE n.e164 = $1 $$;
RESET ROLE;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
SET LOCAL ROLE parley_locate;
CREATE OR REPLACE FUNCTION locate_number(e164 text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT n.tenant_id, n.agent_id FROM numbers n WHERE n.e164 = $1 $$;
DROP FUNCTION locate_carrier_accounts;
RESET ROLE;
-- +goose StatementEnd
REVOKE SELECT (id, carrier_account_id) ON numbers FROM parley_locate;
DROP TRIGGER audit_change ON numbers;
DROP TABLE number_routes;
ALTER TABLE numbers DROP display_name, DROP timezone, DROP carrier_account_id, DROP revision, DROP updated_at,
    DROP CONSTRAINT numbers_tenant_id_id_key;
DROP INDEX numbers_agent;
DROP TABLE carrier_accounts;
DROP FUNCTION audit_line;
-- +goose StatementBegin
DO $$
DECLARE subject text;
BEGIN
    FOREACH subject IN ARRAY ARRAY['flow', 'agent'] LOOP
        EXECUTE format('DROP TRIGGER audit_insert ON %I', subject || 's');
        EXECUTE format('DROP TRIGGER audit_update ON %I', subject || 's');
        EXECUTE format('DROP TRIGGER audit_delete ON %I', subject || 's');
        EXECUTE format('DROP TRIGGER audit_insert ON %I', subject || '_versions');
        EXECUTE format('DROP TRIGGER audit_insert ON %I', subject || '_publications');
    END LOOP;
END $$;
DROP FUNCTION audit_released;
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
CREATE OR REPLACE FUNCTION write_call_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    kind text := 'call_started';
    flow uuid;
    change jsonb;
BEGIN
    SELECT a.flow_id INTO flow FROM agents a WHERE a.id = NEW.agent_id;
    change := jsonb_build_object('agent_id', NEW.agent_id, 'carrier', NEW.carrier, 'direction', NEW.direction,
        'from', nullif(NEW.caller, ''), 'to', nullif(NEW.callee, ''), 'status', NEW.status);
    IF TG_OP = 'UPDATE' THEN
        kind := 'call_status_changed';
        change := change || jsonb_build_object('previous_status', OLD.status, 'transfer_to', nullif(NEW.transfer_to, ''),
            'transfer_outcome', nullif(NEW.transfer_outcome, ''));
        IF NEW.status = 'ended' THEN
            kind := 'call_ended';
            change := change || jsonb_build_object('end_reason', NEW.end_reason,
                'duration_seconds', extract(epoch FROM NEW.ended_at - NEW.answered_at));
        END IF;
    END IF;
    PERFORM write_event(NEW.tenant_id, NEW.id, kind, flow, NULL, change);
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION write_turn_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    flow uuid;
BEGIN
    SELECT a.flow_id INTO flow FROM calls c JOIN agents a ON a.id = c.agent_id WHERE c.id = NEW.call_id;
    -- What was said stays in the transcript: it may be anything.
    PERFORM write_event(NEW.tenant_id, NEW.call_id, 'call_turn', flow, NULL, jsonb_build_object('index', NEW.index,
        'speaker', NEW.speaker, 'interrupted', NEW.interrupted, 'input', nullif(NEW.input, ''), 'node', nullif(NEW.node, ''),
        'start_ms', NEW.start_ms, 'end_ms', NEW.end_ms));
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
ALTER TABLE flow_versions DROP label;
ALTER TABLE flow_versions ADD label text GENERATED ALWAYS AS (document ->> 'version') STORED;

-- An agent is what is live of it; one of which nothing is, is gone.
ALTER TABLE agents NO FORCE ROW LEVEL SECURITY;
ALTER TABLE agent_versions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE agent_environments NO FORCE ROW LEVEL SECURITY;
ALTER TABLE flows NO FORCE ROW LEVEL SECURITY;
ALTER TABLE agents DROP draft, DROP drafted_at, ADD kind text, ADD flow_id uuid, ADD settings jsonb;
UPDATE agents a SET kind = v.document ->> 'kind', flow_id = v.flow_id, settings = v.document
FROM agent_environments e JOIN agent_versions v ON v.id = e.published_id WHERE e.agent_id = a.id AND e.name = 'live';
ALTER TABLE agents ALTER kind SET NOT NULL, ALTER settings SET NOT NULL, ADD CHECK (kind IN ('flow', 'prompt')),
    ADD FOREIGN KEY (tenant_id, flow_id) REFERENCES flows (tenant_id, id);
ALTER TABLE agents FORCE ROW LEVEL SECURITY;
ALTER TABLE flows FORCE ROW LEVEL SECURITY;
ALTER TABLE calls DROP agent_version_id, DROP carrier_account_id;
DROP TABLE agent_publications, agent_environments, agent_versions;
