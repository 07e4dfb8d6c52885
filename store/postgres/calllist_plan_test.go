package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/control"
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
	keepsByIndexes(t, v, super)
}

// keepsByIndexes holds that what is due to be deleted is found by an index of
// its own, and never by looking at all calls of the tenant.
func keepsByIndexes(t *testing.T, v tenancy, super *pgx.Conn) {
	t.Helper()
	for _, q := range []string{ // as of many, of which few are due
		`ALTER TABLE conversations DISABLE TRIGGER USER`,
		`INSERT INTO conversations (id, tenant_id, channel, flow_id, revision, status, state, state_hash, user_id, ended_at)
		 SELECT gen_random_uuid(), '` + v.tenant.String() + `', 'chat', '` + v.flow.String() + `', 1, 'completed', '{}', repeat('0', 44), 'user' || n,
			now() - n * interval '1 minute' FROM generate_series(1, 20000) n`,
		`ALTER TABLE conversations ENABLE TRIGGER USER`,
		`ANALYZE conversations`, `ANALYZE legal_holds`, `ANALYZE deletions`,
	} {
		mustExec(t, super, q)
	}
	old := time.Now().Add(-69 * 24 * time.Hour) // the calls are of 69.4 days
	person := func(e control.Erasure) *control.Erasure { e.RequestedAt = time.Now(); return &e }
	for _, tt := range []struct {
		name  string
		due   control.Due
		index []string
	}{
		{"calls", control.Due{Class: control.KeepCalls, Reason: control.ByPeriod}, []string{"calls_ended"}},
		{"transcripts", control.Due{Class: control.KeepTranscripts, Reason: control.ByPeriod}, []string{"calls_transcripts"}},
		{"recordings", control.Due{Class: control.KeepRecordings, Reason: control.ByPeriod}, []string{"calls_recordings"}},
		{"messages", control.Due{Class: control.KeepMessages, Reason: control.ByPeriod}, []string{"calls_messages"}},
		{"sessions", control.Due{Class: control.KeepSessions, Reason: control.ByPeriod}, []string{"conversations_ended"}},
		{"deleted calls", control.Due{Class: control.KeepCalls, Reason: control.ByHand}, []string{"calls_deleted"}},
		{"deleted recordings", control.Due{Class: control.KeepRecordings, Reason: control.ByHand}, []string{"calls_recording_deleted"}},
		{"deleted sessions", control.Due{Class: control.KeepSessions, Reason: control.ByHand}, []string{"conversations_deleted"}},
		{"deleted states", control.Due{Class: control.KeepStates, Reason: control.ByHand}, []string{"conversations_deleted"}},
		{"a caller's calls", control.Due{Class: control.KeepCalls, Reason: control.ByErasure, Erasure: person(control.Erasure{Caller: "+15550000007"})},
			[]string{"calls_caller", "calls_callee", "calls_pkey"}},
		{"a user's calls", control.Due{Class: control.KeepCalls, Reason: control.ByErasure, Erasure: person(control.Erasure{User: "user7"})},
			[]string{"conversations_user", "calls_pkey"}},
		{"a user's sessions", control.Due{Class: control.KeepSessions, Reason: control.ByErasure, Erasure: person(control.Erasure{User: "user7"})},
			[]string{"conversations_user"}},
	} {
		tt.due.Before = old
		plan := postgres.DuePlanOf(t, v.ctx, v.store, tt.due)
		for _, index := range tt.index {
			if !strings.Contains(plan, index) {
				t.Errorf("%s do not come by %s:\n%s", tt.name, index, plan)
			}
		}
		// By these names: what is asked for a number is no user's, and is not run.
		if strings.Contains(plan, "Seq Scan on calls c ") || strings.Contains(plan, "Seq Scan on conversations v ") {
			t.Errorf("%s are looked for among all:\n%s", tt.name, plan)
		}
	}
}

// Figures of a month read the sums and quarters that they are of by their index,
// and what is summed along a dimension no quarter at all.
func TestFiguresUseIndexes(t *testing.T) {
	w := newCallTown(t, server.New(t))
	w.grow(t, 800)
	to := time.Now().UTC().Truncate(24 * time.Hour)
	base := control.FigureQuery{From: to.Add(-30 * 24 * time.Hour), To: to, Zone: "Europe/Berlin"}
	for _, by := range []control.FigureBy{control.ByNothing, control.ByHour, control.ByDay, control.ByAgent, control.ByAgentVersion,
		control.ByFlow, control.ByFlowVersion, control.ByNumber, control.ByDirection, control.ByCarrier} {
		for _, number := range []string{"", "+49301003"} {
			q := base
			q.By, q.Number = by, number
			plan := postgres.FigurePlanOf(t, w.ctx, w.store, q)
			for _, table := range []string{"figure_sums", "call_figures"} {
				if strings.Contains(plan, "Seq Scan on "+table) {
					t.Errorf("by %q of number %q:\n%s", by, number, plan)
				}
			}
		}
	}
	// A call is counted, whenever something of it is deleted, by its keys.
	super := dial(t, w.db.SuperURL)
	tx, err := super.Begin(t.Context())
	must(t, err)
	var counted, scans int
	_, err = tx.Exec(t.Context(), `SELECT set_config('app.tenant', $1, true)`, w.tenant.String())
	must(t, err)
	_, err = tx.Exec(t.Context(), `SET LOCAL ROLE parley_app`)
	must(t, err)
	must(t, tx.QueryRow(t.Context(), `SELECT count(*) FROM count_calls(ARRAY(SELECT id FROM calls ORDER BY id LIMIT 1))`).Scan(&counted))
	must(t, tx.QueryRow(t.Context(), `SELECT sum(seq_scan) FROM pg_stat_xact_user_tables
		WHERE relname IN ('turns', 'usage_entries', 'conversation_history')`).Scan(&scans))
	must(t, tx.Rollback(t.Context()))
	if counted != 1 || scans != 0 {
		t.Errorf("%d rows of one call, by %d scans from end to end", counted, scans)
	}
	// Nothing but sums is read of days that are over.
	w.run(t, `TRUNCATE call_figures`)
	got, err := w.store.CallFigures(w.ctx, base)
	if err != nil || len(got) != 1 || got[0].Calls == 0 {
		t.Errorf("of sums alone: %v %v", got, err)
	}
}

// Lists of a number's calls and searches, page by page, are all that a scan
// finds, each call once and the newest first: among more calls than a search
// looks at one by one, of which some are deleted.
func TestPagesAreWhatAScanFinds(t *testing.T) {
	w := newCallTown(t, server.New(t))
	w.grow(t, 800)
	w.run(t, `UPDATE calls SET callee = caller WHERE id = (SELECT id FROM calls WHERE caller = '+49301003' ORDER BY id LIMIT 1)`, // itself
		`UPDATE calls SET deleted_at = now() WHERE id IN (SELECT id FROM calls ORDER BY id DESC LIMIT 40)`, // more than a page
		`UPDATE calls SET deleted_at = now() WHERE id IN (SELECT call_id FROM turns WHERE generated LIKE '% order4711' ORDER BY call_id LIMIT 1)`)
	from, until := time.Now().Add(-3*24*time.Hour), time.Now().Add(-2*24*time.Hour)
	for _, tt := range []struct{ name, scan, number, words string }{
		{"between", fmt.Sprintf(`started_at > '%s' AND started_at < '%s'`, from.Format(time.RFC3339Nano), until.Format(time.RFC3339Nano)), "", ""},
		{"number", `caller = '+49301003' OR callee = '+49301003'`, "+49301003", ""},
		{"rare", `EXISTS (SELECT FROM turns WHERE call_id = c.id AND generated LIKE '% order4711')`, "", "order4711"},
		{"common", `EXISTS (SELECT FROM turns WHERE call_id = c.id AND generated ~ '\mw1\M')`, "", "w1"},
		{"some", `EXISTS (SELECT FROM turns WHERE call_id = c.id AND generated ~ '\mw9\M')`, "", "w9"},
	} {
		want := list(t, dial(t, w.db.SuperURL), `SELECT id::text FROM calls c WHERE deleted_at IS NULL AND (`+tt.scan+`) ORDER BY id DESC`)
		var got []string
		page := control.Page{Limit: 7}
		for more := true; more; {
			var calls []control.Call
			var err error
			switch {
			case tt.name == "between":
				calls, err = w.store.Calls(w.ctx, control.CallFilter{StartedAfter: from, StartedBefore: until, Page: page})
			case tt.number != "":
				calls, err = w.store.Calls(w.ctx, control.CallFilter{Number: tt.number, Page: page})
			default:
				var q control.WordQuery
				if q, err = control.ParseWordQuery(tt.words); err != nil {
					t.Fatal(err)
				}
				var found []control.Found
				found, err = w.store.SearchCalls(w.ctx, q, page)
				for _, f := range found {
					calls = append(calls, f.Call)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range calls {
				got = append(got, c.ID.String())
				page.After = c.ID
			}
			more = len(calls) == page.Limit
		}
		if len(want) < 8 || !slices.Equal(got, want) {
			t.Errorf("%s: %d calls, want %d\n%v\n%v", tt.name, len(got), len(want), got, want)
		}
	}
}
