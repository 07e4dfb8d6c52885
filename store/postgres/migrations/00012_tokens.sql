-- +goose Up

-- From when on tokens are signed with which key. The keys are derived from the
-- program's root under these ids, and are stored nowhere.
CREATE TABLE signing_keys (
    id         uuid PRIMARY KEY,
    active_at  timestamptz NOT NULL UNIQUE,
    revoked_at timestamptz -- refused from then on, with all that it has signed
);
GRANT SELECT, INSERT, UPDATE (revoked_at) ON signing_keys TO parley_app;

-- What one sign-in of a program for a person led to: the family of its tokens.
-- Of the refresh tokens only the newest is good, and only its hash is here.
CREATE TABLE token_grants (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    session_id   uuid, -- the browser session it came from, with which it ends
    hash         bytea NOT NULL,
    scopes       text[] NOT NULL DEFAULT '{}', -- what it is narrowed to; empty: the whole role
    factor_at    timestamptz,                  -- of the second factor
    created_at   timestamptz NOT NULL,
    refreshed_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    revoked_why  text NOT NULL DEFAULT '',
    UNIQUE (tenant_id, id)
);
CREATE INDEX token_grants_user ON token_grants (tenant_id, user_id);
CREATE INDEX token_grants_session ON token_grants (tenant_id, session_id);
CREATE INDEX token_grants_expires ON token_grants (tenant_id, expires_at);

-- Tokens that a person or a key made for a short errand, with less than they
-- may do themselves.
CREATE TABLE temporary_tokens (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name       text NOT NULL,
    hash       bytea NOT NULL,
    maker      text NOT NULL, -- "user:id", "key:id"
    scopes     text[] NOT NULL,
    origin     text NOT NULL DEFAULT '',
    single_use boolean NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz, -- of one that is good once
    revoked_at timestamptz,
    UNIQUE (tenant_id, id)
);
CREATE INDEX temporary_tokens_list ON temporary_tokens (tenant_id, id DESC);
CREATE INDEX temporary_tokens_maker ON temporary_tokens (tenant_id, maker);
CREATE INDEX temporary_tokens_expires ON temporary_tokens (tenant_id, expires_at);

ALTER TABLE api_keys
    ADD form             text NOT NULL DEFAULT 'hmac' CHECK (form IN ('hmac', 'sha256')), -- of the hash; sha256: imported, not used yet
    ADD previous_hash    bytea,       -- of the secret before, live
    ADD previous_until   timestamptz, -- until then
    ADD origins          text[] NOT NULL DEFAULT '{}',
    ADD revision         int NOT NULL DEFAULT 1,
    ADD leaked_at        timestamptz, -- first seen in an address
    ADD last_used_from   text NOT NULL DEFAULT '', -- a network: an address would be a person's
    ADD CHECK ((previous_hash IS NULL) = (previous_until IS NULL));

-- Who could change flows could publish them, before that was its own permission.
ALTER TABLE api_keys NO FORCE ROW LEVEL SECURITY;
UPDATE api_keys SET scopes = scopes || 'flows.publish'::text
WHERE 'flows.write' = ANY (scopes) AND NOT 'flows.publish' = ANY (scopes);
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['token_grants', 'temporary_tokens'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;

-- Each change notes itself, at the end of its transaction. No secret and no hash.
CREATE FUNCTION audit_key() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    action text;
BEGIN
    action := CASE
        WHEN TG_OP = 'INSERT' AND NEW.form = 'sha256' THEN 'key.import'
        WHEN TG_OP = 'INSERT' THEN 'key.create'
        WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL THEN 'key.revoke'
        WHEN OLD.leaked_at IS NULL AND NEW.leaked_at IS NOT NULL THEN 'key.leak'
        WHEN OLD.form <> NEW.form THEN 'key.upgrade'
        WHEN OLD.hash <> NEW.hash THEN 'key.rotate'
        WHEN OLD.previous_hash IS NOT NULL AND NEW.previous_hash IS NULL THEN 'key.drop_previous'
        ELSE 'key.change' END;
    PERFORM note_audit(NEW.tenant_id, action, 'key:' || NEW.id, jsonb_build_object('name', NEW.name, 'prefix', NEW.prefix,
        'scopes', NEW.scopes, 'origins', NEW.origins, 'expires_at', NEW.expires_at, 'previous_until', NEW.previous_until));
    RETURN NULL;
END $$;
CREATE FUNCTION audit_token() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'token_grants' THEN
        IF TG_OP = 'INSERT' THEN
            PERFORM note_audit(NEW.tenant_id, 'token.grant', 'grant:' || NEW.id, jsonb_build_object(
                'user', NEW.user_id, 'scopes', NEW.scopes, 'expires_at', NEW.expires_at, 'second_factor', NEW.factor_at IS NOT NULL));
        ELSE
            PERFORM note_audit(NEW.tenant_id, CASE NEW.revoked_why WHEN 'reuse' THEN 'token.reuse' ELSE 'token.revoke' END,
                'grant:' || NEW.id, jsonb_build_object('user', NEW.user_id, 'why', NEW.revoked_why));
        END IF;
    ELSE
        IF TG_OP = 'INSERT' THEN
            PERFORM note_audit(NEW.tenant_id, 'token.mint', 'token:' || NEW.id, jsonb_build_object('name', NEW.name,
                'scopes', NEW.scopes, 'origin', NEW.origin, 'single_use', NEW.single_use, 'expires_at', NEW.expires_at));
        ELSE
            PERFORM note_audit(NEW.tenant_id, 'token.revoke', 'token:' || NEW.id, jsonb_build_object('name', NEW.name));
        END IF;
    END CASE;
    RETURN NULL;
END $$;

-- What somebody made ends with what they were let in by: grants with their
-- browser session, temporary tokens with the key or the role of their maker.
CREATE FUNCTION end_tokens() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'browser_sessions' THEN
        UPDATE token_grants SET revoked_at = clock_timestamp(), revoked_why = 'session'
        WHERE tenant_id = OLD.tenant_id AND session_id = OLD.id AND revoked_at IS NULL;
    WHEN 'api_keys' THEN
        UPDATE temporary_tokens SET revoked_at = clock_timestamp()
        WHERE tenant_id = OLD.tenant_id AND maker = 'key:' || OLD.id AND revoked_at IS NULL;
    ELSE
        UPDATE temporary_tokens SET revoked_at = clock_timestamp()
        WHERE tenant_id = OLD.tenant_id AND maker = 'user:' || OLD.user_id AND revoked_at IS NULL;
        IF TG_OP = 'DELETE' THEN
            UPDATE token_grants SET revoked_at = clock_timestamp(), revoked_why = 'member'
            WHERE tenant_id = OLD.tenant_id AND user_id = OLD.user_id AND revoked_at IS NULL;
        END IF;
    END CASE;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON api_keys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_key();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON api_keys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((OLD.name, OLD.hash, OLD.previous_hash, OLD.scopes, OLD.origins, OLD.expires_at, OLD.revoked_at, OLD.leaked_at)
        IS DISTINCT FROM (NEW.name, NEW.hash, NEW.previous_hash, NEW.scopes, NEW.origins, NEW.expires_at, NEW.revoked_at, NEW.leaked_at))
    EXECUTE FUNCTION audit_key();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON token_grants DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_token();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON token_grants DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION audit_token();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON temporary_tokens DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_token();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON temporary_tokens DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION audit_token();
CREATE TRIGGER end_tokens AFTER UPDATE ON browser_sessions
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION end_tokens();
CREATE TRIGGER end_tokens AFTER UPDATE ON api_keys
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION end_tokens();
CREATE TRIGGER end_tokens_changed AFTER UPDATE ON memberships
    FOR EACH ROW WHEN (OLD.role <> NEW.role) EXECUTE FUNCTION end_tokens();
CREATE TRIGGER end_tokens_removed AFTER DELETE ON memberships
    FOR EACH ROW EXECUTE FUNCTION end_tokens();

-- +goose Down
DROP TRIGGER end_tokens_removed ON memberships;
DROP TRIGGER end_tokens_changed ON memberships;
DROP TRIGGER end_tokens ON browser_sessions;
DROP TRIGGER end_tokens ON api_keys;
DROP TRIGGER audit_insert ON api_keys;
DROP TRIGGER audit_update ON api_keys;
DROP TABLE temporary_tokens, token_grants, signing_keys;
DROP FUNCTION end_tokens, audit_token, audit_key;
ALTER TABLE api_keys DROP form, DROP previous_hash, DROP previous_until, DROP origins, DROP revision, DROP leaked_at, DROP last_used_from;
