-- +goose Up

-- Every table of a tenant has tenant_id, row security that binds its owner too,
-- and the policy "tenant". What is set outside a transaction reads as '' on a
-- pooled connection, hence nullif. Roles are made by Bootstrap or the operator:
-- parley_migrate runs this and owns the tables, parley_app works with them,
-- parley_locate owns the functions that look before the tenant is known.

CREATE TABLE tenants (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL UNIQUE CHECK (email = lower(email)),
    password_hash text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE memberships (
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id, created_at);
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name         text NOT NULL,
    prefix       text NOT NULL UNIQUE,
    hash         bytea NOT NULL,
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_tenant ON api_keys (tenant_id, id DESC);
CREATE TABLE browser_sessions (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    hash       bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX browser_sessions_user ON browser_sessions (tenant_id, user_id);

CREATE TABLE flows (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name         text NOT NULL,
    published_id uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, id)
);
CREATE TABLE flow_versions (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    flow_id    uuid NOT NULL,
    number     int NOT NULL,
    document   jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (flow_id, number),
    UNIQUE (tenant_id, flow_id, id),
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, flow_id) REFERENCES flows (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE flows ADD FOREIGN KEY (tenant_id, id, published_id)
    REFERENCES flow_versions (tenant_id, flow_id, id) DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE agents (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name       text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('flow', 'prompt')),
    flow_id    uuid,
    public     boolean NOT NULL DEFAULT false,
    settings   jsonb NOT NULL,
    revision   int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, flow_id) REFERENCES flows (tenant_id, id)
);
CREATE INDEX agents_name ON agents (name, created_at, id);
CREATE TABLE numbers (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    e164       text NOT NULL UNIQUE,
    agent_id   uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX numbers_tenant ON numbers (tenant_id, id DESC);

CREATE TABLE calls (
    id               uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    agent_id         uuid NOT NULL,
    carrier          text NOT NULL,
    carrier_call_id  text, -- null where the carrier has none
    direction        text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    caller           text NOT NULL DEFAULT '',
    callee           text NOT NULL DEFAULT '',
    status           text NOT NULL CHECK (status IN ('arrived', 'active', 'transferring', 'ended')),
    started_at       timestamptz NOT NULL,
    answered_at      timestamptz,
    ended_at         timestamptz,
    end_reason       text NOT NULL DEFAULT '',
    transfer_to      text NOT NULL DEFAULT '',
    transfer_outcome text NOT NULL DEFAULT '',
    recording        text NOT NULL DEFAULT '',
    node_id          uuid,        -- the process that serves the call,
    leased_until     timestamptz, -- as long as this lies ahead
    UNIQUE (tenant_id, carrier, carrier_call_id),
    UNIQUE (tenant_id, id),
    CHECK ((status = 'ended') = (ended_at IS NOT NULL)),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX calls_tenant ON calls (tenant_id, id DESC);
CREATE INDEX calls_agent ON calls (tenant_id, agent_id, id DESC);
CREATE INDEX calls_open ON calls (started_at) WHERE status <> 'ended';
CREATE INDEX calls_carrier ON calls (carrier, carrier_call_id);

CREATE TABLE turns (
    tenant_id   uuid NOT NULL,
    call_id     uuid NOT NULL,
    index       int NOT NULL,
    speaker     text NOT NULL CHECK (speaker IN ('caller', 'agent')),
    generated   text NOT NULL DEFAULT '',
    sent        text NOT NULL DEFAULT '',
    heard       text NOT NULL DEFAULT '',
    interrupted boolean NOT NULL DEFAULT false,
    input       text NOT NULL DEFAULT '',
    node        text NOT NULL DEFAULT '',
    confidence  double precision NOT NULL DEFAULT 0,
    start_ms    bigint NOT NULL, -- from the call's answer
    end_ms      bigint NOT NULL,
    -- agent.Latency; null: the step did not happen
    end_of_turn_ms      double precision,
    final_transcript_ms double precision,
    first_token_ms      double precision,
    first_clause_ms     double precision,
    first_speech_ms     double precision,
    first_audio_ms      double precision,
    mark_round_trip_ms  double precision,
    written_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (call_id, index),
    FOREIGN KEY (tenant_id, call_id) REFERENCES calls (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE conversations (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    call_id         uuid UNIQUE, -- null: a chat
    flow_version_id uuid,
    revision        int NOT NULL,
    current_node    text NOT NULL DEFAULT '',
    status          text NOT NULL CHECK (status IN ('active', 'completed', 'abandoned', 'failed', 'transferred')),
    state           jsonb NOT NULL,
    state_hash      char(44) NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, call_id) REFERENCES calls (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, flow_version_id) REFERENCES flow_versions (tenant_id, id)
);
CREATE TABLE conversation_history (
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    revision        int NOT NULL,
    node            text NOT NULL DEFAULT '',
    status          text NOT NULL,
    state           jsonb NOT NULL,
    state_hash      char(44) NOT NULL,
    written_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, revision),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id) ON DELETE CASCADE
);

-- The tenant's wall.
-- +goose StatementBegin
CREATE FUNCTION current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.tenant', true), '')::uuid;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['memberships', 'api_keys', 'browser_sessions', 'flows', 'flow_versions',
        'agents', 'numbers', 'calls', 'turns', 'conversations', 'conversation_history'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;
-- +goose StatementEnd
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenants USING (id = current_tenant());
GRANT SELECT, INSERT, UPDATE ON tenants TO parley_app;
-- A person may belong to several tenants; each sees its own members only.
ALTER TABLE users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON users USING (EXISTS (
    SELECT FROM memberships m WHERE m.user_id = users.id AND m.tenant_id = current_tenant()))
    WITH CHECK (current_tenant() IS NOT NULL);
GRANT SELECT, INSERT, UPDATE ON users TO parley_app;

-- What must be found before the tenant is known. Ids only.
GRANT SELECT (tenant_id, user_id, created_at) ON memberships TO parley_locate;
GRANT SELECT (id, email) ON users TO parley_locate;
GRANT SELECT (id, tenant_id, prefix) ON api_keys TO parley_locate;
GRANT SELECT (id, tenant_id, hash) ON browser_sessions TO parley_locate;
GRANT SELECT (id, tenant_id, name, created_at) ON agents TO parley_locate;
GRANT SELECT (tenant_id, e164, agent_id) ON numbers TO parley_locate;
GRANT SELECT (id, tenant_id, carrier, carrier_call_id, status, started_at, leased_until) ON calls TO parley_locate;
CREATE POLICY locate ON memberships FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON users FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON api_keys FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON browser_sessions FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON agents FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON numbers FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON calls FOR SELECT TO parley_locate USING (true);

-- +goose StatementBegin
CREATE FUNCTION locate_user(email text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.tenant_id, u.id FROM users u JOIN memberships m ON m.user_id = u.id
    WHERE u.email = $1 ORDER BY m.created_at, m.tenant_id LIMIT 1 $$;
CREATE FUNCTION locate_api_key(prefix text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT k.tenant_id, k.id FROM api_keys k WHERE k.prefix = $1 $$;
CREATE FUNCTION locate_browser_session(hash bytea) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT s.tenant_id, s.id FROM browser_sessions s WHERE s.hash = $1 $$;
CREATE FUNCTION locate_agent(agent uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT a.tenant_id, a.id FROM agents a WHERE a.id = $1 $$;
CREATE FUNCTION locate_agent_named(name text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT a.tenant_id, a.id FROM agents a WHERE a.name = $1 ORDER BY a.created_at, a.id LIMIT 1 $$;
CREATE FUNCTION locate_number(e164 text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT n.tenant_id, n.agent_id FROM numbers n WHERE n.e164 = $1 $$;
CREATE FUNCTION locate_call(call uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.tenant_id, c.id FROM calls c WHERE c.id = $1 $$;
CREATE FUNCTION locate_carrier_call(carrier text, carrier_call_id text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.tenant_id, c.id FROM calls c WHERE c.carrier = $1 AND c.carrier_call_id = $2
    ORDER BY c.started_at, c.id LIMIT 1 $$;
CREATE FUNCTION locate_stale_calls(leased_before timestamptz, arrived_before timestamptz)
    RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.tenant_id, c.id FROM calls c
    WHERE c.status <> 'ended'
      AND CASE c.status WHEN 'transferring' THEN c.started_at < $2 - interval '1 day'
          ELSE coalesce(c.leased_until < $1, c.started_at < $2) END
    ORDER BY c.started_at LIMIT 500 $$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
             WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'locate\_%' LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO parley_app', f);
        EXECUTE format('ALTER FUNCTION %s OWNER TO parley_locate', f);
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate; -- their owner, whose rights parley_migrate does not inherit
DROP FUNCTION locate_stale_calls, locate_carrier_call, locate_call, locate_number, locate_agent_named,
    locate_agent, locate_browser_session, locate_api_key, locate_user;
RESET ROLE;
DROP TABLE conversation_history, conversations, turns, calls, numbers, agents CASCADE;
ALTER TABLE flows DROP CONSTRAINT flows_tenant_id_id_published_id_fkey;
DROP TABLE flow_versions, flows, browser_sessions, api_keys;
DROP POLICY tenant ON users;
DROP TABLE memberships, users, tenants;
DROP FUNCTION current_tenant;
