package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

const waitingShop = `{"nodes":[
	{"id":"w","type":"wait","content":{"event":"paid","variable":"got"},"connections":{"default":"q","timeout":"late"}},
	{"id":"q","type":"question","content":{"question":"Got {got.amount}. More?","variable":"more","voice":{"no_input":{"chat_timeout_ms":60000,"max":2,"prompts":["Still there?"]}}},"connections":{"default":"bye","no_input":"gone"}},
	{"id":"late","type":"message","content":{"text":"Too late."}},
	{"id":"gone","type":"message","content":{"text":"Gone."}},
	{"id":"bye","type":"message","content":{"text":"Bye."}}]}`

func TestEventReachesChat(t *testing.T) {
	w := newTown(t, waitingShop)
	s, calls := w.process(), &control.Calls{}
	r := w.start(s)
	if r.Current.System.Waiting.For != flow.ForResult {
		t.Fatalf("waits for %+v", r.Current.System.Waiting)
	}
	if err := s.Happen(w.ctx, calls, r.ID, "", nil); err == nil {
		t.Error("an event without a name is taken")
	}
	if err := s.Happen(w.ctx, calls, uuid.New(), "paid", nil); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("an event for nobody: %v", err)
	}
	for _, event := range []string{"other", "paid"} {
		if err := s.Happen(w.ctx, calls, r.ID, event, json.RawMessage(`{"amount":12}`)); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.transcript(r.ID); got != "Got 12. More?" {
		t.Errorf("said %q", got)
	}
}

// A chat whose question sets a time is asked again, and takes no_input at last.
func TestChatIsSilent(t *testing.T) {
	w := newTown(t, waitingShop)
	s := w.process()
	r := w.start(s)
	if err := s.Happen(w.ctx, &control.Calls{}, r.ID, "paid", json.RawMessage(`{"amount":1}`)); err != nil {
		t.Fatal(err)
	}
	c, err := w.store.Conversation(w.ctx, r.ID)
	if in := time.Until(c.DueAt); err != nil || in < 50*time.Second || in > time.Minute {
		t.Fatalf("the question is due in %v: %v", in, err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for _, want := range []string{"Still there?", "Gone."} {
		before := revision(t, w, r.ID)
		w.exec(`UPDATE conversations SET due_at = now() WHERE id = $1`, r.ID)
		for deadline := time.Now().Add(20 * time.Second); revision(t, w, r.ID) == before; {
			if time.Now().After(deadline) {
				t.Fatalf("nobody says %q; said %q", want, w.transcript(r.ID))
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	c, err = w.store.Conversation(w.ctx, r.ID)
	if err != nil || c.Status != flow.Completed {
		t.Errorf("status %s, %v", c.Status, err)
	}
	if got := w.transcript(r.ID); got != "Got 1. More? | Still there? | Gone." {
		t.Errorf("said %q", got)
	}
}

func revision(t *testing.T, w *town, id uuid.UUID) int {
	t.Helper()
	c, err := w.store.Conversation(w.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return c.Revision
}

// An event for a call comes to the process that serves it.
func TestCallInbox(t *testing.T) {
	w := newTown(t, waitingShop)
	agent := control.Agent{ID: uuid.New(), Name: "a", Settings: control.AgentSettings{Kind: control.KindFlow, FlowID: w.flow}, CreatedAt: time.Now()}
	call := control.Call{ID: uuid.New(), Agent: agent.ID, Carrier: "x", CarrierCallID: "1", Direction: "inbound", Status: control.CallArrived, StartedAt: time.Now()}
	if err := w.store.InsertAgent(w.ctx, agent); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.InsertCall(w.ctx, call); err != nil {
		t.Fatal(err)
	}
	for i := range control.MaxCallInbox + 1 {
		err := w.store.PutCallEvent(w.ctx, control.CallEvent{Call: call.ID, Event: "paid", Data: json.RawMessage(`{"n":1}`)})
		if full := i == control.MaxCallInbox; full != errors.Is(err, control.ErrConflict) || !full && err != nil {
			t.Errorf("event %d: %v", i, err)
		}
	}
	other := control.WithTenant(t.Context(), uuid.New())
	if got, err := w.store.TakeCallEvents(other, []uuid.UUID{call.ID}); err != nil || len(got) != 0 {
		t.Errorf("another tenant takes %v, %v", got, err)
	}
	got, err := w.store.TakeCallEvents(w.ctx, []uuid.UUID{call.ID})
	if err != nil || len(got) != control.MaxCallInbox || got[0].Event != "paid" || len(got[0].Data) == 0 {
		t.Errorf("took %d events, %v", len(got), err)
	}
	if got, err = w.store.TakeCallEvents(w.ctx, []uuid.UUID{call.ID}); err != nil || len(got) != 0 {
		t.Errorf("took %v again, %v", got, err)
	}
}
