-- +goose Up

-- What vendors did for calls, and what it costs. An entry says what was paid for
-- under the price of its time: no later price changes it. It outlives its call,
-- which is why it refers to none, and holds nothing personal.
CREATE TABLE usage_entries (
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    call_id    uuid NOT NULL,
    generation int NOT NULL,             -- of the claim under which it arose; 0: of the call as a whole
    turn       int NOT NULL,             -- index; -1: of none, -2: after the call
    kind       text NOT NULL,
    vendor     text NOT NULL,
    model      text NOT NULL DEFAULT '',
    agent_id   uuid NOT NULL,
    amount     bigint NOT NULL CHECK (amount >= 0),
    estimated  boolean NOT NULL DEFAULT false,
    currency   text NOT NULL DEFAULT '', -- empty: there was no price
    micros     bigint NOT NULL DEFAULT 0,
    price      text NOT NULL DEFAULT '', -- which: an id, or the version of the built-in list
    at         timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, call_id, generation, turn, kind, vendor, model)
);
CREATE INDEX usage_entries_at ON usage_entries (tenant_id, at) INCLUDE (currency, micros);

-- A tenant's own prices, before the built-in ones. They are added, never changed.
CREATE TABLE prices (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    kind       text NOT NULL,
    vendor     text NOT NULL,
    model      text NOT NULL DEFAULT '', -- empty: any
    currency   text NOT NULL,
    micros     bigint NOT NULL CHECK (micros >= 0), -- for so many units
    per        bigint NOT NULL CHECK (per > 0),
    increment  bigint NOT NULL CHECK (increment > 0), -- amounts are rounded up to a multiple
    valid_from timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, kind, vendor, model, valid_from)
);
CREATE INDEX prices_tenant ON prices (tenant_id, id DESC);

-- What was made of a call after its end. What it says is sealed as transcripts are.
CREATE TABLE call_afterwork (
    tenant_id  uuid NOT NULL,
    call_id    uuid PRIMARY KEY,
    status     text NOT NULL CHECK (status IN ('done', 'failed')),
    failure    text NOT NULL DEFAULT '',
    summary    text NOT NULL DEFAULT '',
    extracted  jsonb,
    sealed     bytea,
    at         timestamptz NOT NULL,
    FOREIGN KEY (tenant_id, call_id) REFERENCES calls (tenant_id, id) ON DELETE CASCADE
);

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['usage_entries', 'prices', 'call_afterwork'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;
CREATE FUNCTION audit_price() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM note_audit(NEW.tenant_id, 'price.create', 'price:' || NEW.id, to_jsonb(NEW) - 'tenant_id' - 'id' - 'created_at');
    RETURN NULL;
END $$;
CREATE FUNCTION write_afterwork_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- What it says stays with the call: it may be anything.
    PERFORM write_event(NEW.tenant_id, NEW.call_id, 'call_summarized', NULL, NULL, jsonb_build_object('status', NEW.status,
        'summary', NEW.sealed IS NOT NULL OR NEW.summary <> '', 'failure', nullif(NEW.failure, '')));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON prices DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_price();
CREATE TRIGGER write_event AFTER INSERT ON call_afterwork FOR EACH ROW EXECUTE FUNCTION write_afterwork_event();

-- What was said, by its words, each blinded with the key that seals the turn:
-- who has no key finds that two turns share a word, and not which. Row security
-- would make @@ a filter over the whole tenant, as it is not leakproof; hence a
-- function with the tenant in front, and an index that begins with it.
ALTER TABLE turns ADD words tsvector;
CREATE INDEX turns_words ON turns USING gin (tenant_id, words);
GRANT SELECT (tenant_id, call_id, words) ON turns TO parley_locate;
CREATE POLICY locate ON turns FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_calls_by_words(of_tenant uuid, wanted tsquery, before uuid, most int) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    -- First by words: turns by their calls would be all of the tenant's.
    WITH found AS MATERIALIZED (SELECT t.call_id FROM turns t WHERE t.tenant_id = $1 AND t.words @@ $2)
    SELECT DISTINCT $1, f.call_id FROM found f WHERE $3 IS NULL OR f.call_id < $3 ORDER BY 2 DESC LIMIT $4 $$;
REVOKE EXECUTE ON FUNCTION locate_calls_by_words FROM PUBLIC;
GRANT EXECUTE ON FUNCTION locate_calls_by_words TO parley_app;
ALTER FUNCTION locate_calls_by_words OWNER TO parley_locate;
-- +goose StatementEnd

-- Whether the caller was told of the recording and agreed, and why there is none.
ALTER TABLE calls ADD consent text NOT NULL DEFAULT '', ADD recording_failure text NOT NULL DEFAULT '';
-- +goose StatementBegin
CREATE FUNCTION write_recording_event() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.recording_failure <> '' AND OLD.recording_failure = '' THEN
        PERFORM write_event(NEW.tenant_id, NEW.id, 'call_recording_failed', NULL, NULL, jsonb_build_object('reason', NEW.recording_failure));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER write_recording AFTER UPDATE ON calls FOR EACH ROW
    WHEN (OLD.recording_failure IS DISTINCT FROM NEW.recording_failure) EXECUTE FUNCTION write_recording_event();
CREATE INDEX calls_recorded ON calls (tenant_id, id DESC) WHERE recording <> '';

-- +goose Down
DROP INDEX calls_recorded;
DROP TRIGGER write_recording ON calls;
DROP FUNCTION write_recording_event;
ALTER TABLE calls DROP consent, DROP recording_failure;
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_calls_by_words;
RESET ROLE;
DROP POLICY locate ON turns;
REVOKE SELECT (tenant_id, call_id, words) ON turns FROM parley_locate;
DROP INDEX turns_words;
ALTER TABLE turns DROP words;
DROP TABLE call_afterwork, prices, usage_entries;
DROP FUNCTION write_afterwork_event, audit_price;
