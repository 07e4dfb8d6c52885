-- +goose Up

-- What operators see of a call in progress, and may look for afterwards. phase
-- and flow_node are as the process that serves the call saw them last.
ALTER TABLE calls
    ADD revision  int NOT NULL DEFAULT 0, -- counts what an operator may act upon
    ADD phase     text NOT NULL DEFAULT '',
    ADD phase_at  timestamptz,
    ADD flow_node text NOT NULL DEFAULT '',
    ADD talked_ms bigint GENERATED ALWAYS AS ((extract(epoch FROM ended_at - answered_at) * 1000)::bigint) STORED;
CREATE INDEX calls_callee ON calls (tenant_id, callee text_pattern_ops, id DESC);
CREATE INDEX calls_caller_prefix ON calls (tenant_id, caller text_pattern_ops, id DESC);
CREATE INDEX calls_direction ON calls (tenant_id, direction, id DESC);
CREATE INDEX calls_started ON calls (tenant_id, started_at);
CREATE INDEX calls_reason ON calls (tenant_id, end_reason, id DESC);
CREATE INDEX calls_talked ON calls (tenant_id, talked_ms) WHERE talked_ms IS NOT NULL;
CREATE INDEX calls_in_progress ON calls (tenant_id, status, id DESC) WHERE status <> 'ended';
CREATE INDEX calls_transferred ON calls (tenant_id, id DESC) WHERE transfer_to <> '';
CREATE INDEX calls_with_recording ON calls (tenant_id, id DESC) WHERE recording <> '';

-- What operators want of calls in progress. The process that serves a call takes
-- its commands from here, whichever process they were sent to. words is what is
-- said or noted, sealed where the program seals; it goes when the command is over.
CREATE TABLE call_commands (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    call_id    uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('hangup', 'transfer', 'warm_transfer', 'whisper', 'say')),
    target     text NOT NULL DEFAULT '',
    words      jsonb,
    sealed     bytea,
    status     text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'taken', 'done', 'failed')),
    stage      text NOT NULL DEFAULT '', -- how far a warm transfer has come
    told       boolean NOT NULL DEFAULT false, -- … and the call's session knows
    leg        text NOT NULL DEFAULT '', -- the carrier's call to the colleague
    reason     text NOT NULL DEFAULT '', -- why it failed
    actor      text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at   timestamptz,
    UNIQUE (tenant_id, id),
    CHECK ((status IN ('done', 'failed')) = (ended_at IS NOT NULL)),
    FOREIGN KEY (tenant_id, call_id) REFERENCES calls (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX call_commands_call ON call_commands (tenant_id, call_id, id DESC);
-- A call goes one way at a time.
CREATE UNIQUE INDEX call_commands_decisive ON call_commands (tenant_id, call_id)
    WHERE status IN ('pending', 'taken') AND kind IN ('hangup', 'transfer', 'warm_transfer');
ALTER TABLE call_commands ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON call_commands USING (tenant_id = current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON call_commands TO parley_app;

-- A colleague's telephone asks by the command's id, without saying whose it is.
GRANT SELECT (tenant_id, id) ON call_commands TO parley_locate;
CREATE POLICY locate ON call_commands FOR SELECT TO parley_locate USING (true);
-- +goose StatementBegin
CREATE FUNCTION locate_command(command uuid) RETURNS TABLE (tenant uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.tenant_id, c.id FROM call_commands c WHERE c.id = $1 $$;
DO $$
BEGIN
    REVOKE EXECUTE ON FUNCTION locate_command(uuid) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION locate_command(uuid) TO parley_app;
    ALTER FUNCTION locate_command(uuid) OWNER TO parley_locate;
END $$;

CREATE FUNCTION count_call() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    NEW.phase := '';
    RETURN NEW;
END $$;

-- Who did what to which call, and never what was said.
CREATE FUNCTION audit_command() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM note_audit(NEW.tenant_id, 'call.' || NEW.kind, 'call:' || NEW.call_id,
        jsonb_strip_nulls(jsonb_build_object('command', NEW.id, 'to', nullif(NEW.target, ''))));
    RETURN NULL;
END $$;

-- A command that the call's own course settles is settled with it.
CREATE FUNCTION settle_commands() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.status = 'ended' AND OLD.status <> 'ended' AND NEW.end_reason NOT IN ('crashed', 'network') THEN
        UPDATE call_commands SET words = NULL, sealed = NULL, ended_at = now(),
            status = CASE WHEN kind = 'hangup' OR kind LIKE '%transfer' AND NEW.end_reason = 'transfer' THEN 'done' ELSE 'failed' END,
            reason = CASE WHEN kind = 'hangup' OR kind LIKE '%transfer' AND NEW.end_reason = 'transfer' THEN '' ELSE 'the call ended first: ' || NEW.end_reason END
        WHERE tenant_id = NEW.tenant_id AND call_id = NEW.id AND status IN ('pending', 'taken');
    ELSIF OLD.status = 'transferring' AND NEW.status = 'active' THEN
        UPDATE call_commands SET words = NULL, sealed = NULL, ended_at = now(), status = 'failed', reason = NEW.transfer_outcome
        WHERE tenant_id = NEW.tenant_id AND call_id = NEW.id AND status = 'taken' AND kind LIKE '%transfer';
    ELSIF NEW.generation <> OLD.generation THEN -- another session serves the call now
        UPDATE call_commands SET words = NULL, sealed = NULL, ended_at = now(), status = 'failed',
            reason = 'the process that served the call ended while the colleague was asked'
        WHERE tenant_id = NEW.tenant_id AND call_id = NEW.id AND status = 'taken' AND kind = 'warm_transfer';
        UPDATE call_commands SET status = 'pending'
        WHERE tenant_id = NEW.tenant_id AND call_id = NEW.id AND status = 'taken';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER count_change BEFORE UPDATE ON calls FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION count_call();
CREATE TRIGGER settle_commands AFTER UPDATE ON calls FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.generation IS DISTINCT FROM NEW.generation)
    EXECUTE FUNCTION settle_commands();
CREATE CONSTRAINT TRIGGER audit_insert AFTER INSERT ON call_commands DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_command();

-- +goose Down
DROP TRIGGER settle_commands ON calls;
DROP TRIGGER count_change ON calls;
SET LOCAL ROLE parley_locate;
DROP FUNCTION locate_command;
RESET ROLE;
DROP TABLE call_commands;
DROP FUNCTION settle_commands, audit_command, count_call;
DROP INDEX calls_direction, calls_callee, calls_caller_prefix, calls_started, calls_reason, calls_talked, calls_in_progress, calls_transferred, calls_with_recording;
ALTER TABLE calls DROP revision, DROP phase, DROP phase_at, DROP flow_node, DROP talked_ms;
