-- +goose Up

-- What happens in a session is numbered from 1 without a gap, under the lock of
-- its stream: a call and its conversation share one. Streams outlive sessions,
-- as events do.
CREATE TABLE event_streams (
    session_id uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    seq        bigint NOT NULL -- of the last event
);
CREATE INDEX event_streams_tenant ON event_streams (tenant_id);

-- Ids are drawn before the commit, so that a higher one may be seen first. Once
-- an event is seen it is published: it gets the next position in its tenant, in
-- which order everybody reads. Until then it has none.
ALTER TABLE events ADD position bigint;
DROP INDEX events_tenant;
ALTER TABLE events ADD UNIQUE (tenant_id, id), ADD UNIQUE (tenant_id, position);
CREATE INDEX events_unpublished ON events (tenant_id, id) WHERE position IS NULL;

-- How far each reader has come; the one called "publish" gives positions.
CREATE TABLE event_cursors (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    reader    text NOT NULL,
    position  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, reader)
);
CREATE INDEX event_cursors_reader ON event_cursors (reader, tenant_id) INCLUDE (position);

CREATE TABLE webhooks (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name            text NOT NULL,
    url             text NOT NULL,
    types           text[] NOT NULL, -- empty: all
    flow_ids        uuid[] NOT NULL, -- empty: all
    headers         bytea NOT NULL,  -- sealed
    secret          bytea NOT NULL,  -- sealed
    old_secret      bytea,           -- sealed; signs too, until
    old_until       timestamptz,
    timeout_ms      int NOT NULL CHECK (timeout_ms > 0),
    max_attempts    int NOT NULL CHECK (max_attempts > 0),
    enabled         boolean NOT NULL,
    enabled_at      timestamptz NOT NULL DEFAULT now(), -- what happened before is not for it
    disabled_reason text NOT NULL DEFAULT '',
    failures        int NOT NULL DEFAULT 0, -- attempts in a row
    failing_since   timestamptz,
    revision        int NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id)
);
CREATE TABLE webhook_deliveries (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    webhook_id      uuid NOT NULL,
    event_id        bigint NOT NULL,
    session_id      uuid NOT NULL,
    seq             bigint NOT NULL,
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead')),
    attempts        int NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL DEFAULT now(), -- while an attempt is under way: when it counts as lost
    claim_id        uuid,
    response_status int,
    error           text NOT NULL DEFAULT '',
    duration_ms     int,
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    UNIQUE (event_id, webhook_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, event_id) REFERENCES events (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id, id DESC);
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (webhook_id, id DESC) WHERE status = 'dead';
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_order ON webhook_deliveries (webhook_id, session_id, seq) WHERE status = 'pending';

-- Row security binds the owner too; it is lifted for what there is already.
ALTER TABLE events NO FORCE ROW LEVEL SECURITY;
INSERT INTO event_streams (session_id, tenant_id, seq) SELECT session_id, tenant_id, max(seq) FROM events GROUP BY 1, 2;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['event_streams', 'event_cursors', 'webhooks', 'webhook_deliveries'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;

-- write_event appends to a session's stream. Every event is written here.
CREATE FUNCTION write_event(tenant uuid, session uuid, kind text, flow uuid, person text, change jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE number bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM tenants t WHERE t.id = tenant) THEN
        RETURN; -- a tenant that is being deleted is told nothing
    END IF;
    INSERT INTO event_streams AS s (session_id, tenant_id, seq) VALUES (session, tenant, 1)
    ON CONFLICT (session_id) DO UPDATE SET seq = s.seq + 1 RETURNING s.seq INTO number;
    INSERT INTO events (tenant_id, session_id, seq, type, flow_id, user_id, data)
    VALUES (tenant, session, number, kind, flow, nullif(person, ''), change);
END $$;
-- +goose StatementEnd
GRANT UPDATE (position) ON events TO parley_app;

-- One event a change of a conversation, whoever writes it, and behind it those
-- that the flow reported with the revision.
DROP TRIGGER write_insert ON conversations;
DROP TRIGGER write_update ON conversations;
DROP TRIGGER number_insert ON conversations;
DROP TRIGGER number_update ON conversations;
DROP FUNCTION write_conversation_event, number_conversation_event;
ALTER TABLE conversations DROP event_seq, ADD reported jsonb NOT NULL DEFAULT '[]'; -- [{"type", "data"}]
-- +goose StatementBegin
CREATE FUNCTION end_conversation() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW.ended_at := now();
    RETURN NEW;
END $$;
CREATE FUNCTION write_conversation_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    kind text;
    change jsonb;
    extra jsonb;
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM write_event(OLD.tenant_id, OLD.id, 'session_deleted', OLD.flow_id, OLD.user_id, jsonb_build_object(
            'previous_node', nullif(OLD.current_node, ''), 'previous_status', OLD.status, 'previous_revision', OLD.revision));
        RETURN NULL;
    END IF;
    change := jsonb_build_object('current_node', nullif(NEW.current_node, ''), 'status', NEW.status, 'revision', NEW.revision);
    IF TG_OP = 'INSERT' THEN
        kind := 'session_started';
    ELSE
        kind := CASE WHEN OLD.status IS DISTINCT FROM NEW.status THEN 'session_status_changed'
                     WHEN OLD.current_node IS DISTINCT FROM NEW.current_node THEN 'node_changed'
                     ELSE 'session_updated' END;
        change := change || jsonb_build_object('previous_node', nullif(OLD.current_node, ''),
            'previous_status', OLD.status, 'previous_revision', OLD.revision);
        IF NEW.quarantined_at IS DISTINCT FROM OLD.quarantined_at THEN
            change := change || jsonb_build_object('quarantined', NEW.quarantined_at IS NOT NULL);
        END IF;
    END IF;
    PERFORM write_event(NEW.tenant_id, NEW.id, kind, NEW.flow_id, NEW.user_id, change);
    IF TG_OP = 'INSERT' OR OLD.revision IS DISTINCT FROM NEW.revision THEN
        FOR extra IN SELECT * FROM jsonb_array_elements(NEW.reported) LOOP
            PERFORM write_event(NEW.tenant_id, NEW.id, extra ->> 'type', NEW.flow_id, NEW.user_id, extra -> 'data');
        END LOOP;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION write_call_event() RETURNS trigger LANGUAGE plpgsql
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
CREATE FUNCTION write_turn_event() RETURNS trigger LANGUAGE plpgsql
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
CREATE TRIGGER end_conversation BEFORE INSERT OR UPDATE ON conversations FOR EACH ROW
    WHEN (NEW.status <> 'active' AND NEW.ended_at IS NULL) EXECUTE FUNCTION end_conversation();
CREATE TRIGGER write_event AFTER INSERT OR DELETE ON conversations FOR EACH ROW EXECUTE FUNCTION write_conversation_event();
CREATE TRIGGER write_change AFTER UPDATE ON conversations FOR EACH ROW
    WHEN ((OLD.status, OLD.current_node, OLD.revision, OLD.quarantined_at)
          IS DISTINCT FROM (NEW.status, NEW.current_node, NEW.revision, NEW.quarantined_at))
    EXECUTE FUNCTION write_conversation_event();
CREATE TRIGGER write_event AFTER INSERT ON calls FOR EACH ROW EXECUTE FUNCTION write_call_event();
CREATE TRIGGER write_change AFTER UPDATE ON calls FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION write_call_event();
CREATE TRIGGER write_event AFTER INSERT ON turns FOR EACH ROW EXECUTE FUNCTION write_turn_event();

-- What works across tenants. Ids only.
GRANT SELECT (tenant_id, position) ON events TO parley_locate;
GRANT SELECT (tenant_id, reader, position) ON event_cursors TO parley_locate;
GRANT SELECT (id, tenant_id, enabled) ON webhooks TO parley_locate;
GRANT SELECT (id, tenant_id, webhook_id, status, due_at) ON webhook_deliveries TO parley_locate;
CREATE POLICY locate ON events FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON event_cursors FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON webhooks FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON webhook_deliveries FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_unpublished() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT DISTINCT e.tenant_id, e.tenant_id FROM events e WHERE e.position IS NULL LIMIT 200 $$;
CREATE FUNCTION locate_behind(reader text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p.tenant_id, p.tenant_id FROM event_cursors p
    LEFT JOIN event_cursors r ON r.tenant_id = p.tenant_id AND r.reader = $1
    WHERE p.reader = 'publish' AND coalesce(r.position, 0) < p.position
    ORDER BY random() LIMIT 200 $$; -- some may be stuck
CREATE FUNCTION locate_due_webhooks() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT w.tenant_id, w.id FROM webhooks w,
        LATERAL (SELECT d.due_at FROM webhook_deliveries d WHERE d.webhook_id = w.id AND d.status = 'pending'
                 AND d.due_at <= now() ORDER BY d.due_at LIMIT 1) oldest
    WHERE w.enabled ORDER BY oldest.due_at LIMIT 1000 $$;
DO $$
DECLARE f regprocedure;
BEGIN
    FOREACH f IN ARRAY ARRAY['locate_unpublished()', 'locate_behind(text)', 'locate_due_webhooks()']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO parley_app', f);
        EXECUTE format('ALTER FUNCTION %s OWNER TO parley_locate', f);
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_unpublished, locate_behind, locate_due_webhooks;
RESET ROLE;
DROP POLICY locate ON events;
REVOKE SELECT (tenant_id, position) ON events FROM parley_locate;
REVOKE UPDATE (position) ON events FROM parley_app;
DROP TABLE webhook_deliveries, webhooks, event_cursors;
DROP TRIGGER write_event ON turns;
DROP TRIGGER write_change ON calls;
DROP TRIGGER write_event ON calls;
DROP TRIGGER write_change ON conversations;
DROP TRIGGER write_event ON conversations;
DROP TRIGGER end_conversation ON conversations;
DROP FUNCTION write_turn_event, write_call_event, write_conversation_event, end_conversation, write_event;
ALTER TABLE events DROP CONSTRAINT events_tenant_id_id_key, DROP position;
CREATE INDEX events_tenant ON events (tenant_id, id);
ALTER TABLE conversations ADD event_seq bigint NOT NULL DEFAULT 0, DROP reported;
ALTER TABLE conversations NO FORCE ROW LEVEL SECURITY;
ALTER TABLE event_streams NO FORCE ROW LEVEL SECURITY;
UPDATE conversations c SET event_seq = s.seq FROM event_streams s WHERE s.session_id = c.id;
ALTER TABLE conversations FORCE ROW LEVEL SECURITY;
DROP TABLE event_streams;
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
