-- +goose Up

-- What is deleted, and can still be brought back, is no find: a page is filled
-- with calls that are there, as their reader does not see the others.
GRANT SELECT (deleted_at) ON calls TO parley_locate;
SET LOCAL ROLE parley_locate;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION locate_calls_by_words(of_tenant uuid, wanted tsquery, before uuid, most int) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH newest AS MATERIALIZED (
        SELECT c.id FROM calls c WHERE c.tenant_id = $1 AND c.deleted_at IS NULL AND ($3 IS NULL OR c.id < $3) ORDER BY c.id DESC LIMIT 500
    ), near AS MATERIALIZED (
        -- The limit keeps it a walk over the calls, the offset each by its key: by the index of words it
        -- would be a common word's turns again for each.
        SELECT n.id FROM newest n CROSS JOIN LATERAL (
            SELECT FROM (SELECT t.words FROM turns t WHERE t.call_id = n.id OFFSET 0) t WHERE t.words @@ $2 LIMIT 1) t
    ), found AS MATERIALIZED (SELECT t.call_id FROM turns t WHERE t.tenant_id = $1 AND t.words @@ $2
    ), there AS (
        SELECT f.call_id FROM (SELECT DISTINCT g.call_id FROM found g
            WHERE ($3 IS NULL OR g.call_id < $3) AND (SELECT count(*) FROM near) < $4) f -- else nothing of it is looked at
        CROSS JOIN LATERAL (SELECT FROM calls c WHERE c.id = f.call_id AND c.deleted_at IS NULL OFFSET 0) c
    )
    SELECT $1, x.id FROM (
        SELECT n.id FROM near n
        UNION -- and so without what is in both
        SELECT h.call_id FROM there h) x
    ORDER BY 2 DESC LIMIT $4 $$;
-- +goose StatementEnd
RESET ROLE;

-- +goose Down
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
REVOKE SELECT (deleted_at) ON calls FROM parley_locate;
