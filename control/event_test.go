package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"parley/agent"
	"parley/agent/flow"
	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
)

// a town's events, brought on by hand.
func (w *town) relay(readers ...control.EventReader) *control.Events {
	return &control.Events{Store: w.store, Readers: readers, Log: slog.New(slog.DiscardHandler), Look: 20 * time.Millisecond}
}

// background runs until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// eventually waits until ok; it looks again and again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("it does not come to pass that %s", what)
}

// stream reads all of a tenant's published events.
func (w *town) stream(f control.EventFilter) []control.Event {
	w.t.Helper()
	var all []control.Event
	for at := int64(0); ; {
		page, next, err := w.store.Events(w.ctx, f, at, 100)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page...)
		if next == at {
			return all
		}
		at = next
	}
}

func (w *town) publish() {
	w.t.Helper()
	for {
		n, err := w.store.PublishEvents(w.ctx, 7)
		if err != nil {
			w.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// A script writes a session's revisions as a turn does, without a flow.
type script struct {
	w     *town
	id    uuid.UUID
	claim control.Claim
	n     int
}

func (w *town) script() *script {
	return &script{w: w, id: uuid.Must(uuid.NewV7()), claim: control.Claim{ID: uuid.New(), Lease: time.Minute}}
}

func (s *script) write(node, status string, reported ...control.Reported) error {
	s.n++
	m := control.TurnCommit{Revision: control.Revision{Entry: control.Entry{Revision: s.n, Node: node, Status: status, Hash: someHash},
		State: []byte(`{}`), Events: reported}, Claim: s.claim, Idle: time.Hour, Life: time.Hour}
	if s.n > 1 {
		return s.w.store.CommitTurn(s.w.ctx, s.id, m)
	}
	f, err := s.w.store.Flow(s.w.ctx, s.w.flow)
	if err != nil {
		return err
	}
	return s.w.store.BeginConversation(s.w.ctx, control.Conversation{ID: s.id, Channel: control.ChannelChat, Flow: s.w.flow,
		FlowVersion: f.In(control.Live).Published, User: "u", TokenHash: s.id[:]}, m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(control.EventSchema))
	must(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	must(t, c.AddResource("event.json", doc))
	s, err := c.Compile("event.json")
	must(t, err)
	return s
}

// conforms holds an event to the schema.
func conforms(t *testing.T, s *jsonschema.Schema, e control.Event) {
	t.Helper()
	text, err := json.Marshal(e)
	must(t, err)
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	must(t, err)
	if err := s.Validate(doc); err != nil {
		t.Errorf("%s: %v", text, err)
	}
}

// Whatever is done to sessions, in whatever order and at once: the events
// replayed come to what is stored, every one continues the one before, and the
// stream has the order of every session.
func TestEventsReplayToTheState(t *testing.T) {
	w := newTown(t, shop)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const sessions = 12
	done := make(chan *script, sessions)
	for i := range sessions {
		go func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			s := w.script()
			defer func() { done <- s }()
			nodes := []string{"", "a", "b", "c"}
			for n := range 2 + r.IntN(12) {
				status := flow.Active
				if n > 3 && r.IntN(6) == 0 {
					status = []string{flow.Completed, flow.Failed, flow.Abandoned}[r.IntN(3)]
				}
				var reported []control.Reported
				for range r.IntN(3) {
					reported = append(reported, control.Reported{Type: "limit_exceeded", Data: []byte(fmt.Sprintf(`{"n":%d}`, n))})
				}
				if err := s.write(nodes[r.IntN(4)], status, reported...); err != nil {
					t.Error(err)
					return
				}
			}
			switch r.IntN(4) {
			case 0:
				if err := w.store.QuarantineConversation(w.ctx, s.id, s.claim); err != nil {
					t.Error(err)
				}
			case 1:
				if err := w.store.DeleteConversation(w.ctx, s.id); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	var scripts []*script
	for range sessions {
		scripts = append(scripts, <-done)
		w.publish()
	}
	held := schema(t)
	all := w.stream(control.EventFilter{})
	for i, e := range all {
		conforms(t, held, e)
		if e.Position != int64(i+1) {
			t.Fatalf("position %d is the %d.", e.Position, i+1)
		}
	}
	for _, s := range scripts {
		w.replays(s.id, all)
	}
}

// replays checks one session's events against each other and its row.
func (w *town) replays(id uuid.UUID, all []control.Event) {
	w.t.Helper()
	type state struct {
		Node, Status *string
		Revision     int
	}
	var now state
	seq, gone := int64(0), false
	for _, e := range all {
		if e.Session != id {
			continue
		}
		if seq++; e.Seq != seq {
			w.t.Fatalf("session %s: number %d follows %d", id, e.Seq, seq-1)
		}
		if e.Type == "limit_exceeded" {
			continue
		}
		var d struct {
			Node     *string `json:"current_node"`
			Status   *string `json:"status"`
			Revision int     `json:"revision"`
			PNode    *string `json:"previous_node"`
			PStatus  *string `json:"previous_status"`
			PRev     int     `json:"previous_revision"`
		}
		must(w.t, json.Unmarshal(e.Data, &d))
		if before := (state{d.PNode, d.PStatus, d.PRev}); str(before.Node) != str(now.Node) || str(before.Status) != str(now.Status) || before.Revision != now.Revision {
			w.t.Errorf("%s of %s: %s does not continue %s %s %d", e.Type, id, e.Data, str(now.Node), str(now.Status), now.Revision)
		}
		now, gone = state{d.Node, d.Status, d.Revision}, e.Type == "session_deleted"
	}
	c, err := w.store.Conversation(w.ctx, id)
	switch {
	case gone && err == nil, !gone && err != nil:
		w.t.Errorf("session %s: deleted %v, read %v", id, gone, err)
	case !gone && (str(now.Node) != c.Node || str(now.Status) != c.Status || now.Revision != c.Revision):
		w.t.Errorf("session %s: replayed to %s %s %d, stored is %s %s %d", id, str(now.Node), str(now.Status), now.Revision, c.Node, c.Status, c.Revision)
	}
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// A call and its conversation have one sequence.
func TestCallEvents(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	ctx, v := d.begin(c)
	turn := func(i int, speaker string) {
		must(t, d.store.WriteTurn(ctx, v.Call.Hold(), agent.Turn{Index: i, Speaker: speaker, Heard: "my number is 4111", Input: "speech"}, time.Now()))
	}
	turn(0, "agent")
	must(t, d.store.WriteCommit(ctx, v.Call.Hold(), control.Conversation{ID: c.ID, Call: c.ID},
		control.Revision{Entry: control.Entry{Revision: 1, Node: "a", Status: flow.Active, Hash: someHash}, State: []byte(`{}`)}))
	turn(1, "caller")
	must(t, d.store.WriteCommit(ctx, v.Call.Hold(), control.Conversation{ID: c.ID, Call: c.ID},
		control.Revision{Entry: control.Entry{Revision: 2, Node: "b", Status: flow.Completed, Hash: someHash}, State: []byte(`{}`)}))
	turn(1, "caller") // once more: nothing
	d.finish(ctx, v, agent.Ending{Reason: "flow"})
	_, err := d.store.PublishEvents(d.ctx, 100)
	must(t, err)
	events, _, err := d.store.Events(d.ctx, control.EventFilter{Session: c.ID}, 0, 100)
	must(t, err)
	held := schema(t)
	var types []string
	for i, e := range events {
		conforms(t, held, e)
		if e.Seq != int64(i+1) {
			t.Errorf("number %d is the %d.", e.Seq, i+1)
		}
		if strings.Contains(string(e.Data), "4111") {
			t.Errorf("%s tells what was said", e.Type)
		}
		types = append(types, e.Type)
	}
	want := "call_started call_status_changed call_turn session_started call_turn session_status_changed call_ended"
	if got := strings.Join(types, " "); got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

// counting returns a reader whose effect is a row of its own for each event, so
// that an event read twice is two rows.
func counting(store *postgres.Store, name string, seen *atomic.Int64) control.EventReader {
	return control.EventReader{Name: name, Read: func(ctx context.Context, events []control.Event) error {
		for _, e := range events {
			err := store.InsertKey(ctx, identity.Key{ID: uuid.New(), Name: fmt.Sprintf("%s %s %d", name, e.Session, e.Seq),
				Prefix: uuid.NewString(), Hash: []byte{1}, Scopes: control.Scopes(), CreatedAt: time.Now()})
			if err != nil {
				return err
			}
			seen.Add(1)
		}
		return nil
	}}
}

func (w *town) keys(like string) (all, distinct int) {
	w.t.Helper()
	w.query(`SELECT count(*), count(DISTINCT name) FROM api_keys WHERE name LIKE $1`, []any{like}, &all, &distinct)
	return all, distinct
}

// Two processes share the work while their connections to the database are cut
// again and again, under load: no event is lost, and a reader's own writes
// happen once for each.
func TestReadersReadOnceThroughCuts(t *testing.T) {
	w := newTown(t, shop)
	var seen atomic.Int64
	var cuts atomic.Int64
	for range 2 {
		p := w.db.Proxy(t)
		store, err := postgres.Open(t.Context(), p.AppURL, postgres.Options{MaxConns: 4})
		must(t, err)
		t.Cleanup(store.Close)
		reader := counting(store, "every", &seen)
		read := reader.Read
		reader.Read = func(ctx context.Context, e []control.Event) error {
			err := read(ctx, e)
			if cuts.Add(1)%3 == 0 { // after the effects, before the commit
				p.Cut()
				p.Restore()
			}
			return err
		}
		run := w.relay(reader)
		run.Store, run.Batch = store, 5
		background(t, run.Run)
	}
	const sessions, revisions = 12, 8
	var load sync.WaitGroup
	for range sessions {
		load.Go(func() {
			s := w.script()
			for n := range revisions {
				if err := s.write([]string{"a", "b"}[n%2], flow.Active); err != nil {
					t.Error(err)
				}
			}
		})
	}
	load.Wait()
	eventually(t, "every event is read", func() bool { _, n := w.keys("every %"); return n >= sessions*revisions })
	if all, distinct := w.keys("every %"); all != sessions*revisions || distinct != all {
		t.Errorf("%d events left %d rows, %d different", sessions*revisions, all, distinct)
	}
	if n := seen.Load(); n <= sessions*revisions {
		t.Errorf("%d effects were begun: no cut met one", n)
	}
}

// A reader that fails gets the same again, all of its writes undone; others do
// not wait for it, and types are kept apart.
func TestAFailingReaderHoldsUpItselfOnly(t *testing.T) {
	w := newTown(t, shop)
	var seen atomic.Int64
	failing := counting(w.store, "failing", &seen)
	write := failing.Read
	var tries atomic.Int64
	failing.Read = func(ctx context.Context, e []control.Event) error {
		if err := write(ctx, e); err != nil {
			return err
		}
		if tries.Add(1) < 3 {
			return fmt.Errorf("not yet")
		}
		return nil
	}
	only := counting(w.store, "only", &seen)
	only.Types = []string{"session_status_changed"}
	run := w.relay(failing, counting(w.store, "other", &seen), only)
	s := w.script()
	must(t, s.write("a", flow.Active))
	must(t, s.write("b", flow.Completed))
	background(t, run.Run)
	eventually(t, "all have read", func() bool {
		a, _ := w.keys("failing %")
		b, _ := w.keys("other %")
		c, _ := w.keys("only %")
		return a == 2 && b == 2 && c == 1
	})
	if n := tries.Load(); n != 3 {
		t.Errorf("%d tries", n)
	}
}

// Who listens hears of what any process has published, and after its connection
// was lost, of what it may have missed.
func TestListenerComesBack(t *testing.T) {
	w := newTown(t, shop)
	p := w.db.Proxy(t)
	store, err := postgres.Open(t.Context(), w.db.AppURL, postgres.Options{Listen: p.AppURL})
	must(t, err)
	t.Cleanup(store.Close)
	woken := make(chan struct{}, 100)
	background(t, func(ctx context.Context) error {
		return store.Listen(ctx, func() { woken <- struct{}{} })
	})
	hear := func(what string) {
		t.Helper()
		select {
		case <-woken:
		case <-time.After(20 * time.Second):
			t.Fatalf("deaf %s", what)
		}
	}
	hear("at the start")
	s := w.script()
	must(t, s.write("a", flow.Active))
	w.publish()
	hear("after an event")
	p.Cut()
	must(t, s.write("b", flow.Active))
	w.publish()
	p.Restore()
	hear("after the connection was cut")
	must(t, s.write("c", flow.Active))
	w.publish()
	hear("on the new connection")
}

// A connection that nothing passes any more, though nobody has closed it, is
// found out and dialed again.
func TestListenerFindsAHalfOpenConnection(t *testing.T) {
	w := newTown(t, shop)
	p := w.db.Proxy(t)
	store, err := postgres.Open(t.Context(), w.db.AppURL, postgres.Options{Listen: p.AppURL, ListenQuiet: 20 * time.Millisecond, Connect: 200 * time.Millisecond})
	must(t, err)
	t.Cleanup(store.Close)
	woken := make(chan struct{}, 100)
	background(t, func(ctx context.Context) error {
		return store.Listen(ctx, func() { woken <- struct{}{} })
	})
	<-woken
	for wait := 50 * time.Millisecond; len(woken) == 0; wait *= 2 { // longer than it is silent and asked, sooner or later
		if wait > 10*time.Second {
			t.Fatal("it is not dialed again")
		}
		p.Hang()
		<-time.After(wait)
		p.Restore()
		<-time.After(wait)
	}
}

// The schema knows every type that the program writes, and no data of theirs
// but what it says.
func TestEventSchema(t *testing.T) {
	held := schema(t)
	var doc struct {
		Defs map[string]struct {
			Required []string `json:"required"`
		} `json:"$defs"`
	}
	must(t, json.Unmarshal([]byte(control.EventSchema), &doc))
	types := append(control.EventTypes(), "test")
	for name := range doc.Defs {
		if !slices.Contains(types, name) {
			t.Errorf("the schema has %s, which nobody writes", name)
		}
	}
	for _, typ := range types {
		if len(doc.Defs[typ].Required) == 0 {
			t.Errorf("%s is not described", typ)
		}
		text, err := json.Marshal(control.Event{ID: 1, Session: uuid.New(), Seq: 1, Type: typ, Data: []byte(`{"other":1}`)})
		must(t, err)
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
		must(t, err)
		if held.Validate(v) == nil {
			t.Errorf("%s passes with other data", typ)
		}
	}
}
