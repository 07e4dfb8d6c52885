-- +goose Up

-- Chats are conversations as those of calls are. A turn of a chat claims the
-- row, commits under the claim, and lets go.
ALTER TABLE conversations
    ADD channel        text NOT NULL DEFAULT 'voice' CHECK (channel IN ('voice', 'chat')),
    ADD flow_id        uuid,
    ADD pins           jsonb NOT NULL DEFAULT '{}', -- versions of the flows it calls, by name
    ADD user_id        text NOT NULL DEFAULT '',
    ADD token_hash     bytea UNIQUE,
    ADD claim_id       uuid,
    ADD claimed_until  timestamptz,
    ADD due_at         timestamptz, -- the flow goes on by itself then
    ADD idle_until     timestamptz,
    ADD expires_at     timestamptz,
    ADD ended_at       timestamptz,
    ADD quarantined_at timestamptz,
    ADD event_seq      bigint NOT NULL DEFAULT 0, -- of its last event
    ADD FOREIGN KEY (tenant_id, flow_id) REFERENCES flows (tenant_id, id) ON DELETE CASCADE,
    ADD CHECK ((call_id IS NULL) = (channel = 'chat'));
-- Row security binds the owner too; it is lifted for what there is already.
ALTER TABLE conversations NO FORCE ROW LEVEL SECURITY;
ALTER TABLE flow_versions NO FORCE ROW LEVEL SECURITY;
UPDATE conversations c SET flow_id = v.flow_id FROM flow_versions v WHERE v.id = c.flow_version_id;
UPDATE conversations SET ended_at = updated_at WHERE status <> 'active';
ALTER TABLE conversations FORCE ROW LEVEL SECURITY;
ALTER TABLE flow_versions FORCE ROW LEVEL SECURITY;
CREATE INDEX conversations_tenant ON conversations (tenant_id, id DESC);
CREATE INDEX conversations_flow ON conversations (tenant_id, flow_id, id DESC);
CREATE INDEX conversations_user ON conversations (tenant_id, user_id, id DESC) WHERE user_id <> '';
CREATE INDEX conversations_open ON conversations (least(claimed_until, due_at, idle_until, expires_at))
    WHERE status = 'active' AND channel = 'chat';

-- What happened and what came of it. The state is kept where it cannot be
-- computed from the entry before.
ALTER TABLE conversation_history
    DROP state,
    ADD event    jsonb,
    ADD messages jsonb NOT NULL DEFAULT '[]',
    ADD trace    jsonb NOT NULL DEFAULT '[]',
    ADD base     jsonb;

-- Events are numbered from 1 in each session, without a gap, under the lock of
-- its row. They outlive the session: no foreign key.
CREATE TABLE events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    session_id uuid NOT NULL,
    seq        bigint NOT NULL,
    type       text NOT NULL,
    flow_id    uuid,
    user_id    text,
    data       jsonb NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (session_id, seq)
);
CREATE INDEX events_tenant ON events (tenant_id, id);
ALTER TABLE events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON events USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, DELETE ON events TO parley_app;

-- One event a change of the row, whoever writes it. An update that reports
-- events of the flow as well has counted them in; they come behind it.
-- +goose StatementBegin
CREATE FUNCTION number_conversation_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW.event_seq := NEW.event_seq + 1;
    IF NEW.status <> 'active' AND NEW.ended_at IS NULL THEN
        NEW.ended_at := now();
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION write_conversation_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    kind text;
    number bigint;
    c conversations;
    change jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        c := NEW; kind := 'session_started'; number := 1;
        change := jsonb_build_object('current_node', nullif(NEW.current_node, ''), 'status', NEW.status, 'revision', NEW.revision);
    ELSIF TG_OP = 'UPDATE' THEN
        c := NEW; number := OLD.event_seq + 1;
        kind := CASE WHEN OLD.status IS DISTINCT FROM NEW.status THEN 'session_status_changed'
                     WHEN OLD.current_node IS DISTINCT FROM NEW.current_node THEN 'node_changed'
                     ELSE 'session_updated' END;
        change := jsonb_build_object('current_node', nullif(NEW.current_node, ''), 'previous_node', nullif(OLD.current_node, ''),
            'status', NEW.status, 'previous_status', OLD.status, 'revision', NEW.revision, 'previous_revision', OLD.revision);
        IF NEW.quarantined_at IS DISTINCT FROM OLD.quarantined_at THEN
            change := change || jsonb_build_object('quarantined', NEW.quarantined_at IS NOT NULL);
        END IF;
    ELSE
        c := OLD; kind := 'session_deleted'; number := OLD.event_seq + 1;
        change := jsonb_build_object('previous_node', nullif(OLD.current_node, ''), 'previous_status', OLD.status,
            'previous_revision', OLD.revision);
    END IF;
    -- A tenant that is being deleted is told nothing.
    INSERT INTO events (tenant_id, session_id, seq, type, flow_id, user_id, data)
    SELECT c.tenant_id, c.id, number, kind, c.flow_id, nullif(c.user_id, ''), change
    FROM tenants t WHERE t.id = c.tenant_id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER number_insert BEFORE INSERT ON conversations FOR EACH ROW EXECUTE FUNCTION number_conversation_event();
CREATE TRIGGER number_update BEFORE UPDATE ON conversations FOR EACH ROW
    WHEN ((OLD.status, OLD.current_node, OLD.revision, OLD.quarantined_at)
          IS DISTINCT FROM (NEW.status, NEW.current_node, NEW.revision, NEW.quarantined_at))
    EXECUTE FUNCTION number_conversation_event();
CREATE TRIGGER write_insert AFTER INSERT OR DELETE ON conversations FOR EACH ROW EXECUTE FUNCTION write_conversation_event();
CREATE TRIGGER write_update AFTER UPDATE ON conversations FOR EACH ROW
    WHEN ((OLD.status, OLD.current_node, OLD.revision, OLD.quarantined_at)
          IS DISTINCT FROM (NEW.status, NEW.current_node, NEW.revision, NEW.quarantined_at))
    EXECUTE FUNCTION write_conversation_event();

-- A flow runs its published version; percent of new sessions try the canary.
ALTER TABLE flows
    ADD public         boolean NOT NULL DEFAULT false, -- anybody may chat with it
    ADD revision       int NOT NULL DEFAULT 1,
    ADD canary_id      uuid,
    ADD canary_percent int NOT NULL DEFAULT 0 CHECK (canary_percent BETWEEN 0 AND 99),
    ADD CHECK ((canary_id IS NULL) = (canary_percent = 0)),
    ADD CONSTRAINT flows_canary FOREIGN KEY (tenant_id, id, canary_id)
        REFERENCES flow_versions (tenant_id, flow_id, id) DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE flow_publications (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    flow_id      uuid NOT NULL,
    version_id   uuid NOT NULL,
    percent      int NOT NULL CHECK (percent BETWEEN 1 AND 100),
    published_by text NOT NULL DEFAULT '',
    published_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, flow_id, version_id) REFERENCES flow_versions (tenant_id, flow_id, id) ON DELETE CASCADE
);
CREATE INDEX flow_publications_flow ON flow_publications (tenant_id, flow_id, id DESC);
ALTER TABLE flows NO FORCE ROW LEVEL SECURITY;
INSERT INTO flow_publications (id, tenant_id, flow_id, version_id, percent, published_at)
SELECT gen_random_uuid(), tenant_id, id, published_id, 100, updated_at FROM flows WHERE published_id IS NOT NULL;
ALTER TABLE flows FORCE ROW LEVEL SECURITY;
ALTER TABLE flow_publications ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON flow_publications USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, DELETE ON flow_publications TO parley_app;

GRANT SELECT (id, tenant_id, token_hash, channel, status, claimed_until, due_at, idle_until, expires_at)
    ON conversations TO parley_locate;
GRANT SELECT (id, tenant_id, public, published_id) ON flows TO parley_locate;
CREATE POLICY locate ON conversations FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON flows FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_conversation(token_hash bytea) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.tenant_id, c.id FROM conversations c WHERE c.token_hash = $1 $$;
CREATE FUNCTION locate_due_conversations() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.tenant_id, c.id FROM conversations c
    WHERE c.status = 'active' AND c.channel = 'chat'
      AND least(c.claimed_until, c.due_at, c.idle_until, c.expires_at) < now()
      AND coalesce(c.claimed_until < now(), true)
    ORDER BY least(c.claimed_until, c.due_at, c.idle_until, c.expires_at) LIMIT 200 $$;
CREATE FUNCTION locate_public_flow(flow uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT f.tenant_id, f.id FROM flows f WHERE f.id = $1 AND f.public AND f.published_id IS NOT NULL $$;
DO $$
DECLARE f regprocedure;
BEGIN
    FOREACH f IN ARRAY ARRAY['locate_conversation(bytea)', 'locate_due_conversations()', 'locate_public_flow(uuid)']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO parley_app', f);
        EXECUTE format('ALTER FUNCTION %s OWNER TO parley_locate', f);
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_conversation, locate_due_conversations, locate_public_flow;
RESET ROLE;
DROP POLICY locate ON conversations;
DROP POLICY locate ON flows;
REVOKE SELECT (id, tenant_id, token_hash, channel, status, claimed_until, due_at, idle_until, expires_at)
    ON conversations FROM parley_locate;
REVOKE SELECT (id, tenant_id, public, published_id) ON flows FROM parley_locate;
DROP TABLE flow_publications;
ALTER TABLE flows DROP CONSTRAINT flows_canary, DROP canary_id, DROP canary_percent, DROP public, DROP revision;
DROP INDEX conversations_tenant;
DROP TRIGGER write_insert ON conversations;
DROP TRIGGER write_update ON conversations;
DROP TRIGGER number_insert ON conversations;
DROP TRIGGER number_update ON conversations;
DROP FUNCTION write_conversation_event, number_conversation_event;
DROP TABLE events;
ALTER TABLE conversations NO FORCE ROW LEVEL SECURITY;
ALTER TABLE conversation_history NO FORCE ROW LEVEL SECURITY;
DELETE FROM conversations WHERE channel = 'chat';
DELETE FROM conversation_history; -- its entries had states
ALTER TABLE conversations FORCE ROW LEVEL SECURITY;
ALTER TABLE conversation_history FORCE ROW LEVEL SECURITY;
ALTER TABLE conversation_history DROP event, DROP messages, DROP trace, DROP base,
    ADD state jsonb NOT NULL;
ALTER TABLE conversations DROP channel, DROP flow_id, DROP pins, DROP user_id, DROP token_hash, DROP claim_id,
    DROP claimed_until, DROP due_at, DROP idle_until, DROP expires_at, DROP ended_at, DROP quarantined_at, DROP event_seq;
