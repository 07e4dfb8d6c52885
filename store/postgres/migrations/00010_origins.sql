-- +goose Up

-- Pages of these origins may chat with a flow from the browser.
ALTER TABLE flows ADD origins text[] NOT NULL DEFAULT '{}';
CREATE INDEX flows_origins ON flows USING gin (origins) WHERE origins <> '{}';

-- A browser asks before it sends, without saying whom it will send to.
GRANT SELECT (origins) ON flows TO parley_locate;
-- +goose StatementBegin
CREATE FUNCTION locate_origin(origin text) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT f.tenant_id, f.id FROM flows f WHERE f.origins @> ARRAY[$1] AND f.origins <> '{}' LIMIT 1 $$;
DO $$
BEGIN
    REVOKE EXECUTE ON FUNCTION locate_origin(text) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION locate_origin(text) TO parley_app;
    ALTER FUNCTION locate_origin(text) OWNER TO parley_locate;
END $$;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_origin;
RESET ROLE;
ALTER TABLE flows DROP origins;
