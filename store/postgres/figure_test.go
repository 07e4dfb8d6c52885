package postgres_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent"
	"parley/control"
	"parley/store/postgres/postgrestest"
)

// A past call or chat, as the test knows it: the figures are counted from it
// again, whatever became of its rows.
type past struct {
	id, agent                    uuid.UUID
	agentVersion                 int
	chat, ended                  bool
	direction, carrier, from, to string
	started                      time.Time
	answered                     bool
	talk                         time.Duration
	reason, transferTo, flow     string // flow: its status, or ""
	turns                        []pastTurn
	steps                        []pastStep
	gone                         bool // nothing of it may be changed
}

type pastTurn struct {
	speaker string
	cut     bool
	audio   float64 // ms; 0: none
	pauses  []string
}

type pastStep struct {
	entered          []string
	noInput, noMatch string
}

// A town makes pasts and writes them as the application does.
type figureTown struct {
	tenancy
	t     *testing.T
	app   *pgx.Conn
	rnd   *rand.Rand
	all   []*past
	super *pgx.Conn
	other uuid.UUID // a second agent
	// version of the flow that conversations run.
	version uuid.UUID
}

func newFigureTown(t *testing.T, db postgrestest.Database) *figureTown {
	t.Helper()
	a := seed(t, db, "a")
	super := dial(t, db.SuperURL)
	// Events of all this are another test's.
	for _, table := range []string{"turns", "calls", "conversations"} {
		mustExec(t, super, `ALTER TABLE `+table+` DISABLE TRIGGER write_event`)
	}
	w := &figureTown{tenancy: a, super: super, t: t, app: dial(t, db.AppURL), rnd: rand.New(rand.NewPCG(1, 2)), other: uuid.New()}
	mustExec(t, w.app, `SELECT set_config('app.tenant', $1, false)`, a.tenant.String())
	must(t, a.store.InsertAgent(a.ctx, control.Agent{ID: w.other, Name: "other", CreatedAt: time.Now(),
		Settings: control.AgentSettings{Kind: control.KindFlow, FlowID: a.flow}}))
	must(t, w.app.QueryRow(t.Context(), `SELECT id FROM flow_versions`).Scan(&w.version))
	mustExec(t, w.app, `INSERT INTO agent_versions (id, tenant_id, agent_id, number, document)
		SELECT gen_random_uuid(), tenant_id, agent_id, 2, document FROM agent_versions`)
	return w
}

// seedFigures gives every table of figures a row: of a call that is over and
// rolled up, one that waits for it, and one of which something is deleted.
func seedFigures(t *testing.T, db postgrestest.Database, v tenancy) {
	t.Helper()
	over := control.Call{ID: uuid.Must(uuid.NewV7()), Agent: v.agent, Carrier: "webrtc", Direction: "inbound", Status: control.CallArrived, StartedAt: time.Now()}
	hold := control.Hold{Call: over.ID}
	_, err := v.store.InsertCall(v.ctx, over)
	if err == nil {
		err = v.store.WriteTurn(v.ctx, hold, agent.Turn{Speaker: "agent", Heard: "hi", Pauses: []string{"words/yield"}}, time.Now())
	}
	if err == nil {
		err = v.store.WriteCommit(v.ctx, hold, control.Conversation{ID: over.ID, Call: over.ID, Flow: v.flow},
			control.Revision{Entry: control.Entry{Revision: 1, Status: "completed", Hash: fmt.Sprintf("%044d", 0)}, State: []byte(`{}`), Entered: []string{"a"}})
	}
	if err == nil {
		_, err = v.store.EndCall(v.ctx, hold, "goodbye", time.Now())
	}
	slots, err2 := v.store.Uncounted(v.ctx, 9)
	for _, slot := range slots {
		err = errors.Join(err, v.store.RollUp(v.ctx, slot))
	}
	must(t, errors.Join(err, err2, v.store.SumUp(v.ctx, time.Now().Add(48*time.Hour), 9)))
	app := dial(t, db.AppURL)
	mustExec(t, app, `SELECT set_config('app.tenant', $1, false)`, v.tenant.String())
	mustExec(t, app, `DELETE FROM turns WHERE call_id = $1`, over.ID)                 // kept
	mustExec(t, app, `UPDATE calls SET end_reason = 'caller' WHERE id = $1`, over.ID) // marked
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustExec(t *testing.T, c *pgx.Conn, q string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// figureDays are those on which Berlin's clocks go back.
var figureDays = time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC)

// random makes a call or a chat that is not yet over.
func (w *figureTown) random() *past {
	r := w.rnd
	p := &past{id: uuid.Must(uuid.NewV7()), agent: oneOf(r, w.agent, w.other), agentVersion: 1 + r.IntN(2), chat: r.IntN(6) == 0,
		direction: oneOf(r, "inbound", "inbound", "outbound"), carrier: oneOf(r, "twilio", "twilio", "webrtc", "test"),
		from: "+4915" + fmt.Sprint(r.IntN(1e6)), to: oneOf(r, "+49301", "+493012345", "sip:desk", ""),
		started: figureDays.Add(time.Duration(r.IntN(48))*90*time.Minute + time.Duration(r.IntN(1800))*time.Second)}
	if p.direction == "outbound" {
		p.from, p.to = oneOf(r, "+493012345", "+493054321"), p.from
	}
	if p.answered = r.IntN(8) > 0; p.answered && !p.chat {
		for range r.IntN(5) {
			p.turns = append(p.turns, w.turn())
		}
	}
	if p.chat || p.answered && r.IntN(4) > 0 {
		p.flow = "active"
		at := "a"
		for i := range 1 + r.IntN(5) {
			s := pastStep{}
			if i == 0 {
				s.entered = []string{"a", "b"}[:1+r.IntN(2)]
			} else if r.IntN(3) > 0 {
				s.entered = oneOf(r, []string{"b"}, []string{"c", "d"}, []string{"a"})
			} else if r.IntN(2) > 0 {
				s.noInput = at
			} else {
				s.noMatch = at
			}
			if n := len(s.entered); n > 0 {
				at = s.entered[n-1]
			}
			p.steps = append(p.steps, s)
		}
	}
	return p
}

func (w *figureTown) turn() pastTurn {
	r := w.rnd
	t := pastTurn{speaker: oneOf(r, "caller", "agent")}
	if t.speaker == "agent" {
		t.cut, t.audio = r.IntN(4) == 0, oneOf(r, 0, math.Exp(r.NormFloat64()*.6+6.4))
		t.pauses = oneOf(r, []string{}, []string{"words/yield"}, []string{"listening/resume", "words/yield"}, []string{"echo/resume"})
	}
	return t
}

// write stores what there is of p: in progress.
func (w *figureTown) write(p *past) {
	if p.chat {
		mustExec(w.t, w.app, `INSERT INTO conversations (id, tenant_id, channel, flow_id, flow_version_id, revision, status, state, state_hash, created_at, updated_at)
			VALUES ($1, $2, 'chat', $3, $4, 1, 'active', '{}', repeat('0', 44), $5, $5)`, p.id, w.tenant, w.flow, w.version, p.started)
	} else {
		var answered *time.Time
		status := "arrived"
		if p.answered {
			at := p.started.Add(time.Second)
			answered, status = &at, "active"
		}
		mustExec(w.t, w.app, `INSERT INTO calls (id, tenant_id, agent_id, carrier, direction, caller, callee, status, started_at, answered_at, agent_version_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, (SELECT id FROM agent_versions WHERE agent_id = $3 AND number = $11))`,
			p.id, w.tenant, p.agent, p.carrier, p.direction, p.from, p.to, status, p.started, answered, p.agentVersion)
		if p.flow != "" {
			mustExec(w.t, w.app, `INSERT INTO conversations (id, tenant_id, call_id, flow_id, flow_version_id, revision, status, state, state_hash, created_at, updated_at)
			VALUES ($1, $2, $1, $3, $4, 1, 'active', '{}', repeat('0', 44), $5, $5)`, p.id, w.tenant, w.flow, w.version, p.started)
		}
	}
	for i, s := range p.steps {
		if s.entered == nil {
			s.entered = []string{}
		}
		mustExec(w.t, w.app, `INSERT INTO conversation_history (tenant_id, conversation_id, revision, status, state_hash, entered, no_input, no_match, written_at)
			VALUES ($1, $2, $3, 'active', repeat('0', 44), $4, $5, $6, $7)`, w.tenant, p.id, i+1, s.entered, s.noInput, s.noMatch, p.started.Add(time.Duration(i)*time.Second))
	}
	for i, t := range p.turns {
		w.writeTurn(p, i, t)
	}
}

func (w *figureTown) writeTurn(p *past, index int, t pastTurn) {
	if t.pauses == nil {
		t.pauses = []string{}
	}
	mustExec(w.t, w.app, `INSERT INTO turns (tenant_id, call_id, index, speaker, interrupted, start_ms, end_ms, first_audio_ms, pauses)
		VALUES ($1, $2, $3, $4, $5, 0, 0, nullif($6::float8, 0), $7)`, w.tenant, p.id, index, t.speaker, t.cut, t.audio, t.pauses)
}

// end ends p, as it may.
func (w *figureTown) end(p *past) {
	r := w.rnd
	if p.flow != "" {
		p.flow = oneOf(r, "completed", "completed", "abandoned", "failed", "transferred")
		mustExec(w.t, w.app, `UPDATE conversations SET status = $2, revision = revision + 1, ended_at = $3 WHERE id = $1`,
			p.id, p.flow, p.started.Add(10*time.Second))
	}
	p.ended = true
	if p.chat {
		return
	}
	p.reason = oneOf(r, "goodbye", "caller", "idle", "vendor", "transfer", "crashed")
	if !p.answered {
		p.reason = oneOf(r, "missed", "busy")
	}
	if p.reason == "transfer" || p.answered && r.IntN(9) == 0 {
		p.transferTo = "+4930999"
	}
	p.talk = time.Duration(r.IntN(5000)) * time.Millisecond
	mustExec(w.t, w.app, `UPDATE calls SET status = 'ended', end_reason = $2, transfer_to = $3, ended_at = $4 WHERE id = $1`,
		p.id, p.reason, p.transferTo, p.started.Add(time.Second+p.talk))
}

// remove deletes p, or something of it.
func (w *figureTown) remove(p *past) {
	p.gone = true
	switch r := w.rnd.IntN(4); {
	case p.chat:
		mustExec(w.t, w.app, `DELETE FROM conversations WHERE id = $1`, p.id)
	case r == 0:
		mustExec(w.t, w.app, `DELETE FROM turns WHERE call_id = $1`, p.id)
	case r == 1:
		mustExec(w.t, w.app, `DELETE FROM conversations WHERE id = $1`, p.id)
	case r == 2:
		mustExec(w.t, w.app, `DELETE FROM conversation_history WHERE conversation_id = $1`, p.id)
	}
	if w.rnd.IntN(2) == 0 {
		mustExec(w.t, w.app, `DELETE FROM calls WHERE id = $1`, p.id)
	}
}

// figures counts p by itself.
func (p *past) figures(w *figureTown) control.CallFigures {
	f := control.NewCallFigures(control.FigureKey{Agent: p.agent, AgentVersion: p.agentVersion, Direction: p.direction, Carrier: p.carrier})
	own := p.to
	if p.direction == "outbound" {
		own = p.from
	}
	if strings.HasPrefix(own, "+") {
		f.Number = own
	}
	if p.flow != "" {
		f.Flow, f.FlowVersion = w.flow, 1
	}
	outcome := "failed"
	switch {
	case !p.answered:
		outcome = "unanswered"
	case p.reason == "transfer":
		outcome = "transferred"
	case p.flow == "completed", p.flow == "" && p.reason == "goodbye":
		outcome = "completed"
	case p.flow == "failed":
	case p.flow == "abandoned", p.reason == "caller", p.reason == "idle":
		outcome = "abandoned"
	}
	f.Calls, f.Outcomes[outcome], f.EndReasons[p.reason] = 1, 1, 1
	if f.Outbound = 1; p.direction == "inbound" {
		f.Inbound, f.Outbound = 1, 0
	}
	if p.answered {
		f.Answered, f.Talk = 1, p.talk
	}
	if p.transferTo != "" {
		f.Transfers = 1
	} else if outcome == "completed" {
		f.Contained = 1
	}
	for _, t := range p.turns {
		if t.speaker == "caller" {
			f.CallerTurns++
			continue
		}
		f.AgentTurns++
		if t.cut {
			f.CutTurns++
		}
		if t.audio > 0 {
			if f.Latency[control.StepFirstAudio] == nil {
				f.Latency[control.StepFirstAudio] = control.Histogram{}
			}
			f.Latency[control.StepFirstAudio][int(math.Ceil(16*math.Log2(t.audio)))]++
		}
		for _, v := range t.pauses {
			f.Pauses[v]++
		}
	}
	for _, s := range p.steps {
		if s.noInput != "" {
			f.NoInput++
		}
		if s.noMatch != "" {
			f.NoMatch++
		}
	}
	return f
}

// want counts all again, by a dimension.
func (w *figureTown) want(q control.FigureQuery) map[control.FigureKey]control.CallFigures {
	zone, err := time.LoadLocation(q.Zone)
	must(w.t, err)
	out := map[control.FigureKey]control.CallFigures{}
	for _, p := range w.all {
		if slot := p.started.Truncate(15 * time.Minute); p.chat || !p.ended || slot.Before(q.From) || !slot.Before(q.To) {
			continue
		}
		f := p.figures(w)
		if q.Carrier != "" && f.Carrier != q.Carrier || q.Carrier == "" && !q.Test && f.Carrier == "test" {
			continue
		}
		if q.Number != "" && f.Number != q.Number {
			continue
		}
		if q.Agent != uuid.Nil && f.Agent != q.Agent || q.AgentVersion != 0 && f.AgentVersion != q.AgentVersion {
			continue
		}
		var k control.FigureKey
		switch q.By {
		case control.ByHour: // an hour of a zone need not be one of UTC
			_, offset := p.started.In(zone).Zone()
			shift := time.Duration(offset) * time.Second
			k.Start = p.started.Add(shift).Truncate(time.Hour).Add(-shift)
		case control.ByDay:
			y, m, d := p.started.In(zone).Date()
			k.Start = time.Date(y, m, d, 0, 0, 0, 0, zone).UTC()
		case control.ByAgent:
			k.Agent = f.Agent
		case control.ByAgentVersion:
			k.Agent, k.AgentVersion = f.Agent, f.AgentVersion
		case control.ByFlowVersion:
			k.Flow, k.FlowVersion = f.Flow, f.FlowVersion
		case control.ByNumber:
			k.Number = f.Number
		case control.ByDirection:
			k.Direction = f.Direction
		case control.ByCarrier:
			k.Carrier = f.Carrier
		}
		sum, ok := out[k]
		if !ok {
			sum = control.NewCallFigures(k)
		}
		sum.Add(f)
		out[k] = sum
	}
	return out
}

// funnel counts the flow again.
func (w *figureTown) funnel() map[string]int64 {
	out := map[string]int64{}
	for _, p := range w.all {
		if p.flow == "" || !p.ended {
			continue
		}
		at := ""
		for _, s := range p.steps {
			for _, n := range s.entered {
				out[at+" left "+n]++
				at = n
			}
			if s.noInput != "" {
				out[s.noInput+" no_input "]++
			}
			if s.noMatch != "" {
				out[s.noMatch+" no_match "]++
			}
		}
		out[at+" left $"+p.flow]++
	}
	return out
}

// same compares the roll-ups with a recount, in every dimension.
func (w *figureTown) same(when string) {
	w.t.Helper()
	base := control.FigureQuery{From: figureDays, To: figureDays.Add(72 * time.Hour), Zone: "UTC"}
	queries := []control.FigureQuery{}
	for _, by := range []control.FigureBy{control.ByNothing, control.ByAgent, control.ByAgentVersion, control.ByFlowVersion, control.ByNumber, control.ByDirection, control.ByCarrier} {
		q := base
		q.By = by
		queries = append(queries, q)
	}
	for _, zone := range []string{"UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"} {
		for _, by := range []control.FigureBy{control.ByHour, control.ByDay} {
			q := base
			q.By, q.Zone = by, zone
			queries = append(queries, q)
		}
	}
	some := base
	some.Agent, some.From, some.To = w.agent, base.From.Add(6*time.Hour), base.To.Add(-45*time.Minute)
	of := base
	of.Agent, of.AgentVersion, of.By = w.other, 2, control.ByDay
	tests, too, both := base, base, base
	tests.Carrier, tests.By = "test", control.ByAgent
	too.Test, too.By = true, control.ByCarrier
	both.Agent, both.Number, both.By = w.agent, "+493012345", control.ByHour
	for _, q := range append(queries, some, of, tests, too, both) {
		got, err := w.store.CallFigures(w.ctx, q)
		must(w.t, err)
		want := w.want(q)
		if len(got) != len(want) {
			w.t.Errorf("%s, by %q in %s: %d groups, want %d", when, q.By, q.Zone, len(got), len(want))
		}
		for _, g := range got {
			if !reflect.DeepEqual(g, want[g.FigureKey]) {
				w.t.Fatalf("%s, by %q in %s:\ngot  %+v\nwant %+v", when, q.By, q.Zone, g, want[g.FigureKey])
			}
		}
	}
	steps, err := w.store.FlowFigures(w.ctx, control.FlowQuery{Flow: w.flow, From: base.From, To: base.To})
	must(w.t, err)
	got := map[string]int64{}
	for _, s := range steps {
		got[s.Node+" "+s.Kind+" "+s.Next] = s.N
	}
	if want := w.funnel(); !reflect.DeepEqual(got, want) {
		w.t.Fatalf("%s: the flow\ngot  %v\nwant %v", when, got, want)
	}
}

// rollUp brings all on; where crash is set, jobs die before their commit.
func (w *figureTown) rollUp(crash bool) {
	w.t.Helper()
	for {
		slots, err := w.store.Uncounted(w.ctx, 1000)
		must(w.t, err)
		if len(slots) == 0 {
			return
		}
		for _, slot := range slots {
			if crash && w.rnd.IntN(3) == 0 { // between its steps: all of them are one transaction
				tx, err := w.app.BeginTx(w.t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
				must(w.t, err)
				_, err = tx.Exec(w.t.Context(), `SELECT roll_up($1)`, slot)
				must(w.t, errors.Join(err, tx.Rollback(w.t.Context())))
				continue
			}
			must(w.t, w.store.RollUp(w.ctx, slot))
		}
	}
}

// sumUp sums what may be: the first so many hours and days alone, so that
// figures are read from all three.
func (w *figureTown) sumUp(most int) {
	w.t.Helper()
	must(w.t, w.store.SumUp(w.ctx, figureDays.Add(99*24*time.Hour), most))
}

// Figures are what a recount from the calls gives, whatever comes late, dies or
// is deleted; and they outlive the calls.
func TestFiguresAreARecount(t *testing.T) {
	w := newFigureTown(t, server.New(t))
	calls, _ := strconv.Atoi(cmp.Or(os.Getenv("PARLEY_FIGURES"), "100"))
	for round := range 3 {
		for range calls {
			p := w.random()
			w.all = append(w.all, p)
			w.write(p)
			if w.rnd.IntN(3) > 0 {
				w.end(p)
			}
		}
		mustExec(t, w.super, `ANALYZE calls, turns, conversations, conversation_history`) // as the server does by itself
		for _, p := range w.all {
			switch r := w.rnd.IntN(12); {
			case p.gone:
			case !p.ended && r < 4: // late, when its slot is counted already
				w.end(p)
			case p.ended && p.answered && !p.chat && r == 0: // a turn that waited for storage
				turn := w.turn()
				w.writeTurn(p, len(p.turns), turn)
				p.turns = append(p.turns, turn)
			case p.ended && r < 3:
				w.remove(p)
			}
		}
		w.rollUp(true)
		w.same(fmt.Sprintf("round %d", round))
		w.sumUp(30)
		w.same(fmt.Sprintf("round %d, partly summed", round))
	}
	mustExec(t, w.app, `DELETE FROM calls`) // those in progress too, which never count
	mustExec(t, w.app, `DELETE FROM conversations`)
	w.same("before the roll-up of what is deleted")
	w.rollUp(false)
	w.sumUp(1000)
	w.same("without the calls")
	for table, want := range map[string]bool{"call_figures": true, "node_figures": true, "figures_kept": false} {
		var all, kept int
		must(t, w.app.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE to_jsonb(f) ->> 'kept' = 'true') FROM `+table+` f`).Scan(&all, &kept))
		if all != kept || all > 0 != want {
			t.Errorf("%s: %d rows, %d kept", table, all, kept)
		}
	}
}

// Two processes that count the same slot, while calls of it are deleted, count
// every call once.
func TestFiguresAreCountedOnce(t *testing.T) {
	db := server.New(t)
	w := newFigureTown(t, db)
	for range 200 {
		p := w.random()
		p.started = figureDays.Add(time.Minute)
		w.all = append(w.all, p)
		w.write(p)
		w.end(p)
	}
	slot := figureDays
	done := make(chan error, 3)
	for range 2 {
		go func() {
			var errs error
			for range 20 {
				if err := w.store.RollUp(w.ctx, slot); err != nil && !errors.Is(err, control.ErrConflict) {
					errs = errors.Join(errs, err)
				}
			}
			done <- errs
		}()
	}
	go func() {
		var errs error
		for _, p := range w.all[:100] {
			ctx := context.WithoutCancel(t.Context())
			_, err := w.app.Exec(ctx, `DELETE FROM calls WHERE id = $1`, p.id)
			_, err2 := w.app.Exec(ctx, `DELETE FROM conversations WHERE id = $1`, p.id)
			errs = errors.Join(errs, err, err2)
		}
		done <- errs
	}()
	for range 3 {
		must(t, <-done)
	}
	w.rollUp(false)
	w.same("after the race")
	late, err := w.store.Late(w.ctx, figureDays, figureDays.Add(time.Hour))
	if err != nil || late != 0 {
		t.Errorf("%d slots wait, %v", late, err)
	}
	if !slices.ContainsFunc(w.all, func(p *past) bool { return p.chat }) {
		t.Error("no chat was tried")
	}
}
