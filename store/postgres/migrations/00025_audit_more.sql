-- What is said and to whom it is told is in the audit trail, too: contents,
-- their variants, and subscribers. Of texts and addresses it holds nothing.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    noun text := TG_ARGV[0];
    r jsonb := to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END);
BEGIN
    PERFORM note_audit((r ->> 'tenant_id')::uuid, noun || CASE TG_OP WHEN 'INSERT' THEN '.create' WHEN 'UPDATE' THEN '.change' ELSE '.delete' END,
        noun || ':' || (r ->> 'id'), jsonb_build_object('revision', r -> 'revision'));
    RETURN NULL;
END $$;
DO $$
DECLARE noun text;
BEGIN
    FOREACH noun IN ARRAY ARRAY['content', 'content_variant', 'webhook'] LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER audit_write AFTER INSERT OR DELETE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION audit_row(%L)', noun || 's', noun);
        EXECUTE format('CREATE CONSTRAINT TRIGGER audit_update AFTER UPDATE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (OLD.revision <> NEW.revision) EXECUTE FUNCTION audit_row(%L)', noun || 's', noun);
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER audit_write ON contents;
DROP TRIGGER audit_update ON contents;
DROP TRIGGER audit_write ON content_variants;
DROP TRIGGER audit_update ON content_variants;
DROP TRIGGER audit_write ON webhooks;
DROP TRIGGER audit_update ON webhooks;
DROP FUNCTION audit_row;
