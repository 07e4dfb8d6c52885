package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent/flow"
	"parley/control"
	"parley/store/postgres"
)

// bureau looks things up beside the conversation: within a composite, and by an
// action of two calls.
const bureau = `{"nodes":[
	{"id":"what","type":"question","content":{"question":"What?","variable":"what"},"connections":{"default":"within"}},
	{"id":"within","type":"composite","content":{"inputs":{"what":"what"},"nodes":[
		{"id":"look","type":"webhook","content":{"url":"https://a.example/look","async":true,"say_while":"Looking for {input.what}.",
			"fallback_response":{"number":0},"response_mapping":{"output.n":"$.number"}}}],
		"outputs":{"n":"n"}},"connections":{"complete":"act","error":"failed"}},
	{"id":"act","type":"action","content":{"async":true,"actions":[
		{"type":"api_call","url":"https://a.example/one"},{"type":"increment","variable":"n"},{"type":"api_call","url":"https://a.example/two"}]},
		"connections":{"success":"tell","error":"failed"}},
	{"id":"tell","type":"question","content":{"question":"It is {n}. More?"},"connections":{"default":"what"}},
	{"id":"failed","type":"message","content":{"text":"That failed."}}]}`

// A bureauDesk is a process that orders and does tasks.
type bureauDesk struct {
	*control.Chats
	mu     sync.Mutex
	counts []string
}

func (w *town) bureau() *bureauDesk {
	d := &bureauDesk{Chats: w.process()}
	d.Tasks = w.store
	d.Counted = func(what string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.counts = append(d.counts, what)
	}
	return d
}

func (d *bureauDesk) counted(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.counts, want) {
		t.Errorf("counted %v, want %v", d.counts, want)
	}
}

// tasks lists those ordered for a conversation.
func (w *town) tasks(id uuid.UUID) (list []control.Task) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.SuperURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	r, err := conn.Query(w.t.Context(), `SELECT args FROM river_job WHERE args->>'conversation' = $1 ORDER BY id`, id.String())
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := pgx.CollectRows(r, pgx.RowTo[[]byte])
	if err != nil {
		w.t.Fatal(err)
	}
	for _, b := range raw {
		var k control.Task
		if err := json.Unmarshal(b, &k); err != nil {
			w.t.Fatal(err)
		}
		list = append(list, k)
	}
	return list
}

// waiting is a conversation that waits for its first task.
func (w *town) waiting(s *bureauDesk) (uuid.UUID, control.Task) {
	w.t.Helper()
	c := w.start(s.Chats)
	r, err := s.Interact(w.ctx, c.ID, control.Answer{Text: "books"})
	if err != nil {
		w.t.Fatal(err)
	}
	list := w.tasks(c.ID)
	if len(list) != 1 || r.Status != flow.Active || r.Takes != nil || r.Node != "look" || w.calls() != 0 {
		w.t.Fatalf("%d tasks, %s at %s, takes %v, %d calls; want one task, and the conversation at look", len(list), r.Status, r.Node, r.Takes, w.calls())
	}
	return c.ID, list[0]
}

func (w *town) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sent)
}

func (w *town) look(id uuid.UUID) control.Conversation {
	w.t.Helper()
	c, err := w.store.Conversation(w.ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// An asynchronous node ends the turn; its task is ordered with the commit, runs
// once, and goes on with the flow, out of a composite and through an action.
func TestTasks(t *testing.T) {
	w := newTown(t, bureau)
	s := w.bureau()
	id, k := w.waiting(s)
	if _, err := s.Interact(w.ctx, id, control.Answer{Text: "now?"}); !errors.Is(err, control.ErrNotWaiting) {
		t.Errorf("an answer meanwhile: %v, want ErrNotWaiting", err)
	}
	for n := range 3 {
		list := w.tasks(id)
		if len(list) != n+1 {
			t.Fatalf("%d tasks, want %d", len(list), n+1)
		}
		for range 2 { // the second time it is a duplicate
			if err := s.DoTask(t.Context(), list[n]); err != nil {
				t.Fatal(err)
			}
		}
		if w.calls() != n+1 || w.sent[n] != list[n].Effect {
			t.Errorf("calls %q, want %s last", w.sent, list[n].Effect)
		}
	}
	want := "What? | Looking for books. | It is 8. More?"
	if got := w.transcript(id); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	s.counted(t, "done", "duplicate", "done", "duplicate", "done", "duplicate")
	if k.Effect != id.String()+":within/look:"+fmt.Sprint(k.Revision) {
		t.Errorf("key %s", k.Effect)
	}
}

// A task of a conversation that has moved on calls nobody, and says so.
func TestStaleTasks(t *testing.T) {
	patch := func(w *town, s *bureauDesk, id uuid.UUID) error {
		_, err := s.Patch(w.ctx, id, map[string]any{"variables": map[string]any{"x": 1}}, 0)
		return err
	}
	end := func(w *town, s *bureauDesk, id uuid.UUID) error {
		_, err := s.End(w.ctx, id)
		return err
	}
	tests := []struct {
		name   string
		move   func(*town, *bureauDesk, uuid.UUID) error
		late   bool // moved on while the call was at work
		status string
		said   string
	}{
		{"ended", end, false, flow.Completed, "What? | Looking for books."},
		{"ended-meanwhile", end, true, flow.Completed, "What? | Looking for books."},
		{"changed", patch, false, flow.Completed, "What? | Looking for books. | That failed."},
		{"changed-meanwhile", patch, true, flow.Completed, "What? | Looking for books. | That failed."},
	}
	w := newTown(t, bureau)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.sent, w.call = nil, nil
			s := w.bureau()
			id, k := w.waiting(s)
			calls := 0
			if tt.late {
				calls = 1
				w.call = func(context.Context, flow.Call) {
					if err := tt.move(w, s, id); err != nil {
						t.Error(err)
					}
				}
			} else if err := tt.move(w, s, id); err != nil {
				t.Fatal(err)
			}
			if err := s.DoTask(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			if got := w.transcript(id); got != tt.said || w.look(id).Status != tt.status || w.calls() != calls {
				t.Errorf("%s after %d calls: %s", w.look(id).Status, w.calls(), got)
			}
			if n := count(w.events(id), "task_stale"); n != 1 {
				t.Errorf("%d events task_stale, want 1", n)
			}
			s.counted(t, "stale")
		})
	}
}

func count(list []string, s string) (n int) {
	for _, e := range list {
		if e == s {
			n++
		}
	}
	return n
}

// Of two workers with one task, one does it; of a deleted session, nobody.
func TestOneWorkerATask(t *testing.T) {
	w := newTown(t, bureau)
	here, there := w.bureau(), w.bureau()
	id, k := w.waiting(here)
	w.call = func(context.Context, flow.Call) {
		if err := there.DoTask(t.Context(), k); !errors.Is(err, control.ErrConflict) {
			t.Errorf("the second worker: %v, want ErrConflict", err)
		}
	}
	if err := here.DoTask(t.Context(), k); err != nil || w.calls() != 1 {
		t.Errorf("%v after %d calls", err, w.calls())
	}
	if w.look(id).Revision == k.Revision {
		t.Error("nothing came of it")
	}
	w.sent, w.call = nil, nil
	id, k = w.waiting(here)
	if err := w.store.DeleteConversation(w.ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := here.DoTask(t.Context(), k); err != nil || w.calls() != 0 {
		t.Errorf("of a deleted session: %v after %d calls", err, w.calls())
	}
}

// dying is a store that a killed process reaches no more.
type dying struct{ control.TaskStore }

func (dying) LeaveTask(context.Context, uuid.UUID, control.Claim, time.Duration) error { return nil }

// A process is killed after it has taken a task, before or after the call went
// out. Another does it again, under the same key; its result counts once.
func TestKilledWorker(t *testing.T) {
	w := newTown(t, bureau)
	for _, retry := range []string{"by-the-queue", "by-who-notices", "by-who-asks"} {
		t.Run(retry, func(t *testing.T) {
			w.sent, w.call = nil, nil
			s := w.bureau()
			id, k := w.waiting(s)
			dead := w.bureau()
			dead.Tasks = dying{w.store}
			ctx, kill := context.WithCancel(t.Context())
			w.call = func(context.Context, flow.Call) { kill() }
			if err := dead.DoTask(ctx, k); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			w.call = nil
			if err := s.DoTask(t.Context(), k); !errors.Is(err, control.ErrConflict) {
				t.Errorf("before the lease has ended: %v, want ErrConflict", err)
			}
			w.exec(`UPDATE conversations SET due_at = now() - interval '1 second' WHERE id = $1`, id)
			switch retry {
			case "by-the-queue":
				if err := s.DoTask(t.Context(), k); err != nil {
					t.Fatal(err)
				}
				s.counted(t, "done")
			case "by-who-asks":
				if r, err := s.Interact(w.ctx, id, control.Answer{Text: "and?"}); err != nil || !r.Resumed {
					t.Errorf("resumed %v, %v", r.Resumed, err)
				}
				s.counted(t, "inline")
			case "by-who-notices":
				ctx, stop := context.WithCancel(t.Context())
				w.call = func(context.Context, flow.Call) { stop() }
				if err := s.Run(ctx); err != nil {
					t.Fatal(err)
				}
				s.counted(t, "inline")
			}
			if w.calls() != 2 || w.sent[0] != w.sent[1] {
				t.Errorf("calls %q, want the same twice", w.sent)
			}
			if c := w.look(id); retry != "by-who-notices" && c.Revision != k.Revision+1 {
				t.Errorf("revision %d, want %d", c.Revision, k.Revision+1)
			}
		})
	}
}

// Where nothing can be ordered the turn does it all, and says so.
func TestQueueIsDown(t *testing.T) {
	w := newTown(t, bureau)
	s := w.bureau()
	var log strings.Builder
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	w.exec(`REVOKE INSERT ON river_job FROM parley_app`)
	c := w.start(s.Chats)
	r, err := s.Interact(w.ctx, c.ID, control.Answer{Text: "books"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Node != "tell" || r.Takes == nil || w.calls() != 3 {
		t.Errorf("at %s after %d calls, want tell after 3", r.Node, w.calls())
	}
	if got, want := w.transcript(c.ID), "What? | Looking for books. | It is 8. More?"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	s.counted(t, "inline", "inline", "inline")
	if !strings.Contains(log.String(), "queue down") {
		t.Errorf("log: %s", log.String())
	}
}

// Two processes work what ten conversations order: each task once.
func TestQueue(t *testing.T) {
	w := newTown(t, bureau)
	done := make(chan error)
	for range 2 {
		s := w.bureau()
		do := func(ctx context.Context, k control.Task) error {
			err := s.DoTask(ctx, k)
			done <- err
			return err
		}
		stop := w.queue(do)
		defer stop()
	}
	s := w.bureau()
	const n = 10
	var ids []uuid.UUID
	for range n {
		c := w.start(s.Chats)
		if _, err := s.Interact(w.ctx, c.ID, control.Answer{Text: "books"}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, c.ID)
	}
	for range 3 * n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, id := range ids {
		if got, want := w.transcript(id), "What? | Looking for books. | It is 8. More?"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	if w.calls() != 3*n {
		t.Errorf("%d calls, want %d", w.calls(), 3*n)
	}
}

// queue runs workers until stop.
func (w *town) queue(do func(context.Context, control.Task) error) (stop func()) {
	w.t.Helper()
	q, err := postgres.OpenQueue(w.t.Context(), w.db.AppURL, postgres.Workers{Task: do}, postgres.QueueOptions{Drain: time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error)
	go func() { ended <- q.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
}

// A process that ends in the middle of a call gives the task back; another
// does it, under the same key.
func TestQueueDrains(t *testing.T) {
	w := newTown(t, bureau)
	s := w.bureau()
	at, given := make(chan struct{}, 1), make(chan error, 1)
	w.call = func(ctx context.Context, _ flow.Call) {
		at <- struct{}{}
		<-ctx.Done()
	}
	stop := w.queue(func(ctx context.Context, k control.Task) error {
		err := s.DoTask(ctx, k)
		given <- err
		return err
	})
	c := w.start(s.Chats)
	if _, err := s.Interact(w.ctx, c.ID, control.Answer{Text: "books"}); err != nil {
		t.Fatal(err)
	}
	<-at
	w.mu.Lock()
	w.call = nil
	w.mu.Unlock()
	stop()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("the ended worker: %v", err)
	}
	done := make(chan error)
	defer w.queue(func(ctx context.Context, k control.Task) error {
		err := s.DoTask(ctx, k)
		done <- err
		return err
	})()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if w.sent[0] != w.sent[1] || w.calls() != 4 {
		t.Errorf("calls %q, want the first again", w.sent)
	}
	if got, want := w.transcript(c.ID), "What? | Looking for books. | It is 8. More?"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
