-- +goose Up

-- What calls came to is one row for a quarter of an hour and what they have in
-- common, and all that is counted of them stands in it packed, each number by its
-- key. A row for each bucket of latency was nearly one for each answer.
--
-- Keys: calls, inbound, answered, talk_ms, contained, transfers, caller_turns,
-- agent_turns, cut_turns, no_input, no_match; outcome/ and reason/ with their
-- word, pause/ with cause and verdict, cost/ with a currency (millionths); steps
-- of an answer with the bucket of their latency, such as first_audio/120.
DROP FUNCTION count_calls, count_tallies;
ALTER TABLE call_figures RENAME TO old_figures;
CREATE TABLE call_figures (
    tenant_id     uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    slot          timestamptz NOT NULL,
    kept          boolean NOT NULL, -- of calls that are deleted
    agent_id      uuid NOT NULL,
    agent_version int,
    flow_id       uuid,
    flow_version  int,
    number        text, -- the tenant's own
    direction     text NOT NULL,
    carrier       text NOT NULL,
    tally         jsonb NOT NULL,
    CONSTRAINT call_figures_key UNIQUE NULLS NOT DISTINCT (tenant_id, slot, kept, agent_id, agent_version, flow_id, flow_version,
        number, direction, carrier)
);
-- Hours and days, in UTC, summed up of quarters, along one dimension each: a
-- month of an agent is 30 rows, however many calls there were. Days are also
-- summed by every dimension together. Test calls stand apart.
CREATE TABLE figure_sums (
    tenant_id     uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    hours         int NOT NULL CHECK (hours IN (1, 24)),
    cut           text NOT NULL CHECK (cut IN ('all', 'agent', 'flow', 'number', 'direction', 'carrier', 'every')),
    start         timestamptz NOT NULL,
    test          boolean NOT NULL,
    agent_id      uuid,
    agent_version int,
    flow_id       uuid,
    flow_version  int,
    number        text,
    direction     text,
    carrier       text,
    tally         jsonb NOT NULL
);
CREATE INDEX figure_sums_cut ON figure_sums (tenant_id, hours, cut, start);
-- The hours and days that have figures. One that is not summed is read from its
-- parts; whatever changes a quarter says so of its hour and its day.
CREATE TABLE figure_spans (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    hours     int NOT NULL CHECK (hours IN (1, 24)),
    start     timestamptz NOT NULL,
    summed    boolean NOT NULL,
    PRIMARY KEY (tenant_id, hours, start)
);
CREATE INDEX figure_spans_open ON figure_spans (tenant_id, hours, start) WHERE NOT summed;

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['call_figures', 'figure_sums', 'figure_spans'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;

-- What stands is carried over: rows as they were are told apart into keys.
CREATE FUNCTION carried(f old_figures) RETURNS TABLE (key text, n bigint) LANGUAGE sql IMMUTABLE AS $$
    SELECT v.key, v.n FROM (VALUES ('calls', f.calls), ('inbound', CASE f.direction WHEN 'inbound' THEN f.calls ELSE 0 END),
        ('answered', f.answered), ('talk_ms', f.talk_ms), ('contained', f.contained), ('transfers', f.transfers),
        ('caller_turns', f.caller_turns), ('agent_turns', f.agent_turns), ('cut_turns', f.cut_turns), ('no_input', f.no_input),
        ('no_match', f.no_match), ('outcome/' || f.outcome, f.calls), ('reason/' || f.end_reason, f.calls)) v(key, n)
    WHERE v.n <> 0 $$;
ALTER TABLE old_figures NO FORCE ROW LEVEL SECURITY;
ALTER TABLE call_tallies NO FORCE ROW LEVEL SECURITY;
ALTER TABLE figures_kept NO FORCE ROW LEVEL SECURITY;
INSERT INTO call_figures
SELECT x.tenant_id, x.slot, x.kept, x.agent_id, x.agent_version, x.flow_id, x.flow_version, x.number, x.direction, x.carrier, jsonb_object_agg(x.key, x.n)
FROM (
    SELECT u.tenant_id, u.slot, u.kept, u.agent_id, u.agent_version, u.flow_id, u.flow_version, u.number, u.direction, u.carrier, u.key, sum(u.n) AS n
    FROM (
        SELECT f.tenant_id, f.slot, f.kept, f.agent_id, f.agent_version, f.flow_id, f.flow_version, f.number, f.direction, f.carrier, k.key, k.n
        FROM old_figures f, LATERAL carried(f) k
        UNION ALL
        SELECT t.tenant_id, t.slot, t.kept, t.agent_id, t.agent_version, t.flow_id, t.flow_version, t.number, t.direction, t.carrier, t.kind || '/' || t.key, t.n
        FROM call_tallies t) u
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) x
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10;
UPDATE figures_kept o SET facts = jsonb_build_object('nodes', o.facts -> 'nodes', 'calls', coalesce((
    SELECT jsonb_agg(to_jsonb(y)) FROM (
        SELECT x.tenant_id, x.slot, x.kept, x.agent_id, x.agent_version, x.flow_id, x.flow_version, x.number, x.direction, x.carrier, jsonb_object_agg(x.key, x.n) AS tally
        FROM (
            SELECT f.tenant_id, f.slot, f.kept, f.agent_id, f.agent_version, f.flow_id, f.flow_version, f.number, f.direction, f.carrier, k.key, k.n
            FROM jsonb_populate_recordset(NULL::old_figures, o.facts -> 'calls') f, LATERAL carried(f) k
            UNION ALL
            SELECT t.tenant_id, t.slot, t.kept, t.agent_id, t.agent_version, t.flow_id, t.flow_version, t.number, t.direction, t.carrier, t.kind || '/' || t.key, t.n
            FROM jsonb_populate_recordset(NULL::call_tallies, o.facts -> 'tallies') t) x
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) y), '[]'));
INSERT INTO figure_spans SELECT DISTINCT tenant_id, 1, date_trunc('hour', slot, 'UTC'), false FROM call_figures
    UNION ALL SELECT DISTINCT tenant_id, 24, date_trunc('day', slot, 'UTC'), false FROM call_figures;
ALTER TABLE figures_kept FORCE ROW LEVEL SECURITY;
ALTER TABLE call_figures FORCE ROW LEVEL SECURITY;
ALTER TABLE figure_sums FORCE ROW LEVEL SECURITY;
ALTER TABLE figure_spans FORCE ROW LEVEL SECURITY;
DROP FUNCTION carried;
DROP TABLE old_figures, call_tallies;

-- What calls came to, each counted once. Its parts are read call by call, each by
-- its key (OFFSET keeps it so): one call is counted whenever something is deleted.
CREATE FUNCTION count_calls(ids uuid[]) RETURNS SETOF call_figures
    LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    WITH c AS MATERIALIZED (SELECT * FROM figured_calls(ids)), cell AS (
        SELECT c.id, v.key, v.n FROM c CROSS JOIN LATERAL (VALUES ('calls', 1::bigint), ('inbound', (c.direction = 'inbound')::int),
            ('answered', c.answered::int), ('talk_ms', c.talk_ms), ('contained', (c.outcome = 'completed' AND NOT c.transferred)::int),
            ('transfers', c.transferred::int), ('outcome/' || c.outcome, 1), ('reason/' || c.end_reason, 1)) v(key, n)
        WHERE v.n <> 0
        UNION ALL
        SELECT t.call_id, v.key, 1 FROM c CROSS JOIN LATERAL (SELECT * FROM turns WHERE call_id = c.id OFFSET 0) t
        CROSS JOIN LATERAL (VALUES (CASE t.speaker WHEN 'agent' THEN 'agent_turns' ELSE 'caller_turns' END),
            (CASE WHEN t.speaker = 'agent' AND t.interrupted THEN 'cut_turns' END)) v(key)
        WHERE v.key IS NOT NULL
        UNION ALL
        SELECT t.call_id, s.step || '/' || latency_bucket(s.ms), 1 FROM c CROSS JOIN LATERAL (SELECT * FROM turns WHERE call_id = c.id OFFSET 0) t
        CROSS JOIN LATERAL (VALUES ('first_audio', t.first_audio_ms), ('end_of_turn', t.end_of_turn_ms),
            ('final_transcript', t.final_transcript_ms), ('first_token', t.first_token_ms), ('first_speech', t.first_speech_ms)) s(step, ms)
        WHERE t.speaker = 'agent' AND s.ms IS NOT NULL
        UNION ALL
        SELECT t.call_id, 'pause/' || p, 1 FROM c CROSS JOIN LATERAL (SELECT * FROM turns WHERE call_id = c.id OFFSET 0) t CROSS JOIN LATERAL unnest(t.pauses) p
        UNION ALL
        SELECT h.conversation_id, v.key, 1 FROM c CROSS JOIN LATERAL (SELECT * FROM conversation_history WHERE conversation_id = c.id OFFSET 0) h
        CROSS JOIN LATERAL (VALUES ('no_input', h.no_input), ('no_match', h.no_match)) v(key, node) WHERE v.node <> ''
        UNION ALL
        SELECT u.call_id, 'cost/' || u.currency, u.micros FROM c
        CROSS JOIN LATERAL (SELECT * FROM usage_entries WHERE tenant_id = current_tenant() AND call_id = c.id OFFSET 0) u
        WHERE u.currency <> ''
    )
    SELECT current_tenant(), x.slot, false, x.agent_id, x.agent_version, x.flow_id, x.flow_version, x.number, x.direction, x.carrier,
        jsonb_object_agg(x.key, x.n)
    FROM (SELECT c.slot, c.agent_id, c.agent_version, c.flow_id, c.flow_version, c.number, c.direction, c.carrier, cell.key, sum(cell.n) AS n
        FROM c JOIN cell ON cell.id = c.id GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9) x
    GROUP BY 2, 4, 5, 6, 7, 8, 9, 10 $$;

CREATE FUNCTION add_tallies(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT jsonb_object_agg(s.key, s.n) FROM (
        SELECT e.key, sum(e.value::bigint) AS n FROM (SELECT * FROM jsonb_each_text(a) UNION ALL SELECT * FROM jsonb_each_text(b)) e
        GROUP BY 1) s $$;

-- Puts facts into the roll-ups; what stands under the same key is added to.
CREATE OR REPLACE FUNCTION add_figures(facts jsonb, keep boolean) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO call_figures AS o
    SELECT x.tenant_id, x.slot, keep, x.agent_id, x.agent_version, x.flow_id, x.flow_version, x.number, x.direction, x.carrier,
        jsonb_object_agg(x.key, x.n)
    FROM (SELECT f.tenant_id, f.slot, f.agent_id, f.agent_version, f.flow_id, f.flow_version, f.number, f.direction, f.carrier,
            e.key, sum(e.value::bigint) AS n
        FROM jsonb_populate_recordset(NULL::call_figures, facts -> 'calls') f, LATERAL jsonb_each_text(f.tally) e
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) x
    GROUP BY 1, 2, 4, 5, 6, 7, 8, 9, 10
    ON CONFLICT ON CONSTRAINT call_figures_key DO UPDATE SET tally = add_tallies(o.tally, excluded.tally);
    INSERT INTO node_figures AS o
    SELECT f.tenant_id, f.slot, keep, f.flow_id, f.flow_version, f.channel, f.node, f.kind, f.next, sum(f.n), sum(f.ms)
    FROM jsonb_populate_recordset(NULL::node_figures, facts -> 'nodes') f GROUP BY 1, 2, 4, 5, 6, 7, 8, 9
    ON CONFLICT (tenant_id, flow_id, slot, kept, flow_version, channel, node, kind, next)
    DO UPDATE SET n = o.n + excluded.n, ms = o.ms + excluded.ms;
END $$;

-- Says that an hour and a day are to be summed again.
CREATE FUNCTION open_spans(at timestamptz) RETURNS void LANGUAGE sql SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO figure_spans AS o VALUES (current_tenant(), 1, date_trunc('hour', at, 'UTC'), false),
        (current_tenant(), 24, date_trunc('day', at, 'UTC'), false)
    ON CONFLICT (tenant_id, hours, start) DO UPDATE SET summed = false $$;

-- Sums an hour of its quarters, or a day of its hours, if it is to be: in a
-- transaction that sees one state of the database, and so fails where somebody
-- changed one of its quarters meanwhile.
CREATE FUNCTION sum_figures(span int, since timestamptz) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp SET jit = off AS $$
BEGIN
    UPDATE figure_spans s SET summed = true WHERE s.tenant_id = current_tenant() AND s.hours = span AND s.start = since AND NOT s.summed;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM figure_sums s WHERE s.tenant_id = current_tenant() AND s.hours = span AND s.start = since;
    IF span = 1 THEN
        INSERT INTO figure_sums
        SELECT current_tenant(), span, x.cut, since, x.test, x.agent_id, x.agent_version, x.flow_id, x.flow_version, x.number, x.direction, x.carrier,
            jsonb_object_agg(x.key, x.n)
        FROM (SELECT CASE grouping(f.agent_id, f.flow_id, f.number, f.direction, f.carrier) WHEN 31 THEN 'all' WHEN 15 THEN 'agent'
                    WHEN 23 THEN 'flow' WHEN 27 THEN 'number' WHEN 29 THEN 'direction' ELSE 'carrier' END AS cut,
                f.test, f.agent_id, f.agent_version, f.flow_id, f.flow_version, f.number, f.direction, f.carrier, f.key, sum(f.n) AS n
            FROM (SELECT q.*, q.carrier = 'test' AS test, e.key, e.value::bigint AS n
                FROM call_figures q, LATERAL jsonb_each_text(q.tally) e
                WHERE q.tenant_id = current_tenant() AND q.slot >= since AND q.slot < since + interval '1 hour') f
            GROUP BY f.test, f.key, GROUPING SETS ((), (f.agent_id, f.agent_version), (f.flow_id, f.flow_version), (f.number), (f.direction), (f.carrier))) x
        GROUP BY 3, 5, 6, 7, 8, 9, 10, 11, 12;
        RETURN;
    END IF;
    INSERT INTO figure_sums
    SELECT current_tenant(), span, x.cut, since, x.test, x.agent_id, x.agent_version, x.flow_id, x.flow_version, x.number, x.direction, x.carrier,
        jsonb_object_agg(x.key, x.n)
    FROM (SELECT s.cut, s.test, s.agent_id, s.agent_version, s.flow_id, s.flow_version, s.number, s.direction, s.carrier, e.key, sum(e.value::bigint) AS n
        FROM figure_sums s, LATERAL jsonb_each_text(s.tally) e
        WHERE s.tenant_id = current_tenant() AND s.hours = 1 AND s.start >= since AND s.start < since + interval '24 hours'
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
        UNION ALL
        SELECT 'every', q.carrier = 'test', q.agent_id, q.agent_version, q.flow_id, q.flow_version, q.number, q.direction, q.carrier, e.key, sum(e.value::bigint)
        FROM call_figures q, LATERAL jsonb_each_text(q.tally) e
        WHERE q.tenant_id = current_tenant() AND q.slot >= since AND q.slot < since + interval '24 hours'
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) x
    GROUP BY 3, 5, 6, 7, 8, 9, 10, 11, 12;
END $$;

CREATE OR REPLACE FUNCTION roll_up(at timestamptz) RETURNS void LANGUAGE plpgsql
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
    PERFORM open_spans(at);
    WITH gone AS (
        DELETE FROM figures_kept k WHERE k.tenant_id = current_tenant() AND k.slot = at
            AND NOT EXISTS (SELECT FROM calls c WHERE c.id = k.session_id)
            AND NOT EXISTS (SELECT FROM conversations v WHERE v.id = k.session_id) RETURNING k.facts)
    SELECT jsonb_build_object('calls', jsonb_union(g.facts -> 'calls'), 'nodes', jsonb_union(g.facts -> 'nodes')) INTO facts FROM gone g;
    PERFORM add_figures(facts, true);

    DELETE FROM call_figures f WHERE f.tenant_id = current_tenant() AND f.slot = at AND NOT f.kept;
    DELETE FROM node_figures f WHERE f.tenant_id = current_tenant() AND f.slot = at AND NOT f.kept;
    SELECT array_agg(s.id) INTO ids FROM (
        SELECT c.id FROM calls c WHERE c.tenant_id = current_tenant() AND c.started_at >= at
            AND c.started_at < at + interval '15 minutes' AND c.status = 'ended'
        UNION ALL
        SELECT v.id FROM conversations v WHERE v.tenant_id = current_tenant() AND v.created_at >= at
            AND v.created_at < at + interval '15 minutes' AND v.channel = 'chat' AND v.status <> 'active') s
    WHERE NOT EXISTS (SELECT FROM figures_kept k WHERE k.tenant_id = current_tenant() AND k.session_id = s.id);
    INSERT INTO call_figures SELECT * FROM count_calls(ids);
    INSERT INTO node_figures SELECT * FROM count_nodes(ids);
    SELECT jsonb_build_object('calls', jsonb_union(k.facts -> 'calls'), 'nodes', jsonb_union(k.facts -> 'nodes')) INTO facts
    FROM figures_kept k WHERE k.tenant_id = current_tenant() AND k.slot = at;
    PERFORM add_figures(facts, false);
END $$;

CREATE OR REPLACE FUNCTION keep_figures(tenant uuid, session uuid, last boolean) RETURNS void LANGUAGE plpgsql
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
        'nodes', coalesce((SELECT jsonb_agg(to_jsonb(f)) FROM count_nodes(ARRAY[session]) f), '[]')))
    ON CONFLICT DO NOTHING;
END $$;
-- +goose StatementEnd

GRANT SELECT (tenant_id, hours, start, summed) ON figure_spans TO parley_locate;
CREATE POLICY locate ON figure_spans FOR SELECT TO parley_locate USING (true);
SET LOCAL ROLE parley_locate;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION locate_uncounted() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.tenant_id, m.tenant_id FROM (
        SELECT tenant_id FROM figure_marks UNION
        SELECT s.tenant_id FROM figure_spans s WHERE NOT s.summed AND s.start + s.hours * interval '1 hour' < now()) m
    ORDER BY random() LIMIT 200 $$;
-- +goose StatementEnd
RESET ROLE;

-- +goose Down

-- What is still there is counted again by calls; figures of calls that are
-- deleted are not kept by going back.
SET LOCAL ROLE parley_locate;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION locate_uncounted() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT m.tenant_id, m.tenant_id FROM (SELECT DISTINCT tenant_id FROM figure_marks) m ORDER BY random() LIMIT 200 $$;
-- +goose StatementEnd
RESET ROLE;
DROP FUNCTION sum_figures, open_spans, add_tallies, count_calls;
DROP TABLE figure_sums, figure_spans, call_figures;
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
-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['call_figures', 'call_tallies'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;
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

CREATE OR REPLACE FUNCTION add_figures(facts jsonb, keep boolean) RETURNS void LANGUAGE plpgsql
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

CREATE OR REPLACE FUNCTION roll_up(at timestamptz) RETURNS void LANGUAGE plpgsql
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

CREATE OR REPLACE FUNCTION keep_figures(tenant uuid, session uuid, last boolean) RETURNS void LANGUAGE plpgsql
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
-- +goose StatementEnd
ALTER TABLE calls NO FORCE ROW LEVEL SECURITY;
ALTER TABLE figure_marks NO FORCE ROW LEVEL SECURITY;
ALTER TABLE figures_kept NO FORCE ROW LEVEL SECURITY;
DELETE FROM figures_kept;
INSERT INTO figure_marks SELECT DISTINCT tenant_id, figure_slot(started_at) FROM calls WHERE status = 'ended';
ALTER TABLE figures_kept FORCE ROW LEVEL SECURITY;
ALTER TABLE figure_marks FORCE ROW LEVEL SECURITY;
ALTER TABLE calls FORCE ROW LEVEL SECURITY;
