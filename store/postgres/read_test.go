package postgres_test

import (
	"testing"
)

// Who reads for a report sees one tenant's work at a time, nothing that signs
// anybody in, and can write nowhere.
func TestReadRole(t *testing.T) {
	db := server.New(t)
	super := dial(t, db.SuperURL)
	a, b := seedAll(t, db, "a"), seedAll(t, db, "b")
	if got := list(t, super, `SELECT rolname FROM pg_roles WHERE rolname = 'parley_read' AND (rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole)`); len(got) > 0 {
		t.Error("the role can do more than read")
	}
	if _, err := super.Exec(t.Context(), `SET ROLE parley_read`); err != nil {
		t.Fatal(err)
	}
	readable := map[string]bool{}
	for _, name := range list(t, super, `SELECT table_name::text FROM information_schema.table_privileges WHERE grantee = 'parley_read' AND privilege_type = 'SELECT'`) {
		readable[name] = true
	}
	for _, name := range []string{"calls", "turns", "events", "audit", "usage_entries", "call_figures", "dials", "agents", "flows", "numbers"} {
		if !readable[name] {
			t.Errorf("%s cannot be read", name)
		}
	}
	for _, name := range []string{"api_keys", "users", "browser_sessions", "data_keys", "webhooks", "second_factors", "recovery_codes", "passkeys", "signing_keys",
		"identity_providers", "conversations", "secrets", "temporary_tokens", "carrier_accounts", "idempotency_keys", "river_job"} {
		if readable[name] {
			t.Errorf("%s can be read", name)
		}
	}
	if got := list(t, super, `SELECT table_name::text || ' ' || privilege_type FROM information_schema.table_privileges WHERE grantee = 'parley_read' AND privilege_type <> 'SELECT'`); len(got) > 0 {
		t.Errorf("it may do more than read: %v", got)
	}
	for _, w := range walls(t, super) {
		if !readable[w.table] {
			if _, err := asTenant(t, super, a.tenant.String(), "SELECT FROM "+w.table+" LIMIT 1"); !refused(err) {
				t.Errorf("%s: %v, want it refused", w.table, err)
			}
			continue
		}
		none, err := asTenant(t, super, "", "SELECT FROM "+w.table)
		if err != nil || none != 0 {
			t.Errorf("%s without a tenant: %d rows, %v", w.table, none, err)
		}
		theirs, err := asTenant(t, super, a.tenant.String(), "SELECT FROM "+w.table+" x WHERE NOT ("+w.owner+")", a.tenant)
		if err != nil || theirs != 0 {
			t.Errorf("%s: %d rows of others, %v", w.table, theirs, err)
		}
		own, err := asTenant(t, super, b.tenant.String(), "SELECT FROM "+w.table+" x WHERE "+w.owner, b.tenant)
		if err != nil || own == 0 {
			t.Errorf("%s: %d rows of its own, %v", w.table, own, err)
		}
	}
}
