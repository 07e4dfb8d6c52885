-- +goose Up

-- Second factors belong to a membership, not to the person: what one tenant
-- lets in, by its own issuer say, can put nothing of its own into another.
CREATE TABLE second_factors (
    tenant_id    uuid NOT NULL,
    user_id      uuid NOT NULL,
    totp         bytea,       -- the secret, sealed beside this row's place
    confirmed_at timestamptz, -- of the secret; null: waits for its first code
    last_step    bigint NOT NULL DEFAULT 0, -- of 30 s; a code of it or before is used up
    tries        int NOT NULL DEFAULT 0,
    tries_since  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id),
    CHECK (confirmed_at IS NULL OR totp IS NOT NULL),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships ON DELETE CASCADE
);
CREATE TABLE recovery_codes (
    tenant_id  uuid NOT NULL,
    user_id    uuid NOT NULL,
    hash       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at    timestamptz,
    PRIMARY KEY (tenant_id, user_id, hash),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships ON DELETE CASCADE
);
CREATE TABLE passkeys (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL,
    user_id       uuid NOT NULL,
    credential_id bytea NOT NULL UNIQUE,
    credential    jsonb NOT NULL, -- public key, flags
    sign_count    bigint NOT NULL,
    name          text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships ON DELETE CASCADE
);
CREATE INDEX passkeys_user ON passkeys (tenant_id, user_id, id);

-- Sign-ins half done: tickets, challenges, ways to an issuer and back. Of many
-- of them nobody knows the tenant yet, so that the wall is another one: the row
-- shows to who holds its secret. What has lapsed shows too, to be swept.
CREATE TABLE pending_sign_ins (
    hash       bytea PRIMARY KEY, -- MAC of the secret
    kind       text NOT NULL,
    sealed     bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX invitations_email ON invitations (email) WHERE used_at IS NULL AND revoked_at IS NULL;
CREATE INDEX pending_sign_ins_expiry ON pending_sign_ins (expires_at);
ALTER TABLE pending_sign_ins ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON pending_sign_ins
    USING (hash = decode(nullif(current_setting('app.pending', true), ''), 'hex') OR expires_at < now());
GRANT SELECT, INSERT, UPDATE, DELETE ON pending_sign_ins TO parley_app; -- UPDATE for its locks

-- Issuers by whom a tenant's people sign in.
CREATE TABLE identity_providers (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name       text NOT NULL,
    settings   jsonb NOT NULL,
    secret     bytea,          -- the client's, sealed; null: none
    enabled    boolean NOT NULL DEFAULT true,
    revision   int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
-- Who signs in by which subject of which issuer. Provider is the id of one of
-- the tenant's own, or the name of one of the operator's.
CREATE TABLE identity_links (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    user_id      uuid NOT NULL,
    provider     text NOT NULL,
    issuer       text NOT NULL,
    subject      text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, provider, issuer, subject),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships ON DELETE CASCADE
);
CREATE INDEX identity_links_subject ON identity_links (provider, issuer, subject, created_at);
CREATE INDEX identity_links_user ON identity_links (tenant_id, user_id);

-- Issuers whose tokens call the API of a tenant.
CREATE TABLE trusted_issuers (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    issuer     text NOT NULL,
    audience   text NOT NULL,
    settings   jsonb NOT NULL, -- where its keys are, which claims give which scopes
    enabled    boolean NOT NULL DEFAULT true,
    revision   int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, issuer, audience)
);

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['second_factors', 'recovery_codes', 'passkeys', 'identity_providers', 'identity_links', 'trusted_issuers'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;
-- +goose StatementEnd

ALTER TABLE browser_sessions
    ADD factor_at timestamptz, -- when a second factor was last given
    ADD bound     boolean NOT NULL DEFAULT false; -- begun by the tenant's own issuer: good for this tenant alone

GRANT SELECT (id, tenant_id, credential_id) ON passkeys TO parley_locate;
GRANT SELECT (id, tenant_id) ON identity_providers TO parley_locate;
GRANT SELECT (tenant_id, user_id, provider, issuer, subject, created_at) ON identity_links TO parley_locate;
GRANT SELECT (email, used_at, revoked_at, created_at) ON invitations TO parley_locate;
CREATE POLICY locate ON passkeys FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON identity_providers FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON identity_links FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_passkey(credential bytea) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p.tenant_id, p.id FROM passkeys p WHERE p.credential_id = $1 $$;
CREATE FUNCTION locate_provider(provider uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p.tenant_id, p.id FROM identity_providers p WHERE p.id = $1 $$;
CREATE FUNCTION locate_identity(provider text, issuer text, subject text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT l.tenant_id, l.user_id FROM identity_links l
    WHERE l.provider = $1 AND l.issuer = $2 AND l.subject = $3 ORDER BY l.created_at, l.tenant_id LIMIT 1 $$;
CREATE FUNCTION locate_invited(email text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i.tenant_id, i.id FROM invitations i
    WHERE i.email = $1 AND i.used_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > now() ORDER BY i.created_at, i.id LIMIT 20 $$;
DO $$
DECLARE f text;
BEGIN
    FOREACH f IN ARRAY ARRAY['locate_passkey(bytea)', 'locate_provider(uuid)', 'locate_identity(text, text, text)', 'locate_invited(text)'] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO parley_app', f);
        EXECUTE format('ALTER FUNCTION %s OWNER TO parley_locate', f);
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit_signin() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    row record := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    verb text := CASE TG_OP WHEN 'INSERT' THEN 'add' WHEN 'DELETE' THEN 'remove' ELSE 'change' END;
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'second_factors' THEN
        PERFORM note_audit(row.tenant_id, CASE WHEN TG_OP = 'UPDATE' AND NEW.confirmed_at IS NOT NULL THEN 'factor.add' ELSE 'factor.remove' END,
            'user:' || row.user_id, '{"kind": "totp"}');
    WHEN 'passkeys' THEN
        PERFORM note_audit(row.tenant_id, 'factor.' || verb, 'user:' || row.user_id,
            jsonb_build_object('kind', 'passkey', 'passkey', row.id));
    WHEN 'recovery_codes' THEN
        PERFORM note_audit(row.tenant_id, 'factor.recover', 'user:' || row.user_id, jsonb_build_object('left', (
            SELECT count(*) FROM recovery_codes c
            WHERE c.tenant_id = row.tenant_id AND c.user_id = row.user_id AND c.used_at IS NULL)));
    WHEN 'browser_sessions' THEN
        PERFORM note_audit(row.tenant_id, 'user.step_up', 'user:' || row.user_id, jsonb_build_object('session', row.id));
    WHEN 'identity_providers' THEN
        PERFORM note_audit(row.tenant_id, 'provider.' || verb, 'provider:' || row.id,
            jsonb_build_object('name', row.name, 'enabled', row.enabled, 'revision', row.revision));
    WHEN 'identity_links' THEN
        PERFORM note_audit(row.tenant_id, 'identity.' || verb, 'user:' || row.user_id,
            jsonb_build_object('provider', row.provider, 'issuer', row.issuer));
    ELSE
        PERFORM note_audit(row.tenant_id, 'issuer.' || verb, 'issuer:' || row.id,
            jsonb_build_object('issuer', row.issuer, 'audience', row.audience, 'enabled', row.enabled, 'revision', row.revision));
    END CASE;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON second_factors DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((OLD.confirmed_at IS NULL) <> (NEW.confirmed_at IS NULL)) EXECUTE FUNCTION audit_signin();
CREATE CONSTRAINT TRIGGER audit_delete AFTER DELETE ON second_factors DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.confirmed_at IS NOT NULL) EXECUTE FUNCTION audit_signin();
CREATE CONSTRAINT TRIGGER audit_write AFTER INSERT OR DELETE ON passkeys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_signin();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON passkeys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION audit_signin();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON recovery_codes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.used_at IS NULL AND NEW.used_at IS NOT NULL) EXECUTE FUNCTION audit_signin();
CREATE CONSTRAINT TRIGGER audit_step_up AFTER UPDATE ON browser_sessions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.factor_at IS DISTINCT FROM NEW.factor_at) EXECUTE FUNCTION audit_signin();
CREATE CONSTRAINT TRIGGER audit_write AFTER INSERT OR UPDATE OR DELETE ON identity_providers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_signin();
CREATE CONSTRAINT TRIGGER audit_write AFTER INSERT OR DELETE ON identity_links DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_signin();
CREATE CONSTRAINT TRIGGER audit_write AFTER INSERT OR UPDATE OR DELETE ON trusted_issuers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_signin();

-- +goose Down
DROP TRIGGER audit_step_up ON browser_sessions;
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_invited, locate_identity, locate_provider, locate_passkey;
RESET ROLE;
REVOKE SELECT (email, used_at, revoked_at, created_at) ON invitations FROM parley_locate;
DROP INDEX invitations_email;
ALTER TABLE browser_sessions DROP factor_at, DROP bound;
DROP TABLE trusted_issuers, identity_links, identity_providers, pending_sign_ins, passkeys, recovery_codes, second_factors;
DROP FUNCTION audit_signin;
