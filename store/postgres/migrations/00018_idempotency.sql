-- +goose Up

-- Requests that name themselves by an Idempotency-Key, and what they were
-- answered: sealed under the operator's key file, since an answer may hold what
-- is shown once. The key is a MAC of who asked, the route and the client's key;
-- neither it nor the request can be read from here.
CREATE TABLE idempotency_keys (
    tenant_id   uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    key         bytea NOT NULL CHECK (length(key) = 32),
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32), -- a MAC of the request
    claim       uuid NOT NULL,                                   -- the attempt that may answer
    begun_at    timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    answer      bytea CHECK (length(answer) <= 512 * 1024),      -- null: not yet
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_expired ON idempotency_keys (expires_at);
ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON idempotency_keys USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO parley_app;

GRANT SELECT (tenant_id, expires_at) ON idempotency_keys TO parley_locate;
CREATE POLICY locate ON idempotency_keys FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_expired_answers() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT DISTINCT k.tenant_id, k.tenant_id FROM idempotency_keys k WHERE k.expires_at <= now() LIMIT 500 $$;
DO $$
BEGIN
    REVOKE EXECUTE ON FUNCTION locate_expired_answers() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION locate_expired_answers() TO parley_app;
    ALTER FUNCTION locate_expired_answers() OWNER TO parley_locate;
END $$;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_expired_answers;
RESET ROLE;
DROP TABLE idempotency_keys;
