package postgres_test

import (
	"strings"
	"testing"

	"parley/store/postgres"
)

// No list of calls reads the table from end to end, at 100,000 calls of a tenant.
func TestCallListsUseIndexes(t *testing.T) {
	db := server.New(t)
	v := seed(t, db, "a")
	super := dial(t, db.SuperURL)
	for _, q := range []string{
		`ALTER TABLE calls DISABLE TRIGGER USER`,
		`INSERT INTO calls (id, tenant_id, agent_id, carrier, direction, caller, callee, status, started_at, answered_at, ended_at, end_reason, agent_version_id)
		 SELECT gen_random_uuid(), '` + v.tenant.String() + `', '` + v.agent.String() + `', 'twilio', 'inbound', '+1555' || lpad(n::text, 7, '0'),
			'+1666' || lpad((n % 50)::text, 7, '0'), 'ended', now() - n * interval '1 minute', now() - n * interval '1 minute',
			now() - n * interval '1 minute' + (n % 600) * interval '1 second', 'goodbye',
			(SELECT published_id FROM agent_environments WHERE agent_id = '` + v.agent.String() + `') FROM generate_series(1, 100000) n`,
		`ALTER TABLE calls ENABLE TRIGGER USER`,
		`ANALYZE calls`,
	} {
		if _, err := super.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for name, plan := range postgres.PlansOf(t, v.ctx, v.store) {
		if strings.Contains(plan, "Seq Scan on calls") {
			t.Errorf("%s:\n%s", name, plan)
		}
	}
}
