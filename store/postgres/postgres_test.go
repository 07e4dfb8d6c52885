package postgres_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

func dial(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func list(t *testing.T, conn *pgx.Conn, q string) []string {
	t.Helper()
	r, err := conn.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Every function that looks over all tenants stands here with its reason.
var locateFunctions = map[string]string{
	"locate_agent(agent uuid)":      "a page or webhook names an agent",
	"locate_agent_named(name text)": "the same by name; the oldest wins",
	"locate_api_key(prefix text)":   "a request brings a key",
	"locate_behind(reader text)":    "tenants whose events a reader has not read, whosesoever",
	"locate_calls_by_words(of_tenant uuid, wanted tsquery, before uuid, most integer)": "row security would make the search a filter; the tenant is given",
	"locate_data_keys(after uuid)":                            "tenants whose data keys are to be wrapped again",
	"locate_due_dials(each integer, most integer)":            "calls to be placed, whosesoever, tenants taking turns",
	"locate_due_attempts(most integer)":                       "calls that were placed and of which nothing is heard, whosesoever",
	"locate_dialling_tenants()":                               "tenants with calls that were placed, whose slots are renewed",
	"locate_due_webhooks()":                                   "webhooks with something to be sent, whosesoever",
	"locate_unpublished()":                                    "tenants with events that nobody has published yet",
	"locate_browser_session(hash bytea)":                      "a request brings a cookie",
	"locate_call(call uuid)":                                  "a media socket brings a call's id",
	"locate_carrier_call(carrier text, carrier_call_id text)": "a carrier's webhook names its call",
	"locate_conversation(token_hash bytea)":                   "a request brings a chat's token",
	"locate_due_conversations()":                              "chats that somebody must go on with, whosesoever",
	"locate_erasures()":                                       "tenants with erasures to be done, whosesoever",
	"locate_expired_answers()":                                "tenants with answers to repeated requests that have expired, whosesoever",
	"locate_origin(origin text)":                              "a browser asks whether a page of an origin may chat",
	"locate_command(command uuid)":                            "a colleague's telephone asks by the command's id",
	"locate_tenant_origin(origin text)":                       "a browser asks whether a page of an origin may call the API",
	"locate_public_flow(flow uuid)":                           "anybody starts a chat with a flow that is open to all",
	"locate_number(e164 text)":                                "a call to a number",
	"locate_carrier_accounts(account_sid text, e164 text[])":  "a carrier's webhook says whose account it is of",
	"search_content(of_tenant uuid, words text, with_tags text[], of_type text, in_locale text, in_status text, before uuid, most integer)": "full-text search of the caller's own tenant",
	"locate_stale_calls(leased_before timestamp with time zone, arrived_before timestamp with time zone)":                                   "calls of a dead process, whosesoever",
	"locate_conversations_by_state(of_tenant uuid, wanted jsonb[])":                                                                         "row security would make the search a filter; the tenant is given",
	"locate_uncounted()":                                        "tenants with figures to be counted, whosesoever",
	"locate_unsealed()":                                         "tenants with audit entries that are not sealed, whosesoever",
	"locate_audited(after uuid, most integer)":                  "all tenants, whose audit trails are verified and anchored",
	"locate_user(email text)":                                   "sign-in by e-mail address",
	"locate_memberships(member uuid)":                           "a person's tenants, to choose from",
	"locate_tenants(before uuid, most integer)":                 "platform administrators list them",
	"locate_invitation(hash bytea)":                             "somebody accepts an invitation",
	"locate_password_reset(hash bytea)":                         "somebody sets a password by a link",
	"locate_lapsed_people(before timestamp with time zone)":     "old sessions, invitations and links, whosesoever",
	"locate_passkey(credential bytea)":                          "somebody signs in by a passkey alone",
	"locate_provider(provider uuid)":                            "a browser goes to a tenant's issuer, and comes back",
	"locate_identity(provider text, issuer text, subject text)": "somebody comes back from an issuer of the operator's",
	"locate_invited(email text)":                                "who comes from an issuer was invited by e-mail address",
}

func TestCatalogueOfDefiners(t *testing.T) {
	conn := dial(t, server.New(t).SuperURL)
	got := list(t, conn, `
		SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')'
		FROM pg_proc p WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace ORDER BY 1`)
	for _, f := range got {
		if locateFunctions[f] == "" {
			t.Errorf("%s is SECURITY DEFINER and not on the list", f)
		}
	}
	if len(got) != len(locateFunctions) {
		t.Errorf("%d definers, the list has %d", len(got), len(locateFunctions))
	}
	for what, q := range map[string]string{
		"not owned by parley_locate":   `proowner <> 'parley_locate'::regrole`,
		"open to PUBLIC":               `EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE a.grantee = 0)`,
		"without a pinned search_path": `NOT coalesce('search_path=pg_catalog, public, pg_temp' = ANY(proconfig), false)`,
		"returning more than ids":      `pg_get_function_result(oid) <> 'TABLE(tenant uuid, id uuid)'`,
	} {
		bad := list(t, conn, `SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace AND `+q)
		if len(bad) > 0 {
			t.Errorf("%s: %v", what, bad)
		}
	}
	if got := list(t, conn, `SELECT rolname FROM pg_roles WHERE rolname = 'parley_locate' AND (rolcanlogin OR rolsuper OR rolbypassrls)`); len(got) > 0 {
		t.Error("parley_locate may log in, or is above row security")
	}
}

func TestVerify(t *testing.T) {
	db := server.New(t)
	verify := func(url string) error {
		s, err := postgres.Open(t.Context(), url, postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		return s.Verify(t.Context())
	}
	if err := verify(db.AppURL); err != nil {
		t.Fatalf("as parley_app: %v", err)
	}
	for name, url := range map[string]string{"superuser": db.SuperURL, "owns": db.MigrateURL} {
		var unsafe *postgres.Unsafe
		if err := verify(url); !errors.As(err, &unsafe) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want Unsafe", name, err)
		}
	}
	super := dial(t, db.SuperURL)
	for _, step := range []struct{ name, do, undo string }{
		{"forced-off", `ALTER TABLE calls NO FORCE ROW LEVEL SECURITY`, `ALTER TABLE calls FORCE ROW LEVEL SECURITY`},
		{"disabled", `ALTER TABLE calls DISABLE ROW LEVEL SECURITY`, `ALTER TABLE calls ENABLE ROW LEVEL SECURITY`},
		{"no-policy", `DROP POLICY tenant ON turns`, `CREATE POLICY tenant ON turns USING (tenant_id = current_tenant())`},
		{"bare-table", `CREATE TABLE bare (id int)`, `DROP TABLE bare`},
		{"old-schema", `UPDATE goose_db_version SET version_id = version_id - 1`, `UPDATE goose_db_version SET version_id = version_id + 1`},
	} {
		if _, err := super.Exec(t.Context(), step.do); err != nil {
			t.Fatal(err)
		}
		if err := verify(db.AppURL); err == nil {
			t.Errorf("%s: Verify passes", step.name)
		}
		if _, err := super.Exec(t.Context(), step.undo); err != nil {
			t.Fatal(err)
		}
	}
	if err := verify(db.AppURL); err != nil {
		t.Errorf("after all was undone: %v", err)
	}
}

func TestMigrateDownAndUp(t *testing.T) {
	db := server.New(t)
	steps, err := postgres.MigrateStatus(t.Context(), db.MigrateURL)
	if err != nil {
		t.Fatal(err)
	}
	for range steps {
		if err := postgres.MigrateDown(t.Context(), db.MigrateURL); err != nil {
			t.Fatal(err)
		}
	}
	conn := dial(t, db.SuperURL)
	if got := list(t, conn, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'`); len(got) != 1 {
		t.Errorf("down leaves %v", got)
	}
	// Many start at once: one migrates, all succeed.
	errs := make(chan error)
	for range 3 {
		go func() { errs <- postgres.MigrateUp(t.Context(), db.MigrateURL) }()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	got, err := postgres.MigrateStatus(t.Context(), db.MigrateURL)
	if err != nil || len(got) == 0 || !got[len(got)-1].Applied {
		t.Errorf("status %v, %v", got, err)
	}
}

func TestBootstrapAgainAndAtOnce(t *testing.T) {
	db := server.New(t)
	super := dial(t, db.SuperURL)
	if _, err := super.Exec(t.Context(), `ALTER ROLE parley_app BYPASSRLS`); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for range 3 {
		go func() { errs <- postgres.Bootstrap(t.Context(), db.SuperURL, postgres.Passwords{App: "it's"}) }()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := list(t, super, `SELECT rolname FROM pg_roles WHERE rolname = 'parley_app' AND rolbypassrls`); len(got) > 0 {
		t.Error("a raised role stays raised")
	}
}
