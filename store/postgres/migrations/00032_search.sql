-- +goose Up

-- A word that many calls hold is found among the newest of them; only one that
-- few hold is worth all its turns. Otherwise a common word costs as much as
-- there are turns.
SET LOCAL ROLE parley_locate;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION locate_calls_by_words(of_tenant uuid, wanted tsquery, before uuid, most int) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH newest AS MATERIALIZED (
        SELECT c.id FROM calls c WHERE c.tenant_id = $1 AND ($3 IS NULL OR c.id < $3) ORDER BY c.id DESC LIMIT 500
    ), near AS MATERIALIZED (
        -- The limit keeps it a walk over the calls, each by its key.
        SELECT n.id FROM newest n CROSS JOIN LATERAL (SELECT FROM turns t WHERE t.call_id = n.id AND t.words @@ $2 LIMIT 1) t
    ), found AS MATERIALIZED (SELECT t.call_id FROM turns t WHERE t.tenant_id = $1 AND t.words @@ $2)
    SELECT $1, x.id FROM (
        SELECT n.id FROM near n
        UNION -- and so without what is in both
        SELECT f.call_id FROM found f WHERE ($3 IS NULL OR f.call_id < $3) AND (SELECT count(*) FROM near) < $4) x
    ORDER BY 2 DESC LIMIT $4 $$;
-- +goose StatementEnd
RESET ROLE;

-- +goose Down
SET LOCAL ROLE parley_locate;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION locate_calls_by_words(of_tenant uuid, wanted tsquery, before uuid, most int) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    -- First by words: turns by their calls would be all of the tenant's.
    WITH found AS MATERIALIZED (SELECT t.call_id FROM turns t WHERE t.tenant_id = $1 AND t.words @@ $2)
    SELECT DISTINCT $1, f.call_id FROM found f WHERE $3 IS NULL OR f.call_id < $3 ORDER BY 2 DESC LIMIT $4 $$;
-- +goose StatementEnd
RESET ROLE;
