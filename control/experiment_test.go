package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
)

// trial greets by content, splits, sells, and counts who bought.
const trial = `{"goals": {"bought": {"node": "thanks"}}, "experiments": [{"id": "price", "split": [{"arm": "low", "weight": 1}, {"arm": "high", "weight": 1}], "goal": "bought"}], "nodes": [
	{"id": "hello", "type": "message", "content": {"content_id": "%s", "text": "Hello."}, "connections": {"default": "price"}},
	{"id": "price", "type": "split", "content": {"experiment": "price"}, "connections": {"low": "q", "high": "q"}},
	{"id": "q", "type": "question", "content": {"question": "Buy?", "variable": "a"}, "connections": {"default": "c"}},
	{"id": "c", "type": "condition", "content": {"conditions": [{"if": {"var": "a", "eq": "yes"}, "then": "thanks"}, {"if": {"var": "a", "eq": "call me"}, "then": "lead"},
		{"if": {"var": "a", "eq": "again"}, "then": "hello"}], "else": "bye"}},
	{"id": "lead", "type": "action", "content": {"actions": [{"type": "goal", "goal": "lead", "value": 3}]}, "connections": {"success": "bye", "error": "bye"}},
	{"id": "thanks", "type": "message", "content": {"text": "Thanks."}, "connections": {"default": "bye"}},
	{"id": "bye", "type": "message", "content": {"text": "Bye."}}]}`

// A toldEvent is an event as it is stored.
type toldEvent struct {
	session  uuid.UUID
	seq      int
	typ      string
	contents struct{ ContentID, Variant, Experiment, Arm, Goal string }
}

// recount computes every figure again, from the events alone and in no way as
// the store does.
func recount(events []toldEvent, subject, goal string) map[string]control.ArmCount {
	type exposure struct {
		session uuid.UUID
		arm     string
	}
	first, engaged, counts := map[exposure]int{}, map[exposure]bool{}, map[string]control.ArmCount{}
	add := func(arm string, f func(*control.ArmCount)) {
		c := counts[arm]
		c.Experiment, c.Arm = subject, arm
		f(&c)
		counts[arm] = c
	}
	for _, e := range events {
		about, arm := e.contents.ContentID+e.contents.Experiment, e.contents.Variant+e.contents.Arm
		x := exposure{e.session, arm}
		switch {
		case about != subject:
		case e.typ == "content_shown", e.typ == "experiment_arm":
			add(arm, func(c *control.ArmCount) { c.Impressions++ })
			if _, seen := first[x]; !seen {
				first[x] = e.seq
				add(arm, func(c *control.ArmCount) { c.Sessions++ })
			}
		case e.typ == "content_engaged", e.typ == "experiment_engaged":
			if !engaged[x] {
				engaged[x] = true
				add(arm, func(c *control.ArmCount) { c.Engaged++ })
			}
		}
	}
	for x, seq := range first {
		for _, e := range events {
			if e.session == x.session && e.typ == "goal" && e.seq > seq && (goal == "" || e.contents.Goal == goal) {
				add(x.arm, func(c *control.ArmCount) { c.Converted++ })
				break
			}
		}
	}
	return counts
}

func (w *town) told() []toldEvent {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.SuperURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	rows, err := conn.Query(w.t.Context(), `SELECT session_id, seq, type, data FROM events ORDER BY session_id, seq`)
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (toldEvent, error) {
		var e toldEvent
		var data struct {
			ContentID                      string `json:"content_id"`
			Variant, Experiment, Arm, Goal string
		}
		var raw []byte
		if err := r.Scan(&e.session, &e.seq, &e.typ, &raw); err != nil {
			return e, err
		}
		err := json.Unmarshal(raw, &data)
		e.contents.ContentID, e.contents.Variant = data.ContentID, data.Variant
		e.contents.Experiment, e.contents.Arm, e.contents.Goal = data.Experiment, data.Arm, data.Goal
		return e, err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// Every figure that is shown can be counted again from the events.
func TestFiguresAreEventsCounted(t *testing.T) {
	// Who draws what follows from the content's id: with a fixed one, all arms
	// have some who engage and some who buy, in every run.
	id := uuid.MustParse("0197a2f0-0000-7000-8000-000000000001")
	w := newTown(t, fmt.Sprintf(trial, id))
	c := control.Content{ID: id, Type: "message", Body: []byte(`{"text":"Hi {user.id}."}`), Status: control.ContentPublished, Tags: []string{}, Weight: 100, CreatedAt: time.Now()}
	if err := w.store.InsertContent(w.ctx, c); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"warm", "cold"} {
		v := control.Variant{ID: uuid.New(), Content: id, Key: key, Data: []byte(`{"text":"` + key + `"}`), Weight: 100, CreatedAt: time.Now()}
		if err := w.store.InsertVariant(w.ctx, v, 20); err != nil {
			t.Fatal(err)
		}
	}
	chats := w.process()
	performer := &effect.Performer{Contents: &control.Shelf{Store: w.store}}
	chats.Perform = func(tenant uuid.UUID) func(context.Context, flow.Effect) flow.Result {
		return func(ctx context.Context, e flow.Effect) flow.Result {
			return performer.Perform(control.WithTenant(ctx, tenant), e)
		}
	}
	key := control.WithPrincipal(w.ctx, control.Principal{Kind: control.PrincipalKey, Tenant: tenantOf(t, w.ctx)})
	answers := [][]string{{"yes"}, {"no"}, {}, {"call me"}, {"again", "yes"}, {"again", "no"}, {"again", "again"}}
	for i := range 56 {
		r, _, err := chats.Start(key, control.Beginning{Flow: w.flow.String(), User: fmt.Sprint("person ", i)})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers[i*5%len(answers)] {
			if _, err := chats.Interact(key, r.ID, control.Answer{Text: a, Mode: "text"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := w.told()
	service := &control.Experiments{Store: w.store, Contents: w.store, Flows: w.store, Graphs: &control.Graphs{Store: w.store}}
	same := func(what string, got []control.ArmReport, want map[string]control.ArmCount) {
		t.Helper()
		if len(got) < len(want) || len(want) == 0 {
			t.Errorf("%s: %d arms, counted %d", what, len(got), len(want))
		}
		for _, a := range got {
			if a.ArmCount != want[a.Arm] {
				t.Errorf("%s: %+v, counted again %+v", what, a.ArmCount, want[a.Arm])
			}
			if a.Sessions == 0 || a.Impressions <= a.Sessions || a.Engaged == 0 || a.Engaged == a.Sessions || a.Converted == 0 || a.Converted == a.Sessions {
				t.Errorf("%s: %+v tells little", what, a.ArmCount)
			}
		}
	}
	for _, goal := range []string{"", "bought", "lead"} {
		r, err := service.Content(w.ctx, id, control.Trial{Goal: goal})
		if err != nil {
			t.Fatal(err)
		}
		same("content, goal "+goal, r.Arms, recount(told, id.String(), goal))
	}
	reports, err := service.Flow(w.ctx, w.flow, control.Trial{})
	if err != nil || len(reports) != 1 || reports[0].Goal != "bought" {
		t.Fatalf("%+v, %v", reports, err)
	}
	same("flow", reports[0].Arms, recount(told, "price", "bought"))
	if got := reports[0].Arms[1].Conversion; got.P != nil || got.Verdict != fmt.Sprintf("not enough yet: %d of %d sessions", got.Have, got.Need) {
		t.Errorf("a test of few sessions: %+v", got)
	}
	// What nobody has drawn has no figures, and no rates.
	r, err := service.Content(control.WithTenant(t.Context(), uuid.New()), id, control.Trial{})
	if err == nil {
		t.Errorf("another tenant sees %+v", r)
	}
}

// counted is an ExperimentStore and more with set figures.
type counted struct {
	control.ContentStore
	arms []control.ArmCount
}

func (c counted) CountContent(context.Context, uuid.UUID, string) ([]control.ArmCount, error) {
	return c.arms, nil
}

func (c counted) CountArms(context.Context, uuid.UUID, map[string]string) ([]control.ArmCount, error) {
	return c.arms, nil
}

func (counted) Content(_ context.Context, id uuid.UUID) (control.Content, error) {
	return control.Content{ID: id, Weight: 100}, nil
}

func (counted) Variants(_ context.Context, id uuid.UUID) ([]control.Variant, error) {
	return []control.Variant{{Content: id, Key: "b", Weight: 50}}, nil
}

// Known values: z and p by the formula in other hands (Python, math.erfc), the
// sample sizes as any calculator for two proportions gives them.
func TestTwoProportions(t *testing.T) {
	id := uuid.New()
	tests := []struct {
		name           string
		x1, n1, x2, n2 int
		effect         float64
		need           int
		z, p           float64 // 0, 0: not enough
		verdict        string
	}{
		{"better", 400, 4000, 480, 4000, .2, 3841, 2.8586016996464627, 0.004255126876797378, "better"},
		{"worse", 480, 4000, 400, 4000, .2, 3122, -2.8586016996464627, 0.004255126876797378, "worse"},
		{"none-shown", 120, 1000, 95, 1000, 1, 160, -1.8047484035755383, 0.07111406169644638, "no difference shown"},
		{"equal", 50, 100, 50, 100, 1, 100, 0, 1, "no difference shown"},
		{"all", 100, 100, 100, 100, 1, 100, 0, 1, "no difference shown"},
		{"few", 40, 400, 60, 400, .2, 3841, 0, 0, "not enough yet: 400 of 3841 sessions"},
		{"one-is-small", 400, 4000, 5, 12, .2, 3841, 0, 0, "not enough yet: 12 of 3841 sessions"},
		{"no-success", 0, 5000, 20, 5000, .2, 0, 0, 0, "not enough yet: 5000 sessions, and the first arm has no success to compare with"},
		{"nothing", 0, 0, 0, 0, .2, 0, 0, 0, "not enough yet: 0 sessions, and the first arm has no success to compare with"},
		{"least", 60, 99, 30, 99, 1, 100, 0, 0, "not enough yet: 99 of 100 sessions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := counted{arms: []control.ArmCount{{id.String(), "base", tt.n1, tt.n1, 0, tt.x1}, {id.String(), "b", tt.n2, tt.n2, 0, tt.x2}}}
			s := &control.Experiments{Store: c, Contents: c}
			r, err := s.Content(t.Context(), id, control.Trial{Effect: tt.effect})
			if err != nil {
				t.Fatal(err)
			}
			got := r.Arms[1].Conversion
			if r.Arms[0].Conversion != nil || got.Need != tt.need || got.Verdict != tt.verdict {
				t.Errorf("%+v, want need %d, %s", got, tt.need, tt.verdict)
			}
			if tt.p == 0 {
				if got.P != nil || got.Z != nil {
					t.Errorf("z %v, p %v before there are enough", *got.Z, *got.P)
				}
				return
			}
			if got.P == nil || math.Abs(*got.Z-tt.z) > 1e-9 || math.Abs(*got.P-tt.p) > 1e-9 {
				t.Errorf("%+v, want z %v, p %v", got, tt.z, tt.p)
			}
		})
	}
	for _, effect := range []float64{-1, .001, 1.5, math.NaN()} {
		if _, err := (&control.Experiments{}).Content(t.Context(), id, control.Trial{Effect: effect}); err == nil {
			t.Errorf("effect %v is taken", effect)
		}
	}
}
