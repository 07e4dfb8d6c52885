-- +goose Up

-- What figures are counted from, in clear beside what is sealed: names of nodes
-- and fixed words.
ALTER TABLE turns ADD pauses text[] NOT NULL DEFAULT '{}'; -- agent.Turn.Pauses
ALTER TABLE conversation_history
    ADD entered  text[] NOT NULL DEFAULT '{}', -- nodes that the step came to
    ADD no_input text   NOT NULL DEFAULT '',   -- the node where a silence was counted
    ADD no_match text   NOT NULL DEFAULT '';   -- and an answer that was not understood
CREATE INDEX conversations_begun ON conversations (tenant_id, created_at) WHERE channel = 'chat';
CREATE INDEX turns_answered ON turns (tenant_id, written_at) WHERE first_audio_ms IS NOT NULL;

-- Figures are rolled up by quarters of an hour, in UTC: every zone's days and
-- hours are made of whole ones. A call counts in the slot of its start once it
-- has ended, a chat likewise. They hold nothing of anybody: no call's id, no
-- caller, no word. Rows with kept are of calls that are deleted; the others can
-- be counted again. Null: the call has none.
CREATE TABLE call_figures (
    tenant_id     uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    slot          timestamptz NOT NULL,
    kept          boolean NOT NULL,
    agent_id      uuid NOT NULL,
    agent_version int,
    flow_id       uuid,
    flow_version  int,
    number        text, -- the tenant's own
    direction     text NOT NULL,
    carrier       text NOT NULL,
    outcome       text NOT NULL,
    end_reason    text NOT NULL,
    calls         bigint NOT NULL,
    answered      bigint NOT NULL,
    talk_ms       bigint NOT NULL, -- from the answer to the end
    contained     bigint NOT NULL,
    transfers     bigint NOT NULL, -- asked for, whatever came of it
    caller_turns  bigint NOT NULL,
    agent_turns   bigint NOT NULL,
    cut_turns     bigint NOT NULL, -- of the agent, that a caller cut off
    no_input      bigint NOT NULL,
    no_match      bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (tenant_id, slot, kept, agent_id, agent_version, flow_id, flow_version, number, direction,
        carrier, outcome, end_reason)
);
-- What is counted by a key: by step of the answer the bucket of its latency,
-- pauses by cause and verdict, cost by currency in millionths.
CREATE TABLE call_tallies (
    tenant_id     uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    slot          timestamptz NOT NULL,
    kept          boolean NOT NULL,
    agent_id      uuid NOT NULL,
    agent_version int,
    flow_id       uuid,
    flow_version  int,
    number        text,
    direction     text NOT NULL,
    carrier       text NOT NULL,
    kind          text NOT NULL,
    key           text NOT NULL,
    n             bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (tenant_id, kind, slot, kept, agent_id, agent_version, flow_id, flow_version, number, direction,
        carrier, key)
);
CREATE INDEX call_tallies_slot ON call_tallies (tenant_id, slot);
-- What conversations did at nodes. kind "left": they went on to next, or ended
-- there, which is $ and the status; from node '' they began. ms is how long they
-- were at the node.
CREATE TABLE node_figures (
    tenant_id    uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    slot         timestamptz NOT NULL,
    kept         boolean NOT NULL,
    flow_id      uuid NOT NULL,
    flow_version int,
    channel      text NOT NULL,
    node         text NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('left', 'no_input', 'no_match')),
    next         text NOT NULL,
    n            bigint NOT NULL,
    ms           bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (tenant_id, flow_id, slot, kept, flow_version, channel, node, kind, next)
);
CREATE INDEX node_figures_slot ON node_figures (tenant_id, slot);

-- Slots to be counted again. A mark is written in the transaction of what it is
-- for, so that who sees it sees that; it is never updated, so that nobody waits
-- for another's.
CREATE TABLE figure_marks (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    slot      timestamptz NOT NULL
);
CREATE INDEX figure_marks_tenant ON figure_marks (tenant_id, slot);
-- What calls and chats came to of which something is deleted: rows of the tables
-- above. Of one that is deleted itself they go into its slot's kept rows.
CREATE TABLE figures_kept (
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    session_id uuid NOT NULL,
    slot       timestamptz NOT NULL,
    facts      jsonb NOT NULL, -- {"calls", "tallies", "nodes"}
    PRIMARY KEY (tenant_id, session_id)
);
CREATE INDEX figures_kept_slot ON figures_kept (tenant_id, slot);

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['call_figures', 'call_tallies', 'node_figures', 'figure_marks', 'figures_kept'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;

CREATE FUNCTION figure_slot(at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN date_bin('15 minutes', at, timestamptz '2000-01-01 00:00:00+00');

-- Buckets of 16 to a doubling: bucket i is of times up to 2^(i/16) ms, 0 of all
-- up to 1 ms, 288 of all above 250 s.
CREATE FUNCTION latency_bucket(ms double precision) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(288, greatest(0, ceil(16 * ln(greatest(ms, 1)) / ln(2::double precision))))::int;

-- What a call is counted by. Outcomes leave each other out.
CREATE FUNCTION figured_calls(ids uuid[]) RETURNS TABLE (id uuid, slot timestamptz, agent_id uuid, agent_version int,
        flow_id uuid, flow_version int, number text, direction text, carrier text, outcome text, end_reason text,
        answered boolean, talk_ms bigint, transferred boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.id, figure_slot(c.started_at), c.agent_id, NULL::int, v.flow_id, f.number,
        substring(CASE c.direction WHEN 'inbound' THEN c.callee ELSE c.caller END FROM '^\+[0-9]{5,15}$'),
        c.direction, c.carrier,
        CASE WHEN c.answered_at IS NULL THEN 'unanswered'
             WHEN c.end_reason = 'transfer' THEN 'transferred'
             WHEN v.status = 'completed' OR c.end_reason = 'goodbye' AND coalesce(v.status, 'active') = 'active' THEN 'completed'
             WHEN v.status = 'failed' THEN 'failed'
             WHEN v.status = 'abandoned' OR c.end_reason IN ('caller', 'idle') THEN 'abandoned'
             ELSE 'failed' END,
        c.end_reason, c.answered_at IS NOT NULL,
        greatest(0, 1000 * extract(epoch FROM c.ended_at - c.answered_at))::bigint, c.transfer_to <> ''
    FROM unnest(ids) i(id) JOIN calls c ON c.id = i.id
    LEFT JOIN conversations v ON v.id = c.id LEFT JOIN flow_versions f ON f.id = v.flow_version_id
    WHERE c.status = 'ended' $$;

CREATE FUNCTION count_calls(ids uuid[]) RETURNS SETOF call_figures
    LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT current_tenant(), c.slot, false, c.agent_id, c.agent_version, c.flow_id, c.flow_version, c.number, c.direction,
        c.carrier, c.outcome, c.end_reason, count(*), count(*) FILTER (WHERE c.answered), coalesce(sum(c.talk_ms), 0)::bigint,
        count(*) FILTER (WHERE c.outcome = 'completed' AND NOT c.transferred), count(*) FILTER (WHERE c.transferred),
        sum(t.caller)::bigint, sum(t.agent)::bigint, sum(t.cut)::bigint, sum(h.no_input)::bigint, sum(h.no_match)::bigint
    FROM figured_calls(ids) c
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE speaker = 'caller') AS caller, count(*) FILTER (WHERE speaker = 'agent') AS agent,
               count(*) FILTER (WHERE speaker = 'agent' AND interrupted) AS cut
        FROM turns WHERE call_id = c.id) t
    CROSS JOIN LATERAL (
        SELECT count(nullif(no_input, '')) AS no_input, count(nullif(no_match, '')) AS no_match
        FROM conversation_history WHERE conversation_id = c.id) h
    GROUP BY 2, 4, 5, 6, 7, 8, 9, 10, 11, 12 $$;

CREATE FUNCTION count_tallies(ids uuid[]) RETURNS SETOF call_tallies
    LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT current_tenant(), c.slot, false, c.agent_id, c.agent_version, c.flow_id, c.flow_version, c.number, c.direction,
        c.carrier, x.kind, x.key, sum(x.n)::bigint
    FROM figured_calls(ids) c
    CROSS JOIN LATERAL (
        SELECT s.step AS kind, latency_bucket(s.ms)::text AS key, 1 AS n
        FROM turns t, LATERAL (VALUES ('first_audio', t.first_audio_ms), ('end_of_turn', t.end_of_turn_ms),
            ('final_transcript', t.final_transcript_ms), ('first_token', t.first_token_ms),
            ('first_speech', t.first_speech_ms)) s(step, ms)
        WHERE t.call_id = c.id AND t.speaker = 'agent' AND s.ms IS NOT NULL
        UNION ALL
        SELECT 'pause', p, 1 FROM turns t, unnest(t.pauses) p WHERE t.call_id = c.id
        UNION ALL
        SELECT 'cost', u.currency, u.micros FROM usage_entries u
        WHERE u.tenant_id = current_tenant() AND u.call_id = c.id AND u.currency <> '') x
    GROUP BY 2, 4, 5, 6, 7, 8, 9, 10, 11, 12 $$;

-- A conversation's way is all that it came to, in order, from '' to its end. One
-- that its call left in the middle was abandoned.
CREATE FUNCTION count_nodes(ids uuid[]) RETURNS SETOF node_figures
    LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    WITH told AS (
        SELECT v.id, figure_slot(coalesce(c.started_at, v.created_at)) AS slot, v.flow_id, f.number AS version, v.channel,
            v.created_at, coalesce(v.ended_at, v.updated_at) AS ended_at,
            '$' || CASE v.status WHEN 'active' THEN 'abandoned' ELSE v.status END AS ending
        FROM unnest(ids) i(id) JOIN conversations v ON v.id = i.id
        LEFT JOIN calls c ON c.id = v.call_id LEFT JOIN flow_versions f ON f.id = v.flow_version_id
        WHERE v.flow_id IS NOT NULL AND coalesce(c.status, 'ended') = 'ended' AND (c.id IS NOT NULL OR v.status <> 'active')
    ), way AS (
        SELECT t.id, 0 AS revision, 0::bigint AS n, '' AS node, t.created_at AS at FROM told t
        UNION ALL
        SELECT t.id, h.revision, e.n, e.node, h.written_at FROM told t
        JOIN conversation_history h ON h.conversation_id = t.id
        CROSS JOIN LATERAL unnest(h.entered) WITH ORDINALITY e(node, n)
    ), step AS (
        SELECT id, node, at, lead(node) OVER w AS next, lead(at) OVER w AS until FROM way
        WINDOW w AS (PARTITION BY id ORDER BY revision, n)
    ), event AS (
        SELECT id, node, 'left' AS kind, next, coalesce(until, 'infinity') AS until, at FROM step
        UNION ALL
        SELECT t.id, x.node, x.kind, '', NULL, NULL FROM told t JOIN conversation_history h ON h.conversation_id = t.id
        CROSS JOIN LATERAL (VALUES ('no_input', h.no_input), ('no_match', h.no_match)) x(kind, node) WHERE x.node <> ''
    )
    SELECT current_tenant(), t.slot, false, t.flow_id, t.version, t.channel, e.node, e.kind, coalesce(e.next, t.ending),
        count(*), coalesce(sum(greatest(0, 1000 * extract(epoch FROM least(e.until, greatest(t.ended_at, e.at)) - e.at))), 0)::bigint
    FROM event e JOIN told t ON t.id = e.id
    GROUP BY 2, 4, 5, 6, 7, 8, 9 $$;

-- Puts facts into the roll-ups; what stands under the same key is added to.
CREATE FUNCTION add_figures(facts jsonb, keep boolean) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO call_figures AS o
    SELECT f.tenant_id, f.slot, keep, f.agent_id, f.agent_version, f.flow_id, f.flow_version, f.number, f.direction, f.carrier,
        f.outcome, f.end_reason, sum(f.calls), sum(f.answered), sum(f.talk_ms), sum(f.contained), sum(f.transfers),
        sum(f.caller_turns), sum(f.agent_turns), sum(f.cut_turns), sum(f.no_input), sum(f.no_match)
    FROM jsonb_populate_recordset(NULL::call_figures, facts -> 'calls') f GROUP BY 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12
    ON CONFLICT (tenant_id, slot, kept, agent_id, agent_version, flow_id, flow_version, number, direction, carrier, outcome, end_reason)
    DO UPDATE SET calls = o.calls + excluded.calls, answered = o.answered + excluded.answered,
        talk_ms = o.talk_ms + excluded.talk_ms, contained = o.contained + excluded.contained,
        transfers = o.transfers + excluded.transfers, caller_turns = o.caller_turns + excluded.caller_turns,
        agent_turns = o.agent_turns + excluded.agent_turns, cut_turns = o.cut_turns + excluded.cut_turns,
        no_input = o.no_input + excluded.no_input, no_match = o.no_match + excluded.no_match;
    INSERT INTO call_tallies AS o
    SELECT f.tenant_id, f.slot, keep, f.agent_id, f.agent_version, f.flow_id, f.flow_version, f.number, f.direction, f.carrier,
        f.kind, f.key, sum(f.n)
    FROM jsonb_populate_recordset(NULL::call_tallies, facts -> 'tallies') f GROUP BY 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12
    ON CONFLICT (tenant_id, kind, slot, kept, agent_id, agent_version, flow_id, flow_version, number, direction, carrier, key)
    DO UPDATE SET n = o.n + excluded.n;
    INSERT INTO node_figures AS o
    SELECT f.tenant_id, f.slot, keep, f.flow_id, f.flow_version, f.channel, f.node, f.kind, f.next, sum(f.n), sum(f.ms)
    FROM jsonb_populate_recordset(NULL::node_figures, facts -> 'nodes') f GROUP BY 1, 2, 4, 5, 6, 7, 8, 9
    ON CONFLICT (tenant_id, flow_id, slot, kept, flow_version, channel, node, kind, next)
    DO UPDATE SET n = o.n + excluded.n, ms = o.ms + excluded.ms;
END $$;

-- Joins facts of several sessions.
CREATE AGGREGATE jsonb_union (jsonb) (SFUNC = jsonb_concat, STYPE = jsonb, INITCOND = '[]');

-- Counts a slot again, if it is marked: in a transaction that sees one state of
-- the database (repeatable read), and so fails where another was at it. What is
-- out of sight because somebody deleted it counts on. Compiling these queries
-- would take longer than they do.
CREATE FUNCTION roll_up(at timestamptz) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp SET jit = off AS $$
DECLARE
    ids uuid[];
    facts jsonb;
BEGIN
    PERFORM set_config('app.deleted', 'on', true);
    DELETE FROM figure_marks m WHERE m.tenant_id = current_tenant() AND m.slot = at;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH gone AS (
        DELETE FROM figures_kept k WHERE k.tenant_id = current_tenant() AND k.slot = at
            AND NOT EXISTS (SELECT FROM calls c WHERE c.id = k.session_id)
            AND NOT EXISTS (SELECT FROM conversations v WHERE v.id = k.session_id) RETURNING k.facts)
    SELECT jsonb_build_object('calls', jsonb_union(g.facts -> 'calls'), 'tallies', jsonb_union(g.facts -> 'tallies'),
        'nodes', jsonb_union(g.facts -> 'nodes')) INTO facts FROM gone g;
    PERFORM add_figures(facts, true);

    DELETE FROM call_figures f WHERE f.tenant_id = current_tenant() AND f.slot = at AND NOT f.kept;
    DELETE FROM call_tallies f WHERE f.tenant_id = current_tenant() AND f.slot = at AND NOT f.kept;
    DELETE FROM node_figures f WHERE f.tenant_id = current_tenant() AND f.slot = at AND NOT f.kept;
    SELECT array_agg(s.id) INTO ids FROM (
        SELECT c.id FROM calls c WHERE c.tenant_id = current_tenant() AND c.started_at >= at
            AND c.started_at < at + interval '15 minutes' AND c.status = 'ended'
        UNION ALL
        SELECT v.id FROM conversations v WHERE v.tenant_id = current_tenant() AND v.created_at >= at
            AND v.created_at < at + interval '15 minutes' AND v.channel = 'chat' AND v.status <> 'active') s
    WHERE NOT EXISTS (SELECT FROM figures_kept k WHERE k.tenant_id = current_tenant() AND k.session_id = s.id);
    INSERT INTO call_figures SELECT * FROM count_calls(ids);
    INSERT INTO call_tallies SELECT * FROM count_tallies(ids);
    INSERT INTO node_figures SELECT * FROM count_nodes(ids);
    SELECT jsonb_build_object('calls', jsonb_union(k.facts -> 'calls'), 'tallies', jsonb_union(k.facts -> 'tallies'),
        'nodes', jsonb_union(k.facts -> 'nodes')) INTO facts
    FROM figures_kept k WHERE k.tenant_id = current_tenant() AND k.slot = at;
    PERFORM add_figures(facts, false);
END $$;

-- Keeps what a session came to, before something of it is deleted.
CREATE FUNCTION keep_figures(tenant uuid, session uuid, last boolean) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp SET jit = off AS $$
DECLARE
    at timestamptz;
BEGIN
    SELECT figure_slot(c.started_at) INTO at FROM calls c WHERE c.id = session AND c.status = 'ended';
    IF NOT FOUND THEN
        SELECT figure_slot(v.created_at) INTO at FROM conversations v
        WHERE v.id = session AND v.channel = 'chat' AND v.status <> 'active';
    END IF;
    IF at IS NULL OR NOT EXISTS (SELECT FROM tenants t WHERE t.id = tenant) THEN
        RETURN; -- it does not count yet, or its tenant is being deleted
    END IF;
    IF last THEN
        INSERT INTO figure_marks VALUES (tenant, at);
    END IF;
    IF EXISTS (SELECT FROM figures_kept k WHERE k.tenant_id = tenant AND k.session_id = session) THEN
        RETURN;
    END IF;
    INSERT INTO figures_kept VALUES (tenant, session, at, jsonb_build_object(
        'calls', coalesce((SELECT jsonb_agg(to_jsonb(f)) FROM count_calls(ARRAY[session]) f), '[]'),
        'tallies', coalesce((SELECT jsonb_agg(to_jsonb(f)) FROM count_tallies(ARRAY[session]) f), '[]'),
        'nodes', coalesce((SELECT jsonb_agg(to_jsonb(f)) FROM count_nodes(ARRAY[session]) f), '[]')))
    ON CONFLICT DO NOTHING;
END $$;

CREATE FUNCTION keep_figures() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    hidden text := coalesce(current_setting('app.deleted', true), '');
BEGIN
    PERFORM set_config('app.deleted', 'on', true);
    CASE TG_TABLE_NAME
    WHEN 'calls' THEN PERFORM keep_figures(OLD.tenant_id, OLD.id, true);
    WHEN 'conversations' THEN PERFORM keep_figures(OLD.tenant_id, OLD.id, true);
    WHEN 'turns', 'usage_entries' THEN PERFORM keep_figures(OLD.tenant_id, OLD.call_id, false);
    ELSE PERFORM keep_figures(OLD.tenant_id, OLD.conversation_id, false);
    END CASE;
    PERFORM set_config('app.deleted', hidden, true);
    RETURN OLD;
END $$;

-- A call that is not over marks nothing: its end will. Who writes a turn holds
-- the call's row against an end meanwhile.
CREATE FUNCTION mark_figures() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'calls' THEN
        INSERT INTO figure_marks VALUES (NEW.tenant_id, figure_slot(NEW.started_at));
    WHEN 'turns' THEN
        INSERT INTO figure_marks SELECT c.tenant_id, figure_slot(c.started_at) FROM calls c
        WHERE c.id = NEW.call_id AND c.status = 'ended';
    WHEN 'usage_entries' THEN
        -- Locked against an end that would be rolled up before this is seen.
        INSERT INTO figure_marks SELECT h.tenant_id, figure_slot(h.started_at) FROM (
            SELECT c.tenant_id, c.started_at, c.status FROM calls c WHERE c.id = NEW.call_id FOR SHARE) h
        WHERE h.status = 'ended';
    ELSE
        IF NEW.channel = 'chat' THEN
            INSERT INTO figure_marks VALUES (NEW.tenant_id, figure_slot(NEW.created_at));
        ELSE
            INSERT INTO figure_marks SELECT c.tenant_id, figure_slot(c.started_at) FROM calls c
            WHERE c.id = NEW.call_id AND c.status = 'ended';
        END IF;
    END CASE;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER keep_figures BEFORE DELETE ON calls FOR EACH ROW EXECUTE FUNCTION keep_figures();
CREATE TRIGGER keep_figures BEFORE DELETE ON turns FOR EACH ROW EXECUTE FUNCTION keep_figures();
CREATE TRIGGER keep_figures BEFORE DELETE ON conversations FOR EACH ROW EXECUTE FUNCTION keep_figures();
CREATE TRIGGER keep_figures BEFORE DELETE ON conversation_history FOR EACH ROW EXECUTE FUNCTION keep_figures();
CREATE TRIGGER keep_figures BEFORE DELETE ON usage_entries FOR EACH ROW EXECUTE FUNCTION keep_figures();
CREATE TRIGGER mark_write AFTER INSERT OR UPDATE ON usage_entries FOR EACH ROW EXECUTE FUNCTION mark_figures();
CREATE TRIGGER mark_insert AFTER INSERT ON calls FOR EACH ROW WHEN (NEW.status = 'ended') EXECUTE FUNCTION mark_figures();
CREATE TRIGGER mark_update AFTER UPDATE ON calls FOR EACH ROW
    WHEN ((OLD.status = 'ended' OR NEW.status = 'ended') AND (OLD.status, OLD.ended_at, OLD.end_reason, OLD.transfer_to, OLD.agent_id)
          IS DISTINCT FROM (NEW.status, NEW.ended_at, NEW.end_reason, NEW.transfer_to, NEW.agent_id))
    EXECUTE FUNCTION mark_figures();
CREATE TRIGGER mark_insert AFTER INSERT ON turns FOR EACH ROW EXECUTE FUNCTION mark_figures();
CREATE TRIGGER mark_insert AFTER INSERT ON conversations FOR EACH ROW
    WHEN (NEW.channel = 'voice' OR NEW.status <> 'active') EXECUTE FUNCTION mark_figures();
CREATE TRIGGER mark_update AFTER UPDATE ON conversations FOR EACH ROW
    WHEN ((OLD.status, OLD.revision) IS DISTINCT FROM (NEW.status, NEW.revision)
          AND (NEW.channel = 'voice' OR NEW.status <> 'active' OR OLD.status <> 'active'))
    EXECUTE FUNCTION mark_figures();

GRANT SELECT (tenant_id) ON figure_marks TO parley_locate;
CREATE POLICY locate ON figure_marks FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_uncounted() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.tenant_id, m.tenant_id FROM (SELECT DISTINCT tenant_id FROM figure_marks) m ORDER BY random() LIMIT 200 $$;
DO $$
BEGIN
    REVOKE EXECUTE ON FUNCTION locate_uncounted() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION locate_uncounted() TO parley_app;
    ALTER FUNCTION locate_uncounted() OWNER TO parley_locate;
END $$;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_uncounted;
RESET ROLE;
DROP TRIGGER keep_figures ON calls;
DROP TRIGGER keep_figures ON turns;
DROP TRIGGER keep_figures ON conversations;
DROP TRIGGER keep_figures ON conversation_history;
DROP TRIGGER keep_figures ON usage_entries;
DROP TRIGGER mark_write ON usage_entries;
DROP TRIGGER mark_insert ON calls;
DROP TRIGGER mark_update ON calls;
DROP TRIGGER mark_insert ON turns;
DROP TRIGGER mark_insert ON conversations;
DROP TRIGGER mark_update ON conversations;
DROP FUNCTION mark_figures(), keep_figures(), keep_figures(uuid, uuid, boolean), roll_up, add_figures, count_nodes,
    count_tallies, count_calls, figured_calls, latency_bucket, figure_slot;
DROP AGGREGATE jsonb_union (jsonb);
DROP TABLE figures_kept, figure_marks, node_figures, call_tallies, call_figures;
DROP INDEX turns_answered, conversations_begun;
ALTER TABLE conversation_history DROP no_match, DROP no_input, DROP entered;
ALTER TABLE turns DROP pauses;
