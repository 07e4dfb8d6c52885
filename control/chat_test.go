package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent/flow"
	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

// shop orders and pays by two calls after one answer.
const shop = `{"on_hangup":"left","nodes":[
	{"id":"what","type":"question","content":{"question":"What?","variable":"what"},"connections":{"default":"order"}},
	{"id":"order","type":"webhook","content":{"url":"https://shop.example/order","method":"POST","body":{"what":"{what}"},"response_mapping":{"number":"$.number"},"say_while":"Ordering {what}."},"connections":{"success":"ordered","error":"failed"}},
	{"id":"ordered","type":"message","content":{"text":"Order {number}."},"connections":{"default":"pay"}},
	{"id":"pay","type":"webhook","content":{"url":"https://shop.example/pay","method":"POST"},"connections":{"success":"paid","error":"failed"}},
	{"id":"paid","type":"question","content":{"question":"Paid. More?","variable":"more"},"connections":{"default":"bye"}},
	{"id":"bye","type":"message","content":{"text":"Bye."}},
	{"id":"failed","type":"message","content":{"text":"That failed."}},
	{"id":"left","type":"action","content":{"actions":[{"type":"set_variable","variable":"left","value":true}]}}]}`

// A town has one database, flows in it, and a world outside.
type town struct {
	t     testing.TB
	db    postgrestest.Database
	store *postgres.Store
	ctx   context.Context
	flow  uuid.UUID

	mu   sync.Mutex
	sent []string // keys of calls, in order
	// call is done for each call, before it is answered.
	call func(context.Context, flow.Call)
}

func newTown(t testing.TB, document string) *town {
	t.Helper()
	return newTownOn(t, server.New(t), document)
}

func newTownOn(t testing.TB, db postgrestest.Database, document string) *town {
	t.Helper()
	w := &town{t: t, db: db}
	store, err := postgres.Open(t.Context(), w.db.AppURL, postgres.Options{MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	w.store = store
	tenant := uuid.New()
	w.ctx = control.WithTenant(t.Context(), tenant)
	if err := store.InsertTenant(t.Context(), identity.Tenant{ID: tenant, Name: "t"},
		identity.User{ID: uuid.New(), Email: "a@b.c", Role: control.RoleOwner}); err != nil {
		t.Fatal(err)
	}
	w.flow = uuid.New()
	v := control.Version{ID: uuid.New(), Of: w.flow, Number: 1, Document: []byte(document), CreatedAt: time.Now()}
	err = store.InsertFlow(w.ctx, control.Flow{ID: w.flow, Name: "shop", CreatedAt: time.Now()}, v)
	if err == nil {
		err = store.Publish(w.ctx, control.SubjectFlow, control.Publication{ID: uuid.New(), Of: w.flow, Version: v.ID, Percent: 100, At: time.Now()}, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// process is a fresh process over the same database.
func (w *town) process() *control.Chats {
	s := newChats(w.store)
	s.Perform = w.perform
	return s
}

// perform answers calls, and remembers their keys.
func (w *town) perform(uuid.UUID) func(context.Context, flow.Effect) flow.Result {
	return func(ctx context.Context, e flow.Effect) flow.Result {
		c, ok := e.(flow.Call)
		if !ok {
			return flow.Result{}
		}
		w.mu.Lock()
		w.sent = append(w.sent, c.ID)
		call := w.call
		w.mu.Unlock()
		if call != nil {
			call(ctx, c)
		}
		return flow.Result{At: flow.At{At: time.Now()}, ID: c.ID, Outcome: "success", Data: []byte(`{"number":7}`)}
	}
}

func (w *town) start(s *control.Chats) control.Reply {
	w.t.Helper()
	r, _, err := s.Start(w.ctx, control.Beginning{Flow: w.flow.String()})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *town) exec(q string, args ...any) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.SuperURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	if _, err := conn.Exec(w.t.Context(), q, args...); err != nil {
		w.t.Fatal(err)
	}
}

// query reads one row, whosesoever it is.
func (w *town) query(q string, args []any, into ...any) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.SuperURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	if err := conn.QueryRow(w.t.Context(), q, args...).Scan(into...); err != nil {
		w.t.Fatal(err)
	}
}

// lapse ends the lease of a process that is gone.
func (w *town) lapse(id uuid.UUID) {
	w.exec(`UPDATE conversations SET claimed_until = now() - interval '1 second' WHERE id = $1 AND claim_id IS NOT NULL`, id)
}

// transcript is all that was said, after checking that no revision and no
// event is missing or there twice.
func (w *town) transcript(id uuid.UUID) string {
	w.t.Helper()
	c, err := w.store.Conversation(w.ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	var said []string
	last := 0
	for {
		page, err := w.store.History(w.ctx, id, last, 200)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range page {
			if e.Revision != last+1 {
				w.t.Errorf("revision %d follows %d", e.Revision, last)
			}
			last = e.Revision
			said = append(said, messageTexts(w.t, e.Messages)...)
		}
		if len(page) == 0 {
			break
		}
	}
	if last != c.Revision {
		w.t.Errorf("the history ends at %d, the conversation at %d", last, c.Revision)
	}
	if _, err := flow.DecodeState(c.State, c.Hash); err != nil {
		w.t.Error(err)
	}
	w.events(id)
	return strings.Join(said, " | ")
}

// events lists the types of a session's events, and checks their numbers.
func (w *town) events(id uuid.UUID) []string {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.SuperURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	r, err := conn.Query(w.t.Context(), `SELECT seq, type FROM events WHERE session_id = $1 ORDER BY seq`, id)
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := pgx.CollectRows(r, pgx.RowToStructByPos[struct {
		Seq  int
		Type string
	}])
	if err != nil {
		w.t.Fatal(err)
	}
	types := make([]string, len(list))
	for i, e := range list {
		types[i] = e.Type
		if e.Seq != i+1 {
			w.t.Errorf("event %d has number %d", i+1, e.Seq)
		}
	}
	return types
}

func messageTexts(t testing.TB, raw []byte) []string {
	t.Helper()
	var list []flow.Message
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	return textsOf(list)
}

func textsOf(list []flow.Message) []string {
	var out []string
	for _, m := range list {
		out = append(out, m.Text)
	}
	return out
}

const shopTalk = "What? | Ordering tea. | Order 7. | Paid. More?"

// Two answers at once: exactly one counts, and its effects happen once.
func TestRivalAnswers(t *testing.T) {
	w := newTown(t, shop)
	a, b := w.process(), w.process()
	r := w.start(a)
	errs := make(chan error, 1)
	w.call = func(context.Context, flow.Call) { // the rival comes while the first is at its effect
		w.call = nil
		_, err := b.Interact(w.ctx, r.ID, control.Answer{Text: "coffee", Mode: "text"})
		errs <- err
	}
	got, err := a.Interact(w.ctx, r.ID, control.Answer{Text: "tea", Mode: "text"})
	if err != nil || strings.Join(textsOf(got.Messages), " | ") != "Ordering tea. | Order 7. | Paid. More?" {
		t.Fatalf("the first answer: %v, %v", textsOf(got.Messages), err)
	}
	if err := <-errs; !errors.Is(err, control.ErrConflict) {
		t.Errorf("the rival: %v, want ErrConflict", err)
	}
	if len(w.sent) != 2 {
		t.Errorf("calls %v", w.sent)
	}
	if got := w.transcript(r.ID); got != shopTalk {
		t.Errorf("transcript %q", got)
	}
}

var errDead = errors.New("this process is dead")

// A mortal process dies at one of its commits or calls: from then on nothing
// of it reaches storage or the world.
type mortal struct {
	control.TurnStore
	at   string // "before commit 2", "after commit 2", "before call 1", "after call 1"
	n    int
	dead atomic.Bool
}

// pass reports that the process lives; it dies at its point.
func (m *mortal) pass(point string) bool {
	if point == m.at {
		m.dead.Store(true)
	}
	return !m.dead.Load()
}

func (m *mortal) CommitTurn(ctx context.Context, id uuid.UUID, c control.TurnCommit) error {
	m.n++
	if !m.pass(fmt.Sprint("before commit ", m.n)) {
		return errDead
	}
	err := m.TurnStore.CommitTurn(ctx, id, c)
	if !m.pass(fmt.Sprint("after commit ", m.n)) {
		return errDead
	}
	return err
}

func (m *mortal) ReleaseConversation(ctx context.Context, id uuid.UUID, k control.Claim, left control.Left) error {
	if m.dead.Load() {
		return errDead
	}
	return m.TurnStore.ReleaseConversation(ctx, id, k, left)
}

func (m *mortal) RenewClaim(ctx context.Context, id uuid.UUID, k control.Claim) error {
	if m.dead.Load() {
		return errDead
	}
	return m.TurnStore.RenewClaim(ctx, id, k)
}

// Wherever a process dies, another goes on: nothing committed is lost, and an
// effect is given out again under its own key and no other.
func TestAnotherProcessGoesOn(t *testing.T) {
	w := newTown(t, shop)
	points := []string{"never"}
	for i := range 3 {
		points = append(points, fmt.Sprint("before commit ", i+1), fmt.Sprint("after commit ", i+1))
	}
	for i := range 2 {
		points = append(points, fmt.Sprint("before call ", i+1), fmt.Sprint("after call ", i+1))
	}
	for _, point := range points {
		t.Run(strings.ReplaceAll(point, " ", "-"), func(t *testing.T) {
			w.t = t
			m := &mortal{TurnStore: w.store, at: point}
			first := w.process()
			first.Turns = m
			w.sent = nil
			r := w.start(first)
			calls := 0
			first.Perform = func(id uuid.UUID) func(context.Context, flow.Effect) flow.Result {
				return func(ctx context.Context, e flow.Effect) flow.Result {
					calls++
					if !m.pass(fmt.Sprint("before call ", calls)) {
						return flow.Result{}
					}
					res := w.perform(id)(ctx, e)
					if !m.pass(fmt.Sprint("after call ", calls)) {
						return flow.Result{}
					}
					return res
				}
			}
			answer := control.Answer{Text: "tea", Mode: "text"}
			reply, err := first.Interact(w.ctx, r.ID, answer)
			if died := m.dead.Load(); died != (point != "never") {
				t.Fatalf("died: %v", died)
			} else if died {
				w.lapse(r.ID)
				reply, err = w.process().Interact(w.ctx, r.ID, answer)
				if point == "after commit 3" { // it had all been done: the answer is for the next question
					if err != nil || reply.Status != flow.Completed {
						t.Fatalf("the next answer: %+v, %v", reply.Status, err)
					}
					return
				}
				if again := point != "before commit 1"; reply.Resumed != again {
					t.Errorf("resumed: %v, want %v", reply.Resumed, again)
				}
			}
			if got := strings.Join(textsOf(reply.Messages), " | "); err != nil || got != "Ordering tea. | Order 7. | Paid. More?" {
				t.Errorf("the reply says %q, %v", got, err)
			}
			if got := w.transcript(r.ID); got != shopTalk {
				t.Errorf("transcript %q", got)
			}
			want := []string{fmt.Sprint(r.ID, ":order:2"), fmt.Sprint(r.ID, ":pay:3")}
			if keys := slices.Compact(slices.Clone(w.sent)); !slices.Equal(keys, want) {
				t.Errorf("keys of calls %v, want %v", w.sent, want)
			}
		})
	}
}

// A turn broke off, and its client sends the same answer again, for the revision
// that it knows: it is refused, and the turn is still finished by somebody.
func TestStaleAnswerLeavesABrokenTurnDue(t *testing.T) {
	w := newTown(t, shop)
	m := &mortal{TurnStore: w.store, at: "after commit 1"}
	first := w.process()
	first.Turns = m
	r := w.start(first)
	answer := control.Answer{Text: "tea", Mode: "text", Expected: r.Revision}
	if _, err := first.Interact(w.ctx, r.ID, answer); err == nil {
		t.Fatal("the process did not die")
	}
	w.lapse(r.ID)
	if _, err := w.process().Interact(w.ctx, r.ID, answer); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a stale answer: %v, want ErrConflict", err)
	}
	due, err := w.store.LocateDueConversations(w.ctx)
	if err != nil || !slices.ContainsFunc(due, func(at control.Located) bool { return at.ID == r.ID }) {
		t.Errorf("the broken turn is not due any more: %v, %v", due, err)
	}
}

// A process that was only slow, and lost its lease, cannot write any more.
func TestLateProcessCannotCommit(t *testing.T) {
	w := newTown(t, shop)
	a, b := w.process(), w.process()
	r := w.start(a)
	w.call = func(context.Context, flow.Call) {
		w.call = nil
		w.lapse(r.ID)
		if reply, err := b.Interact(w.ctx, r.ID, control.Answer{Text: "x", Mode: "text"}); err != nil || !reply.Resumed {
			t.Errorf("taking over: %v, resumed %v", err, reply.Resumed)
		}
	}
	if _, err := a.Interact(w.ctx, r.ID, control.Answer{Text: "tea", Mode: "text"}); !errors.Is(err, control.ErrConflict) {
		t.Errorf("the late process: %v, want ErrConflict", err)
	}
	if got := w.transcript(r.ID); got != shopTalk {
		t.Errorf("transcript %q", got)
	}
	if keys := slices.Compact(slices.Clone(w.sent)); len(keys) != 2 {
		t.Errorf("keys of calls %v", w.sent)
	}
}

// Any interleaving of writers keeps revisions and events without a gap, and
// loses no update that was told to have been made.
func TestNoUpdateIsLost(t *testing.T) {
	const writers, each = 4, 15
	w := newTown(t, `{"nodes":[{"id":"q","type":"question","content":{"question":"?","input_type":"number","variable":"n"},"connections":{"default":"q"}}],"defaults":{"limits":{"turns":10000}}}`)
	r := w.start(w.process())
	var group sync.WaitGroup
	var refused, answers atomic.Int64
	for i := range writers {
		s := w.process()
		group.Go(func() {
			for done := 0; done < each && !t.Failed(); {
				var err error
				patch := rand.IntN(2) == 0
				if patch {
					_, err = s.Patch(w.ctx, r.ID, map[string]any{"variables": map[string]any{fmt.Sprintf("w%d_%d", i, done): true}}, 0)
				} else {
					_, err = s.Interact(w.ctx, r.ID, control.Answer{Text: "nonsense", Mode: "text"})
				}
				switch {
				case errors.Is(err, control.ErrConflict):
					refused.Add(1)
				case err != nil:
					t.Error(err)
				case patch:
					done++
				default:
					answers.Add(1)
				}
			}
		})
	}
	group.Wait()
	w.transcript(r.ID)
	c, err := w.store.Conversation(w.ctx, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	state, err := flow.DecodeState(c.State, c.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Variables) != writers*each {
		t.Errorf("%d updates were made, %d are there", writers*each, len(state.Variables))
	}
	if want := 1 + writers*each + int(answers.Load()); c.Revision != want || refused.Load() == 0 {
		t.Errorf("revision %d, want %d; %d refused", c.Revision, want, refused.Load())
	}
}

// What a conversation waits for by itself comes without anybody's word.
func TestRunGoesOn(t *testing.T) {
	w := newTown(t, `{"on_hangup":"left","nodes":[
		{"id":"w","type":"wait","content":{"seconds":3600},"connections":{"default":"q"}},
		{"id":"q","type":"question","content":{"question":"Still there?","variable":"v"}},
		{"id":"left","type":"action","content":{"actions":[{"type":"set_variable","variable":"left","value":true}]}}]}`)
	s := w.process()
	waiting, broken, silent := w.start(s), w.start(s), w.start(s)
	if waiting.Takes != nil || waiting.DueAt.After(time.Now()) {
		t.Errorf("a long wait: %+v", waiting.Takes)
	}
	if _, err := s.Interact(w.ctx, waiting.ID, control.Answer{Text: "x"}); !errors.Is(err, control.ErrNotWaiting) {
		t.Errorf("an answer to nothing: %v, want ErrNotWaiting", err)
	}
	if _, err := s.Patch(w.ctx, waiting.ID, map[string]any{"temp": map[string]any{"x": true}}, 0); err != nil {
		t.Error(err)
	}
	// The patch leaves the time as it was.
	before, err := w.store.Conversation(w.ctx, waiting.ID)
	if err != nil || time.Until(before.DueAt) > time.Hour || time.Until(before.DueAt) < 59*time.Minute {
		t.Errorf("due at %v, %v", before.DueAt, err)
	}
	w.exec(`UPDATE conversations SET due_at = now() WHERE id = $1`, waiting.ID)
	w.exec(`UPDATE conversations SET due_at = now(), claim_id = gen_random_uuid(), claimed_until = now() - interval '1 second' WHERE id = $1`, broken.ID)
	w.exec(`UPDATE conversations SET idle_until = now() - interval '1 second' WHERE id = $1`, silent.ID)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	deadline := time.After(20 * time.Second)
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		a, _ := w.store.Conversation(w.ctx, waiting.ID)
		b, _ := w.store.Conversation(w.ctx, broken.ID)
		c, _ := w.store.Conversation(w.ctx, silent.ID)
		if a.Node == "q" && b.Node == "q" && c.Status == flow.Abandoned && strings.Contains(string(c.State), `"left": true`) {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-deadline:
			t.Errorf("after 20 s at %q and %q, %s", a.Node, b.Node, c.Status)
		}
		break
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := w.transcript(waiting.ID); got != "Still there?" {
		t.Errorf("transcript %q", got)
	}
	due, err := w.store.LocateDueConversations(t.Context())
	if err != nil || len(due) > 0 {
		t.Errorf("still due: %v, %v", due, err)
	}
	if got := w.events(silent.ID); !slices.Equal(got, []string{"session_started", "session_status_changed"}) {
		t.Errorf("events of the silent: %v", got)
	}
}

// A turn that takes longer than anybody waits is finished behind it.
func TestSlowTurnIsFinishedLater(t *testing.T) {
	w := newTown(t, shop)
	s := w.process()
	s.Patience = time.Second
	r := w.start(s)
	w.call = func(ctx context.Context, _ flow.Call) { <-ctx.Done() }
	got, err := s.Interact(w.ctx, r.ID, control.Answer{Text: "tea", Mode: "text"})
	if err != nil || got.Takes != nil || strings.Join(textsOf(got.Messages), "") != "Ordering tea." {
		t.Fatalf("the slow turn: %+v, %v", textsOf(got.Messages), err)
	}
	due, err := w.store.LocateDueConversations(t.Context())
	if err != nil || len(due) != 1 || due[0].ID != r.ID {
		t.Errorf("due: %v, %v", due, err)
	}
	w.call, s.Patience = nil, 0
	if got, err = s.Interact(w.ctx, r.ID, control.Answer{Text: "x", Mode: "text"}); err != nil || !got.Resumed {
		t.Errorf("resumed %v, %v", got.Resumed, err)
	}
	if got := w.transcript(r.ID); got != shopTalk {
		t.Errorf("transcript %q", got)
	}
}

// A flow that asks nobody, and one that grows without end, fail; they do not hang.
func TestChatsThatCannotGoOn(t *testing.T) {
	endless := newTown(t, `{"nodes":[{"id":"q","type":"question","content":{"question":"?","variable":"v"},"connections":{"default":"w"}},
		{"id":"w","type":"webhook","content":{"url":"https://a.example/"},"connections":{"success":"w","error":"q"}}]}`)
	s := endless.process()
	r := endless.start(s)
	if got, err := s.Interact(endless.ctx, r.ID, control.Answer{Text: "x", Mode: "text"}); err != nil || got.Status != flow.Failed {
		t.Errorf("an endless flow: %s, %v", got.Status, err)
	}
	endless.transcript(r.ID)
}

// A database that goes away in the middle of a turn leaves what was committed,
// and the turn can be sent again.
func TestDatabaseGoesAwayInATurn(t *testing.T) {
	w := newTown(t, shop)
	proxy := w.db.Proxy(t)
	behind, err := postgres.Open(t.Context(), proxy.AppURL, postgres.Options{MaxConns: 2, Connect: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	s := w.process()
	s.Store, s.Turns = behind, behind
	r := w.start(s)
	w.call = func(context.Context, flow.Call) { w.call = nil; proxy.Cut() }
	if _, err := s.Interact(w.ctx, r.ID, control.Answer{Text: "tea", Mode: "text"}); !errors.Is(err, control.ErrUnavailable) {
		t.Fatalf("without a database: %v, want ErrUnavailable", err)
	}
	if _, err := s.Interact(w.ctx, r.ID, control.Answer{Text: "tea", Mode: "text"}); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("still without: %v, want ErrUnavailable", err)
	}
	if got := w.transcript(r.ID); got != "What? | Ordering tea." {
		t.Errorf("meanwhile %q", got)
	}
	proxy.Restore()
	w.lapse(r.ID)
	got, err := s.Interact(w.ctx, r.ID, control.Answer{Text: "tea", Mode: "text"})
	if err != nil || !got.Resumed || strings.Join(textsOf(got.Messages), " | ") != "Ordering tea. | Order 7. | Paid. More?" {
		t.Errorf("sent again: %q, %v", textsOf(got.Messages), err)
	}
	if keys := slices.Compact(slices.Clone(w.sent)); w.transcript(r.ID) != shopTalk || len(keys) != 2 {
		t.Errorf("transcript %q, keys %v", w.transcript(r.ID), w.sent)
	}
}
