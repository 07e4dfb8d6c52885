-- +goose Up

-- Tenants can be suspended; what is edited counts its revisions.
ALTER TABLE tenants
    ADD revision     int NOT NULL DEFAULT 1,
    ADD suspended_at timestamptz,
    ADD updated_at   timestamptz NOT NULL DEFAULT now();

-- People. Failed sign-ins are counted here, where no cache can forget them.
ALTER TABLE users
    ADD name                text NOT NULL DEFAULT '',
    ADD platform            boolean NOT NULL DEFAULT false, -- looks after tenants
    ADD password_changed_at timestamptz NOT NULL DEFAULT now(),
    ADD failures            int NOT NULL DEFAULT 0,         -- since the last sign-in, all of them
    ADD strikes             int NOT NULL DEFAULT 0,         -- those that count towards the lock
    ADD failed_at           timestamptz,
    ADD locked_until        timestamptz;
ALTER TABLE memberships
    ADD revision   int NOT NULL DEFAULT 1,
    ADD updated_at timestamptz NOT NULL DEFAULT now();
-- Who belongs to no tenant any more is nobody: see RemoveMember.
GRANT DELETE ON users TO parley_app;

-- A session ends with the membership that it stands on.
ALTER TABLE browser_sessions
    ADD how          text NOT NULL DEFAULT 'password', -- the first step: "password", "oidc", "switch"
    ADD last_used_at timestamptz NOT NULL DEFAULT now(),
    ADD network      text NOT NULL DEFAULT '',         -- of the browser, coarse: 203.0.113.0/24
    ADD agent        text NOT NULL DEFAULT '',         -- its family: "Firefox on Linux"
    ADD end_reason   text NOT NULL DEFAULT '',
    ADD FOREIGN KEY (tenant_id, user_id) REFERENCES memberships ON DELETE CASCADE;

-- Links that let somebody in once. Their tokens are kept as MACs alone.
CREATE TABLE invitations (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    email      text NOT NULL CHECK (email = lower(email)),
    role       text NOT NULL,
    platform   boolean NOT NULL DEFAULT false,
    hash       bytea NOT NULL UNIQUE,
    invited_by uuid, -- a user; null: a program
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    revoked_at timestamptz
);
CREATE INDEX invitations_tenant ON invitations (tenant_id, id DESC);
CREATE UNIQUE INDEX invitations_open ON invitations (tenant_id, email) WHERE used_at IS NULL AND revoked_at IS NULL;
CREATE TABLE password_resets (
    tenant_id  uuid NOT NULL,
    user_id    uuid NOT NULL,
    hash       bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id), -- a new link takes the old one's place
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships ON DELETE CASCADE
);
-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['invitations', 'password_resets'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('CREATE POLICY locate ON %I FOR SELECT TO parley_locate USING (true)', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;
-- +goose StatementEnd

GRANT SELECT (id) ON tenants TO parley_locate;
GRANT SELECT (id, tenant_id, hash, expires_at) ON invitations TO parley_locate;
GRANT SELECT (tenant_id, user_id, hash, expires_at) ON password_resets TO parley_locate;
GRANT SELECT (expires_at) ON browser_sessions TO parley_locate;
CREATE POLICY locate ON tenants FOR SELECT TO parley_locate USING (true);

-- +goose StatementBegin
-- All tenants of a person: the first is where one signs in who names none.
SET LOCAL ROLE parley_locate;
CREATE OR REPLACE FUNCTION locate_user(email text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.tenant_id, u.id FROM users u JOIN memberships m ON m.user_id = u.id
    WHERE u.email = $1 ORDER BY m.created_at, m.tenant_id $$;
RESET ROLE;
CREATE FUNCTION locate_memberships(member uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.tenant_id, m.user_id FROM memberships m WHERE m.user_id = $1 ORDER BY m.created_at, m.tenant_id $$;
CREATE FUNCTION locate_tenants(before uuid, most int) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT t.id, t.id FROM tenants t WHERE $1 IS NULL OR t.id < $1 ORDER BY t.id DESC LIMIT $2 $$;
CREATE FUNCTION locate_invitation(hash bytea) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i.tenant_id, i.id FROM invitations i WHERE i.hash = $1 $$;
CREATE FUNCTION locate_password_reset(hash bytea) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT r.tenant_id, r.user_id FROM password_resets r WHERE r.hash = $1 $$;
CREATE FUNCTION locate_lapsed_people(before timestamptz) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT x.tenant_id, x.tenant_id FROM (
        SELECT s.tenant_id FROM browser_sessions s WHERE s.expires_at < $1
        UNION SELECT i.tenant_id FROM invitations i WHERE i.expires_at < $1
        UNION SELECT r.tenant_id FROM password_resets r WHERE r.expires_at < $1) x LIMIT 500 $$;
DO $$
DECLARE f text;
BEGIN
    FOREACH f IN ARRAY ARRAY['locate_memberships(uuid)', 'locate_tenants(uuid, int)', 'locate_invitation(bytea)',
        'locate_password_reset(bytea)', 'locate_lapsed_people(timestamptz)'] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO parley_app', f);
        EXECUTE format('ALTER FUNCTION %s OWNER TO parley_locate', f);
    END LOOP;
END $$;
-- +goose StatementEnd

-- Who changed what about whom. People stand here by their ids, so that erasing
-- one leaves the trail whole.
-- +goose StatementBegin
CREATE FUNCTION audit_people() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    CASE TG_TABLE_NAME || ' ' || TG_OP
    WHEN 'tenants INSERT' THEN
        PERFORM note_audit(NEW.id, 'tenant.create', 'tenant:' || NEW.id, '{}');
    WHEN 'tenants UPDATE' THEN
        IF NEW.suspended_at IS DISTINCT FROM OLD.suspended_at THEN
            PERFORM note_audit(NEW.id, CASE WHEN NEW.suspended_at IS NULL THEN 'tenant.resume' ELSE 'tenant.suspend' END,
                'tenant:' || NEW.id, '{}');
        END IF;
        IF NEW.name <> OLD.name THEN
            PERFORM note_audit(NEW.id, 'tenant.change', 'tenant:' || NEW.id, jsonb_build_object('revision', NEW.revision));
        END IF;
    WHEN 'users UPDATE' THEN
        IF NEW.password_changed_at <> OLD.password_changed_at THEN
            PERFORM note_audit(current_tenant(), 'password.change', 'user:' || NEW.id, '{}');
        END IF;
        IF NEW.platform <> OLD.platform THEN
            PERFORM note_audit(current_tenant(), CASE WHEN NEW.platform THEN 'platform.grant' ELSE 'platform.withdraw' END,
                'user:' || NEW.id, '{}');
        END IF;
    WHEN 'memberships INSERT' THEN
        PERFORM note_audit(NEW.tenant_id, 'member.add', 'user:' || NEW.user_id, jsonb_build_object('role', NEW.role));
    WHEN 'memberships UPDATE' THEN
        PERFORM note_audit(NEW.tenant_id, 'role.change', 'user:' || NEW.user_id,
            jsonb_build_object('role', NEW.role, 'previous_role', OLD.role));
    WHEN 'memberships DELETE' THEN
        PERFORM note_audit(OLD.tenant_id, 'member.remove', 'user:' || OLD.user_id, jsonb_build_object('role', OLD.role));
    WHEN 'browser_sessions INSERT' THEN
        PERFORM note_audit(NEW.tenant_id, 'user.sign_in', 'user:' || NEW.user_id,
            jsonb_build_object('session', NEW.id, 'how', NEW.how));
    WHEN 'browser_sessions UPDATE' THEN
        PERFORM note_audit(NEW.tenant_id, 'session.revoke', 'user:' || NEW.user_id,
            jsonb_build_object('session', NEW.id, 'reason', NEW.end_reason));
    WHEN 'invitations INSERT' THEN
        PERFORM note_audit(NEW.tenant_id, 'invitation.create', 'invitation:' || NEW.id,
            jsonb_build_object('role', NEW.role, 'platform', NEW.platform));
    WHEN 'invitations UPDATE' THEN
        PERFORM note_audit(NEW.tenant_id, CASE
                WHEN NEW.used_at IS DISTINCT FROM OLD.used_at THEN 'invitation.accept'
                WHEN NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN 'invitation.revoke'
                ELSE 'invitation.resend' END, 'invitation:' || NEW.id, '{}');
    ELSE -- a link to reset a password, made or made anew
        PERFORM note_audit(NEW.tenant_id, 'password.link', 'user:' || NEW.user_id, '{}');
    END CASE;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON tenants DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((OLD.password_changed_at, OLD.platform) IS DISTINCT FROM (NEW.password_changed_at, NEW.platform))
    EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON memberships DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON memberships DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.role <> NEW.role) EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_delete AFTER DELETE ON memberships DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON browser_sessions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON browser_sessions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON invitations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON invitations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_people();
CREATE CONSTRAINT TRIGGER audit_write AFTER INSERT OR UPDATE ON password_resets DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_people();

-- +goose Down
DROP TRIGGER audit_update ON browser_sessions;
DROP TRIGGER audit_insert ON browser_sessions;
DROP TRIGGER audit_delete ON memberships;
DROP TRIGGER audit_update ON memberships;
DROP TRIGGER audit_insert ON memberships;
DROP TRIGGER audit_update ON users;
DROP TRIGGER audit_update ON tenants;
DROP TRIGGER audit_insert ON tenants;
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_lapsed_people, locate_password_reset, locate_invitation, locate_tenants, locate_memberships;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION locate_user(email text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.tenant_id, u.id FROM users u JOIN memberships m ON m.user_id = u.id
    WHERE u.email = $1 ORDER BY m.created_at, m.tenant_id LIMIT 1 $$;
-- +goose StatementEnd
RESET ROLE;
DROP TABLE password_resets, invitations;
DROP FUNCTION audit_people;
DROP POLICY locate ON tenants;
REVOKE SELECT (id) ON tenants FROM parley_locate;
REVOKE SELECT (expires_at) ON browser_sessions FROM parley_locate;
ALTER TABLE browser_sessions
    DROP CONSTRAINT browser_sessions_tenant_id_user_id_fkey,
    DROP how, DROP last_used_at, DROP network, DROP agent, DROP end_reason;
REVOKE DELETE ON users FROM parley_app;
ALTER TABLE memberships DROP revision, DROP updated_at;
ALTER TABLE users DROP name, DROP platform, DROP password_changed_at, DROP failures, DROP strikes, DROP failed_at, DROP locked_until;
ALTER TABLE tenants DROP revision, DROP suspended_at, DROP updated_at;
