-- +goose Up

-- Calls count by the version of the agent that they began with.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION figured_calls(ids uuid[]) RETURNS TABLE (id uuid, slot timestamptz, agent_id uuid, agent_version int,
        flow_id uuid, flow_version int, number text, direction text, carrier text, outcome text, end_reason text,
        answered boolean, talk_ms bigint, transferred boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.id, figure_slot(c.started_at), c.agent_id, a.number, v.flow_id, f.number,
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
    LEFT JOIN agent_versions a ON a.id = c.agent_version_id
    LEFT JOIN conversations v ON v.id = c.id LEFT JOIN flow_versions f ON f.id = v.flow_version_id
    WHERE c.status = 'ended' $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION figured_calls(ids uuid[]) RETURNS TABLE (id uuid, slot timestamptz, agent_id uuid, agent_version int,
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
-- +goose StatementEnd
