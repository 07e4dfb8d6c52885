-- +goose Up

-- What a tenant lets its outbound calls do. Without a row the program's defaults
-- hold. Money is in millionths of the operator's currency.
CREATE TABLE outbound_policies (
    tenant_id          uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    quiet_from         int NOT NULL CHECK (quiet_from BETWEEN 0 AND 1439), -- minutes after midnight, where the callee is
    quiet_until        int NOT NULL CHECK (quiet_until BETWEEN 0 AND 1439),
    time_zone          text NOT NULL, -- of numbers that tell of none
    concurrency        int NOT NULL CHECK (concurrency >= 0),
    number_concurrency int NOT NULL CHECK (number_concurrency >= 0),
    per_minute         int NOT NULL CHECK (per_minute >= 0),
    daily_spend        bigint NOT NULL CHECK (daily_spend >= 0),
    prefixes           text[] NOT NULL,
    consent_required   boolean NOT NULL,
    revision           int NOT NULL DEFAULT 1,
    updated_at         timestamptz NOT NULL DEFAULT now()
);

-- An order to call somebody, and each try at it, which stands before the carrier
-- is asked. Once the carrier has it there is a call of the same id.
CREATE TABLE dials (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    agent_id      uuid NOT NULL,
    callee        text NOT NULL,
    caller        text NOT NULL,
    status        text NOT NULL CHECK (status IN ('scheduled', 'dialling', 'completed', 'failed', 'canceled')),
    due_at        timestamptz NOT NULL,
    moved_from    timestamptz,               -- due_at before quiet hours moved it
    reason        text NOT NULL DEFAULT '',  -- why it was moved, or waits
    expires_at    timestamptz NOT NULL,
    settings      jsonb NOT NULL,            -- consent, voicemail, retry, limits of time
    variables     jsonb NOT NULL,
    reference     text NOT NULL DEFAULT '',
    any_hour      boolean NOT NULL,
    attempts      int NOT NULL DEFAULT 0,
    outcome       text NOT NULL DEFAULT '',
    error_code    text NOT NULL DEFAULT '',
    error         text NOT NULL DEFAULT '',  -- for the operator
    created_by    text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    claim         uuid,        -- the process that is about to call,
    claimed_until timestamptz, -- as long as this lies ahead
    UNIQUE (tenant_id, id),
    CHECK ((status IN ('completed', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX dials_due ON dials (tenant_id, due_at, id) WHERE status = 'scheduled';
-- Nobody's telephone rings twice at once, and a call that the carrier has can be
-- told by whom it is to.
CREATE UNIQUE INDEX dials_one_at_once ON dials (tenant_id, callee) WHERE status = 'dialling';
CREATE INDEX dials_tenant ON dials (tenant_id, id DESC);
CREATE INDEX dials_callee ON dials (tenant_id, callee, id DESC);
CREATE INDEX dials_reference ON dials (tenant_id, reference, id DESC) WHERE reference <> '';

CREATE TABLE dial_attempts (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    dial_id     uuid NOT NULL,
    number      int NOT NULL, -- from 1
    caller      text NOT NULL,
    call_id     uuid,         -- once the carrier has it: id
    carrier_sid text NOT NULL DEFAULT '',
    status      text NOT NULL CHECK (status IN ('intended', 'placed', 'ringing', 'answered', 'ended')),
    started_at  timestamptz NOT NULL,
    answered_at timestamptz,
    ended_at    timestamptz,
    answered_by text NOT NULL DEFAULT '',
    outcome     text NOT NULL DEFAULT '',
    error_code  text NOT NULL DEFAULT '',
    error       text NOT NULL DEFAULT '',
    price       bigint NOT NULL, -- millionths a minute
    cost        bigint NOT NULL, -- set aside while it is open, then what it came to
    check_at    timestamptz NOT NULL, -- when the carrier is asked, if it said nothing
    checks      int NOT NULL DEFAULT 0,
    UNIQUE (tenant_id, id),
    UNIQUE (dial_id, number),
    CHECK (call_id = id),
    CHECK ((status = 'ended') = (ended_at IS NOT NULL)),
    FOREIGN KEY (tenant_id, dial_id) REFERENCES dials (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, call_id) REFERENCES calls (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX dial_attempts_dial ON dial_attempts (tenant_id, dial_id, number);
CREATE INDEX dial_attempts_call ON dial_attempts (tenant_id, call_id);
CREATE INDEX dial_attempts_open ON dial_attempts (check_at) WHERE status <> 'ended';
CREATE INDEX dial_attempts_held ON dial_attempts (tenant_id) WHERE status <> 'ended';
CREATE INDEX dial_attempts_day ON dial_attempts (tenant_id, started_at);

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['outbound_policies', 'dials', 'dial_attempts'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = current_tenant())', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO parley_app', t);
    END LOOP;
END $$;

-- Who was ordered to be called, by whom, with whose consent, and who took it back.
CREATE FUNCTION audit_dial() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit(NEW.tenant_id, 'dial.create', 'dial:' || NEW.id, jsonb_build_object('agent_id', NEW.agent_id,
            'any_hour', NEW.any_hour, 'consent', coalesce(NEW.settings -> 'consent', 'null'::jsonb)));
    ELSE
        PERFORM note_audit(NEW.tenant_id, 'dial.cancel', 'dial:' || NEW.id, '{}');
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION audit_outbound_policy() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM note_audit(NEW.tenant_id, 'outbound_policy.change', 'tenant:' || NEW.tenant_id,
        to_jsonb(NEW) - 'tenant_id' - 'updated_at');
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON dials DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_dial();
CREATE CONSTRAINT TRIGGER audit_cancel AFTER UPDATE ON dials DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.status <> 'canceled' AND NEW.status = 'canceled') EXECUTE FUNCTION audit_dial();
CREATE CONSTRAINT TRIGGER audit_change AFTER INSERT OR UPDATE ON outbound_policies DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_outbound_policy();

-- What works across tenants. Ids only. Tenants take turns, so that one with
-- many orders keeps no other waiting.
GRANT SELECT (id, suspended_at) ON tenants TO parley_locate;
GRANT SELECT (id, tenant_id, status, due_at, claimed_until) ON dials TO parley_locate;
GRANT SELECT (id, tenant_id, status, check_at) ON dial_attempts TO parley_locate;
CREATE POLICY locate ON dials FOR SELECT TO parley_locate USING (true);
CREATE POLICY locate ON dial_attempts FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_due_dials(each int, most int) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT t.id, d.id FROM tenants t CROSS JOIN LATERAL (
        SELECT d.id, d.due_at, row_number() OVER (ORDER BY d.due_at, d.id) AS turn FROM dials d
        WHERE d.tenant_id = t.id AND d.status = 'scheduled' AND d.due_at <= now()
          AND (d.claimed_until IS NULL OR d.claimed_until < now())
        ORDER BY d.due_at, d.id LIMIT $1) d
    WHERE t.suspended_at IS NULL
    ORDER BY d.turn, d.due_at, d.id LIMIT $2 $$;
CREATE FUNCTION locate_due_attempts(most int) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT a.tenant_id, a.id FROM dial_attempts a
    WHERE a.status <> 'ended' AND a.check_at <= now() ORDER BY a.check_at LIMIT $1 $$;
CREATE FUNCTION locate_dialling_tenants() RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT DISTINCT a.tenant_id, a.tenant_id FROM dial_attempts a WHERE a.status <> 'ended' $$;
DO $$
DECLARE f text;
BEGIN
    FOREACH f IN ARRAY ARRAY['locate_due_dials(int, int)', 'locate_due_attempts(int)', 'locate_dialling_tenants()'] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO parley_app', f);
        EXECUTE format('ALTER FUNCTION %s OWNER TO parley_locate', f);
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_due_dials, locate_due_attempts, locate_dialling_tenants;
RESET ROLE;
REVOKE SELECT (suspended_at) ON tenants FROM parley_locate;
DROP TABLE dial_attempts, dials, outbound_policies;
DROP FUNCTION audit_dial, audit_outbound_policy;
