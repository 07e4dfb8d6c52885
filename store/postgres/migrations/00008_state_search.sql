-- +goose Up

-- Conversations by what they remember. Row security would make @> a filter over
-- the whole tenant, as it is not leakproof; hence a function of the role that
-- looks over all tenants, with the tenant in front, and an index that begins
-- with it. One of the values wanted is enough.
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE INDEX conversations_state ON conversations USING gin (tenant_id, state jsonb_path_ops);
CREATE INDEX calls_caller ON calls (tenant_id, caller, id);
GRANT SELECT (state) ON conversations TO parley_locate;
-- +goose StatementBegin
CREATE FUNCTION locate_conversations_by_state(of_tenant uuid, wanted jsonb[]) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT DISTINCT c.tenant_id, c.id FROM unnest($2) w JOIN conversations c ON c.tenant_id = $1 AND c.state @> w $$;
REVOKE EXECUTE ON FUNCTION locate_conversations_by_state FROM PUBLIC;
GRANT EXECUTE ON FUNCTION locate_conversations_by_state TO parley_app;
ALTER FUNCTION locate_conversations_by_state OWNER TO parley_locate;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_conversations_by_state;
RESET ROLE;
REVOKE SELECT (state) ON conversations FROM parley_locate;
DROP INDEX conversations_state, calls_caller;
