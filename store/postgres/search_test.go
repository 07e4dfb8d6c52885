package postgres_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parley/control"
)

// A search by state reads the index, as the application role, among rows of two
// tenants; and it finds none of the other's.
func TestSearchByState(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	super := dial(t, db.SuperURL)
	for _, v := range []tenancy{a, b} {
		_, err := super.Exec(t.Context(), `
			INSERT INTO conversations (id, tenant_id, channel, flow_id, revision, status, state, state_hash)
			SELECT gen_random_uuid(), $1, 'chat', $2, 1, 'active',
			       jsonb_build_object('variables', jsonb_build_object('n', i, 'size', CASE i % 2 WHEN 0 THEN 'small' ELSE 'large' END,
			           'order', jsonb_build_object('zip', (10000 + i)::text)), 'user', '{}'::jsonb), repeat('0', 44)
			FROM generate_series(1, 2000) i`, v.tenant, v.flow)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := super.Exec(t.Context(), `ANALYZE conversations`); err != nil {
		t.Fatal(err)
	}
	find := func(tests ...control.StateTest) []control.Conversation {
		t.Helper()
		wanted, err := control.StateWanted(tests)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.store.Conversations(a.ctx, control.ConversationFilter{State: wanted, Page: control.Page{Limit: 200}})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, tt := range []struct {
		tests []control.StateTest
		want  int
	}{
		{[]control.StateTest{{Path: "variables.n", Value: "77"}}, 1},
		{[]control.StateTest{{Path: "variables.order.zip", Value: "10077"}}, 1},   // a text of figures
		{[]control.StateTest{{Path: "variables.order.zip", Value: `"10077"`}}, 1}, // said to be a text
		{[]control.StateTest{{Path: "variables.n", Value: `"77"`}}, 0},
		{[]control.StateTest{{Path: "variables.n", Value: "77"}, {Path: "variables.size", Value: "large"}}, 1},
		{[]control.StateTest{{Path: "variables.n", Value: "77"}, {Path: "variables.size", Value: "small"}}, 0},
		{[]control.StateTest{{Path: "variables.size", Value: "large"}}, 200},
		{[]control.StateTest{{Path: "user.name", Value: "null"}}, 0},
	} {
		if got := find(tt.tests...); len(got) != tt.want {
			t.Errorf("%v: %d, want %d", tt.tests, len(got), tt.want)
		}
	}
	if got, err := b.store.Conversations(b.ctx, control.ConversationFilter{State: []json.RawMessage{[]byte(`{"variables":{"n":77}}`)}}); err != nil || len(got) != 1 || got[0].Flow != b.flow {
		t.Errorf("the other tenant: %v, %v", got, err)
	}
	if plan := explained(t, db.SuperURL, a, `SELECT * FROM locate_conversations_by_state('`+a.tenant.String()+`', ARRAY['{"variables":{"n":77}}'::jsonb])`); !strings.Contains(plan, "Bitmap Index Scan on conversations_state") {
		t.Errorf("the index is not read:\n%s", plan)
	}
	// Without the function row security makes it a filter over the tenant.
	if plan := explained(t, db.SuperURL, a, `SELECT id FROM conversations WHERE state @> '{"variables":{"n":77}}'`); strings.Contains(plan, "Index Cond: (state @>") {
		t.Errorf("the function is not needed:\n%s", plan)
	}
}

// explained runs q as the application role and returns the plans of all that
// it came to, functions included.
func explained(t *testing.T, superURL string, v tenancy, q string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(superURL)
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { plan.WriteString(n.Message + "\n") }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, q := range []string{`LOAD 'auto_explain'`, `SET auto_explain.log_min_duration = 0`, `SET auto_explain.log_nested_statements = on`,
		`SET client_min_messages = log`, `SET ROLE parley_app`, `SELECT set_config('app.tenant', '` + v.tenant.String() + `', false)`} {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	plan.Reset()
	if _, err := conn.Exec(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
