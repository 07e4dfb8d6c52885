-- +goose Up

-- What is deleted by hand goes out of sight at once and stays for a while, so
-- that it can be brought back. Row security hides it from everybody, whatever
-- they ask; only who looks after it says that it wants to see it.
ALTER TABLE calls
    ADD deleted_at       timestamptz,
    ADD recordings_gone  boolean NOT NULL DEFAULT false,
    ADD messages_gone    boolean NOT NULL DEFAULT false,
    ADD transcripts_gone boolean NOT NULL DEFAULT false;
ALTER TABLE conversations ADD deleted_at timestamptz;
CREATE POLICY kept ON calls AS RESTRICTIVE TO parley_app
    USING (deleted_at IS NULL OR current_setting('app.deleted', true) = 'on');
CREATE POLICY kept ON conversations AS RESTRICTIVE TO parley_app
    USING (deleted_at IS NULL OR current_setting('app.deleted', true) = 'on');

-- What is due is found without looking at what is not.
CREATE INDEX calls_deleted ON calls (tenant_id, deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX calls_ended ON calls (tenant_id, ended_at);
CREATE INDEX calls_recordings ON calls (tenant_id, ended_at) WHERE NOT recordings_gone;
CREATE INDEX calls_messages ON calls (tenant_id, ended_at) WHERE NOT messages_gone;
CREATE INDEX calls_transcripts ON calls (tenant_id, ended_at) WHERE NOT transcripts_gone;
CREATE INDEX conversations_deleted ON conversations (tenant_id, deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX conversations_ended ON conversations (tenant_id, ended_at) WHERE channel = 'chat';
CREATE INDEX events_at ON events (tenant_id, at);
CREATE INDEX events_user ON events (tenant_id, user_id) WHERE user_id IS NOT NULL;

-- Deleting is an event and an entry when it is asked for, not when the rows go:
-- by then an event that names somebody would bring back what was to be forgotten.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_conversation() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.deleted_at IS DISTINCT FROM NEW.deleted_at THEN
        PERFORM note_audit(NEW.tenant_id, CASE WHEN NEW.deleted_at IS NULL THEN 'session.restore' ELSE 'session.delete' END,
            'session:' || NEW.id, jsonb_build_object('channel', NEW.channel, 'status', NEW.status, 'revision', NEW.revision));
    ELSE
        PERFORM note_audit(NEW.tenant_id, 'session.quarantine', 'session:' || NEW.id, jsonb_build_object(
            'revision', NEW.revision, 'hash', NEW.state_hash));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
DROP TRIGGER audit_delete ON conversations;
CREATE CONSTRAINT TRIGGER audit_delete AFTER UPDATE ON conversations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at) EXECUTE FUNCTION audit_conversation();
-- +goose StatementBegin
CREATE FUNCTION write_deletion_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM write_event(NEW.tenant_id, NEW.id, CASE WHEN NEW.deleted_at IS NULL THEN 'session_restored' ELSE 'session_deleted' END,
        NEW.flow_id, NEW.user_id, CASE WHEN NEW.deleted_at IS NULL
            THEN jsonb_build_object('current_node', nullif(NEW.current_node, ''), 'status', NEW.status, 'revision', NEW.revision)
            ELSE jsonb_build_object('previous_node', nullif(NEW.current_node, ''), 'previous_status', NEW.status, 'previous_revision', NEW.revision) END);
    RETURN NULL;
END $$;
CREATE FUNCTION audit_call_deletion() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM note_audit(NEW.tenant_id, CASE WHEN NEW.deleted_at IS NULL THEN 'call.restore' ELSE 'call.delete' END,
        'call:' || NEW.id, jsonb_build_object('direction', NEW.direction, 'carrier', NEW.carrier));
    RETURN NULL;
END $$;
-- +goose StatementEnd
DROP TRIGGER write_event ON conversations;
CREATE TRIGGER write_event AFTER INSERT ON conversations FOR EACH ROW EXECUTE FUNCTION write_conversation_event();
CREATE TRIGGER write_deletion AFTER UPDATE ON conversations FOR EACH ROW
    WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at) EXECUTE FUNCTION write_deletion_event();
CREATE CONSTRAINT TRIGGER audit_delete AFTER UPDATE ON calls DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at) EXECUTE FUNCTION audit_call_deletion();

-- How long a tenant keeps what, in days; null: until somebody deletes it.
CREATE TABLE retention (
    tenant_id        uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    recordings_days  int CHECK (recordings_days > 0),
    messages_days    int CHECK (messages_days > 0),
    transcripts_days int CHECK (transcripts_days > 0),
    calls_days       int CHECK (calls_days > 0),
    events_days      int CHECK (events_days > 0),
    usage_days       int CHECK (usage_days > 0),
    restore_days     int NOT NULL CHECK (restore_days >= 0),
    revision         int NOT NULL DEFAULT 1,
    updated_at       timestamptz NOT NULL DEFAULT now()
);

-- What may not be deleted, whatever a period or a person says. One of object,
-- caller and person is set, or none: the whole tenant.
CREATE TABLE legal_holds (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    object_id  uuid,                     -- a call, or a session
    caller     text NOT NULL DEFAULT '', -- a number
    user_id    text NOT NULL DEFAULT '',
    reason     text NOT NULL,
    placed_by  text NOT NULL,            -- "user:id", "key:id"
    placed_at  timestamptz NOT NULL DEFAULT now(),
    lifted_by  text NOT NULL DEFAULT '',
    lifted_at  timestamptz,
    UNIQUE (tenant_id, id),
    CHECK ((object_id IS NOT NULL)::int + (caller <> '')::int + (user_id <> '')::int <= 1)
);
CREATE INDEX legal_holds_tenant ON legal_holds (tenant_id, id DESC);
CREATE INDEX legal_holds_active ON legal_holds (tenant_id) WHERE lifted_at IS NULL;

-- Wishes to be forgotten. Who it is stands here until it is done; then only a
-- MAC of it, to tell that it was.
CREATE TABLE erasures (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    caller       text NOT NULL DEFAULT '',
    user_id      text NOT NULL DEFAULT '',
    subject      bytea NOT NULL,
    status       text NOT NULL CHECK (status IN ('running', 'waiting', 'held', 'done')),
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    waiting      int NOT NULL DEFAULT 0, -- for calls to end
    held         int NOT NULL DEFAULT 0,
    others       bigint NOT NULL DEFAULT 0, -- rows beside those of sessions
    answers      int NOT NULL DEFAULT 0,    -- kept answers that were emptied
    cached       int NOT NULL DEFAULT 0,    -- entries of shared memory
    finished_at  timestamptz,
    UNIQUE (tenant_id, id),
    CHECK ((status = 'done') = (finished_at IS NOT NULL)),
    CHECK (finished_at IS NOT NULL OR (caller <> '') <> (user_id <> ''))
);
CREATE INDEX erasures_tenant ON erasures (tenant_id, id DESC);
CREATE INDEX erasures_open ON erasures (tenant_id, id) WHERE finished_at IS NULL;

-- Proof of what was deleted. A row is written before the first thing goes, and
-- says nothing until it is finished: in the transaction in which the last goes.
CREATE TABLE deletions (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    class       text NOT NULL,                  -- "calls", "recordings", …
    reason      text NOT NULL CHECK (reason IN ('period', 'deleted', 'erasure')),
    erasure_id  uuid,
    objects     uuid[] NOT NULL DEFAULT '{}',   -- calls and sessions; none: by age
    before      timestamptz,                    -- by age: what was older
    rows        bigint NOT NULL DEFAULT 0,
    blobs       int,                            -- null: not looked for yet
    bytes       bigint NOT NULL DEFAULT 0,
    hash        bytea NOT NULL DEFAULT '',      -- MAC over all of it
    begun_at    timestamptz NOT NULL,
    finished_at timestamptz,
    UNIQUE (tenant_id, id)
);
CREATE INDEX deletions_tenant ON deletions (tenant_id, id DESC);
CREATE INDEX deletions_erasure ON deletions (tenant_id, erasure_id, id DESC) WHERE erasure_id IS NOT NULL;
CREATE INDEX deletions_open ON deletions (tenant_id) WHERE finished_at IS NULL;

-- +goose StatementBegin
CREATE FUNCTION keep_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a finished deletion is for good' USING ERRCODE = 'insufficient_privilege';
END $$;
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['retention', 'legal_holds', 'erasures', 'deletions'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO parley_app', t);
    END LOOP;
END $$;
CREATE FUNCTION audit_keeping() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- Whom a hold or an erasure is about stands in neither.
    CASE TG_TABLE_NAME
    WHEN 'retention' THEN
        PERFORM note_audit(NEW.tenant_id, 'retention.change', 'tenant:' || NEW.tenant_id,
            to_jsonb(NEW) - 'tenant_id' - 'updated_at' - 'revision'
            || jsonb_build_object('previous', to_jsonb(OLD) - 'tenant_id' - 'updated_at' - 'revision'));
    WHEN 'legal_holds' THEN
        PERFORM note_audit(NEW.tenant_id, CASE WHEN NEW.lifted_at IS NULL THEN 'hold.place' ELSE 'hold.lift' END, 'hold:' || NEW.id,
            jsonb_build_object('object', NEW.object_id, 'of', CASE WHEN NEW.object_id IS NOT NULL THEN 'session'
                WHEN NEW.caller <> '' THEN 'caller' WHEN NEW.user_id <> '' THEN 'user' ELSE 'tenant' END));
    ELSE
        PERFORM note_audit(NEW.tenant_id, CASE WHEN NEW.finished_at IS NULL THEN 'erasure.request' ELSE 'erasure.finish' END,
            'erasure:' || NEW.id, '{}');
    END CASE;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER keep BEFORE UPDATE ON deletions FOR EACH ROW WHEN (OLD.finished_at IS NOT NULL) EXECUTE FUNCTION keep_deletion();
CREATE CONSTRAINT TRIGGER audit_write AFTER INSERT OR UPDATE ON retention DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_keeping();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON legal_holds DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_keeping();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON legal_holds DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.lifted_at IS NULL AND NEW.lifted_at IS NOT NULL) EXECUTE FUNCTION audit_keeping();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON erasures DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_keeping();
CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON erasures DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION audit_keeping();

-- Tenants whose erasures wait. Ids only.
GRANT SELECT (tenant_id, id, finished_at) ON erasures TO parley_locate;
CREATE POLICY locate ON erasures FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_erasures() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT DISTINCT e.tenant_id, e.tenant_id FROM erasures e WHERE e.finished_at IS NULL LIMIT 500 $$;
DO $$
BEGIN
    REVOKE EXECUTE ON FUNCTION locate_erasures() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION locate_erasures() TO parley_app;
    ALTER FUNCTION locate_erasures() OWNER TO parley_locate;
END $$;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_erasures;
RESET ROLE;
DROP TABLE deletions, erasures, legal_holds, retention;
DROP FUNCTION audit_keeping, keep_deletion;
DROP TRIGGER audit_delete ON calls;
DROP TRIGGER write_deletion ON conversations;
DROP TRIGGER write_event ON conversations;
DROP TRIGGER audit_delete ON conversations;
DROP FUNCTION audit_call_deletion, write_deletion_event;
DROP POLICY kept ON conversations;
DROP POLICY kept ON calls;
-- What was deleted by hand would come back.
ALTER TABLE calls NO FORCE ROW LEVEL SECURITY;
ALTER TABLE conversations NO FORCE ROW LEVEL SECURITY;
DELETE FROM conversations WHERE deleted_at IS NOT NULL;
DELETE FROM calls WHERE deleted_at IS NOT NULL;
ALTER TABLE conversations FORCE ROW LEVEL SECURITY;
ALTER TABLE calls FORCE ROW LEVEL SECURITY;
DROP INDEX events_user, events_at, conversations_ended, calls_ended;
ALTER TABLE conversations DROP deleted_at;
ALTER TABLE calls DROP deleted_at, DROP recordings_gone, DROP messages_gone, DROP transcripts_gone;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_conversation() RETURNS trigger LANGUAGE plpgsql
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
CREATE TRIGGER write_event AFTER INSERT OR DELETE ON conversations FOR EACH ROW EXECUTE FUNCTION write_conversation_event();
CREATE CONSTRAINT TRIGGER audit_delete AFTER DELETE ON conversations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_conversation();
