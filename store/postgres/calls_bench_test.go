package postgres_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

// BenchmarkCalls measures what operators and the keeper do among a tenant's
// calls, at PARLEY_CALLS (10000,100000) calls of 30 days, on a server of its own
// that keeps its word; the same database grows from one size to the next. It
// ends with a table: p50 and p99 by size, and how many times the first size's p50
// the last one's is. Each operation runs 100 times or for 5 s, deletions 20 times.
func BenchmarkCalls(b *testing.B) {
	w := newCallTown(b, postgrestest.NewOwn(b).Database)
	s := w.openCalls(b)
	var rows []*benchRow
	var sizes []string
	for size := range strings.SplitSeq(cmp.Or(os.Getenv("PARLEY_CALLS"), "10000,100000"), ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		w.grow(b, n)
		b.Logf("%d calls, seeded in %s", n, time.Since(began).Round(time.Second))
		sizes = append(sizes, size)
		for i, op := range w.operations(b, s) {
			if i == len(rows) {
				rows = append(rows, &benchRow{name: op.name})
			}
			rows[i].measure(b, op)
		}
	}
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "ms, p50 / p99 at\t%s\tgrowth\t\n", strings.Join(sizes, "\t"))
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t", r.name)
		for i := range r.p50 {
			fmt.Fprintf(table, "%.1f / %.1f\t", r.p50[i], r.p99[i])
		}
		fmt.Fprintf(table, "%.1f\t\n", r.p50[len(r.p50)-1]/r.p50[0])
	}
	_ = table.Flush()
	fmt.Printf("\n%s", out.String()) // a log would be cut
}

type benchRow struct {
	name     string
	p50, p99 []float64 // ms, by size
}

// An operation is measured but for what before does, if there is something.
type callOperation struct {
	name   string
	before func(context.Context) error
	run    func(context.Context) error
}

func (r *benchRow) measure(b *testing.B, op callOperation) {
	b.Helper()
	var took []float64
	most := 100
	if strings.HasPrefix(op.name, "delete") {
		most = 20
	}
	for began := time.Now(); len(took) < most && (len(took) < 3 || time.Since(began) < 5*time.Second); {
		if op.before != nil {
			if err := op.before(b.Context()); err != nil {
				b.Fatalf("%s: %v", op.name, err)
			}
		}
		at := time.Now()
		if err := op.run(b.Context()); err != nil {
			b.Fatalf("%s: %v", op.name, err)
		}
		took = append(took, float64(time.Since(at).Microseconds())/1000)
	}
	slices.Sort(took)
	r.p50, r.p99 = append(r.p50, took[len(took)/2]), append(r.p99, took[len(took)*99/100])
}

// operations are what is measured. Lists are of 50 calls.
func (w *callTown) operations(t testing.TB, s *postgres.Store) []callOperation {
	yes := true
	today := time.Now().UTC().Truncate(24 * time.Hour)
	var all []callOperation
	list := func(name string, f control.CallFilter) {
		f.Limit = 50
		all = append(all, callOperation{"list " + name, nil, func(context.Context) error { _, err := s.Calls(w.ctx, f); return err }})
	}
	list("first page", control.CallFilter{})
	list("deep page", control.CallFilter{Page: control.Page{After: uuidAt(today.Add(-20 * 24 * time.Hour))}})
	list("of an agent", control.CallFilter{Agent: w.agent})
	list("of a caller", control.CallFilter{From: "+491510000007"})
	list("by prefix", control.CallFilter{From: "+49151000000", FromPrefix: true})
	list("of a number", control.CallFilter{Number: "+49301003"})
	list("of a quiet number", control.CallFilter{Number: "+493010049"})
	list("between times", control.CallFilter{StartedAfter: today.Add(-20 * 24 * time.Hour), StartedBefore: today.Add(-19 * 24 * time.Hour)})
	list("long ones", control.CallFilter{MinTalk: 399 * time.Second})
	list("by end", control.CallFilter{EndReason: "vendor"})
	list("transferred, recorded", control.CallFilter{Transferred: &yes, Recorded: &yes, Agent: w.agent})
	list("in progress", control.CallFilter{Ended: new(bool)})
	for _, of := range [][2]string{{"rare word", "order4711"}, {"word of some", "w700"}, {"common word", "w1"}, {"two words", "w2 w3"}, {"phrase", `"w1 w2"`}} {
		q, err := control.ParseWordQuery(of[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, callOperation{"search: " + of[0], nil, func(context.Context) error {
			_, err := s.SearchCalls(w.ctx, q, control.Page{Limit: 50})
			return err
		}})
	}
	figures := func(name string, q control.FigureQuery, days int) {
		q.From, q.To, q.Zone = today.Add(-time.Duration(days)*24*time.Hour), today, "Europe/Berlin"
		all = append(all, callOperation{"figures " + name, nil, func(context.Context) error { _, err := s.CallFigures(w.ctx, q); return err }})
	}
	figures("of a day", control.FigureQuery{}, 1)
	figures("of a day by hour", control.FigureQuery{By: control.ByHour}, 1)
	figures("of 30 days", control.FigureQuery{}, 30)
	figures("of 30 days by day", control.FigureQuery{By: control.ByDay}, 30)
	figures("of 30 days by agent", control.FigureQuery{By: control.ByAgent}, 30)
	figures("of 30 days by number", control.FigureQuery{By: control.ByNumber}, 30)
	figures("of 30 days of an agent", control.FigureQuery{Agent: w.agent}, 30)
	figures("of 30 days of an agent by day", control.FigureQuery{Agent: w.agent, By: control.ByDay}, 30)
	figures("of 30 days of an agent by number", control.FigureQuery{Agent: w.agent, By: control.ByNumber}, 30)
	return append(all, w.upkeep(t, s, today)...)
}

// upkeep is what is done without being asked for.
func (w *callTown) upkeep(t testing.TB, s *postgres.Store, today time.Time) []callOperation {
	mac := func(string) []byte { return []byte("m") }
	app := dial(t, w.db.AppURL)
	slot := today.Add(-5*24*time.Hour + 9*time.Hour)
	batch := func(class string) callOperation {
		return callOperation{"delete 50 calls: " + class, nil, func(context.Context) error {
			d, err := s.BeginDeletion(w.ctx, control.Due{Class: class, Reason: control.ByPeriod, Before: today}, time.Now(), 50)
			if err == nil {
				_, err = s.FinishDeletion(w.ctx, d, time.Now(), mac)
			}
			return err
		}}
	}
	return []callOperation{
		{"funnel of 30 days", nil, func(context.Context) error {
			_, err := s.FlowFigures(w.ctx, control.FlowQuery{Flow: w.flow, From: today.Add(-30 * 24 * time.Hour), To: today})
			return err
		}},
		{"live figures", nil, func(context.Context) error { _, err := s.LiveFigures(w.ctx); return err }},
		{"roll up a quarter", func(ctx context.Context) error {
			_, err := app.Exec(ctx, `SELECT set_config('app.tenant', $1, false)`, w.tenant.String())
			if err == nil {
				_, err = app.Exec(ctx, `INSERT INTO figure_marks VALUES (current_tenant(), $1)`, slot)
			}
			return err
		}, func(context.Context) error { return s.RollUp(w.ctx, slot) }},
		{"ask for an erasure", nil, func(context.Context) error {
			_, err := s.InsertErasure(w.ctx, control.Erasure{ID: control.NewID(), Caller: "+491510000009", Subject: []byte("s"), Status: "waiting", RequestedAt: today})
			return err
		}},
		batch(control.KeepTranscripts), batch(control.KeepCalls),
		{"delete 500 aged entries of usage", nil, func(context.Context) error {
			n, err := s.DeleteAged(w.ctx, control.Due{Class: control.KeepUsage, Reason: control.ByPeriod, Before: today}, time.Now(), 500, mac)
			if n == 0 && err == nil {
				err = errors.New("none was left")
			}
			return err
		}},
	}
}

// uuidAt is an id of the time.
func uuidAt(at time.Time) (id uuid.UUID) {
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = 0x70, 0x80
	return id
}
