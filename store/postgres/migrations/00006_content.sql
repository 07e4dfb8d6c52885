-- +goose Up

-- Bootstrap makes it; a database that was prepared otherwise needs CREATE for
-- parley_migrate here.
CREATE EXTENSION IF NOT EXISTS btree_gin;

-- What words of a locale are cut to for search.
-- +goose StatementBegin
CREATE FUNCTION search_language(locale text) RETURNS regconfig
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN CASE lower(split_part(locale, '-', 1))
        WHEN 'en' THEN 'english'::regconfig WHEN 'de' THEN 'german'::regconfig WHEN 'fr' THEN 'french'::regconfig
        WHEN 'es' THEN 'spanish'::regconfig WHEN 'it' THEN 'italian'::regconfig WHEN 'nl' THEN 'dutch'::regconfig
        WHEN 'pt' THEN 'portuguese'::regconfig ELSE 'simple'::regconfig END;
-- +goose StatementEnd

-- What flows say that is kept outside of them.
CREATE TABLE contents (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    type       text NOT NULL CHECK (type IN ('joke', 'fact', 'question', 'quote', 'message', 'prompt')),
    body       jsonb NOT NULL,
    tags       text[] NOT NULL DEFAULT '{}',
    locale     text NOT NULL DEFAULT '',
    status     text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'published', 'archived')),
    weight     int NOT NULL DEFAULT 100 CHECK (weight BETWEEN 0 AND 1000000), -- of the body beside its variants
    revision   int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- Words as they stand and as the language cuts them.
    search     tsvector NOT NULL GENERATED ALWAYS AS (
        jsonb_to_tsvector('simple', body, '["string"]') || array_to_tsvector(tags)
        || jsonb_to_tsvector(search_language(locale), body, '["string"]')) STORED,
    UNIQUE (tenant_id, id)
);
CREATE INDEX contents_tenant ON contents (tenant_id, id DESC);
CREATE INDEX contents_published ON contents (tenant_id, type, id) WHERE status = 'published';
CREATE INDEX contents_search ON contents USING gin (tenant_id, search, tags);

CREATE TABLE content_variants (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    content_id uuid NOT NULL,
    key        text NOT NULL CHECK (key <> 'base'), -- the content's own form
    data       jsonb NOT NULL,
    weight     int NOT NULL DEFAULT 100 CHECK (weight BETWEEN 0 AND 1000000),
    conditions jsonb,
    revision   int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, content_id, key),
    FOREIGN KEY (tenant_id, content_id) REFERENCES contents (tenant_id, id) ON DELETE CASCADE
);

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['contents', 'content_variants'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;
-- +goose StatementEnd

-- Under row security @@ and @> are filters over all of a tenant's rows. This
-- asks the index, of the caller's own tenant only. A null does not narrow.
GRANT SELECT (id, tenant_id, type, tags, locale, status, search) ON contents TO parley_locate;
CREATE POLICY locate ON contents FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION search_content(of_tenant uuid, words text, with_tags text[], of_type text, in_locale text, in_status text,
        before uuid, most int)
    RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
    SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    IF of_tenant IS DISTINCT FROM current_tenant() THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT c.tenant_id, c.id FROM contents c
        WHERE c.tenant_id = of_tenant
          AND (words IS NULL OR c.search @@ (websearch_to_tsquery('simple', words)
               || websearch_to_tsquery(search_language(coalesce(in_locale, 'en')), words)))
          AND (with_tags IS NULL OR c.tags @> with_tags)
          AND (of_type IS NULL OR c.type = of_type)
          AND (in_status IS NULL OR c.status = in_status)
          AND (in_locale IS NULL OR c.locale = in_locale OR c.locale LIKE in_locale || '-%')
          AND (before IS NULL OR c.id < before)
    )
    SELECT f.tenant_id, f.id FROM found f ORDER BY f.id DESC LIMIT most;
END $$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION search_content FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_content TO parley_app;
ALTER FUNCTION search_content OWNER TO parley_locate;

-- What an event of an experiment is about, so that an index finds it: equality
-- of texts is leakproof, ->> is not.
ALTER TABLE events ADD subject text GENERATED ALWAYS AS (CASE
    WHEN type IN ('content_shown', 'content_engaged') THEN data ->> 'content_id'
    WHEN type IN ('experiment_arm', 'experiment_engaged') THEN data ->> 'experiment'
    WHEN type = 'goal' THEN data ->> 'goal' END) STORED;
CREATE INDEX events_content ON events (tenant_id, subject) WHERE type IN ('content_shown', 'content_engaged');
CREATE INDEX events_experiment ON events (tenant_id, flow_id) WHERE type IN ('experiment_arm', 'experiment_engaged');
CREATE INDEX events_goal ON events (session_id, seq) WHERE type = 'goal';

-- +goose Down
DROP INDEX events_goal, events_experiment, events_content;
ALTER TABLE events DROP subject;
SET LOCAL ROLE parley_locate;
DROP FUNCTION search_content;
RESET ROLE;
DROP TABLE content_variants, contents;
DROP FUNCTION search_language;
-- The extension stays: others may use it.
