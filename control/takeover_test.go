package control_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
)

// The caller's line has come to another process: the one before cannot write
// into the conversation any more, whatever it still believes.
func TestAClaimEndsTheHoldBefore(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	ctx, first := d.begin(c)
	first.Journal.Turn(ctx, agent.Turn{Index: 0, Speaker: "agent", Heard: "for how many people?"})
	d.settle(c.ID, 1)

	there := newCalls(d.store)
	ctx2, second, err := there.Begin(t.Context(), c.ID.String(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if second.FirstTurn != 1 || second.Call.Generation != first.Call.Generation+1 {
		t.Errorf("the second session begins at turn %d, generation %d", second.FirstTurn, second.Call.Generation)
	}
	// The first continues: a process that was stopped, or cut off.
	first.Journal.Turn(ctx, agent.Turn{Index: 1, Speaker: "agent", Heard: "a ghost"})
	first.Journal.Commit(ctx, agent.Commit{Revision: 7, Status: "active", State: []byte(`{}`), Hash: someHash})
	d.finish(ctx, first, agent.Ending{Reason: "caller"})
	if got, _ := d.store.Call(d.ctx, c.ID); got.Status != control.CallActive {
		t.Errorf("the first session's end ended the call: %+v", got)
	}
	second.Journal.Turn(ctx2, agent.Turn{Index: 1, Speaker: "agent", Heard: "for how many people?"})
	if err := there.Finish(ctx2, second, agent.Ending{Reason: "goodbye"}, ""); err != nil {
		t.Fatal(err)
	}
	turns, err := d.store.Turns(d.ctx, c.ID, -1, 10)
	if err != nil || len(turns) != 2 || turns[1].Heard != "for how many people?" {
		t.Errorf("turns %+v, %v", turns, err)
	}
	if _, err := d.store.Conversation(d.ctx, c.ID); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("the first session's commit was written: %v", err)
	}
	if got, _ := d.store.Call(d.ctx, c.ID); got.EndReason != "goodbye" {
		t.Errorf("reason %q, want goodbye", got.EndReason)
	}
}

const someHash = "0123456789012345678901234567890123456789abc="

// settle waits until n turns of a call are stored.
func (d *desk) settle(call uuid.UUID, n int) {
	d.t.Helper()
	for range 500 {
		turns, err := d.store.Turns(d.ctx, call, -1, 100)
		if err != nil {
			d.t.Fatal(err)
		}
		if len(turns) >= n {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	d.t.Fatalf("%d turns are not written", n)
}

// A session whose line came back on another socket of this process makes room.
func TestALineThatComesBackReplacesItsSession(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	var first *control.Serving
	why := make(chan string, 1)
	ctx, first, err := d.Begin(t.Context(), c.ID.String(), func(reason string) {
		why <- reason
		go func() { // the session ends
			if err := d.Finish(context.WithoutCancel(d.ctx), first, agent.Ending{Reason: "network"}, ""); err != nil {
				t.Error(err)
			}
		}()
	})
	if err != nil {
		t.Fatal(err)
	}
	first.Journal.Turn(ctx, agent.Turn{Speaker: "agent", Heard: "hello"})
	ctx, second := d.begin(c)
	if got := <-why; got != "taken" || second.FirstTurn != 1 {
		t.Errorf("the first session ends for %q, the second begins at turn %d: want taken, 1", got, second.FirstTurn)
	}
	if d.Serving() != 1 {
		t.Errorf("%d calls served, want 1", d.Serving())
	}
	d.finish(ctx, second, agent.Ending{Reason: "goodbye"})
}

// A carrier that notes whom it brings back.
type carrier struct {
	mu   sync.Mutex
	back []string
}

func (c *carrier) Hangup(context.Context, control.Call, string) error { return nil }

func (c *carrier) Reconnect(_ context.Context, call control.Call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back = append(c.back, call.CarrierCallID)
	return nil
}

func (c *carrier) brought() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.back)
}

// alive is a registry of live calls that says yes or no to all.
type alive bool

func (alive) SetLive(context.Context, time.Duration, ...uuid.UUID) error { return nil }
func (a alive) Alive(context.Context, uuid.UUID) (bool, error)           { return bool(a), nil }
func (alive) Ended(context.Context, uuid.UUID) error                     { return nil }

// A process vanishes without a word. One of the others brings its caller back,
// once its lease has lapsed and no sooner, and only one of them does.
func TestAVanishedProcessesCallsAreBroughtBack(t *testing.T) {
	d := newDesk(t)
	d.Lease = 1200 * time.Millisecond
	c := d.arrive()
	d.begin(c) // and never renews it: its Run is not running
	cut := time.Now()

	line := &carrier{}
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 2 {
		other := newCalls(d.store)
		other.Carrier, other.Live, other.Lease = line, alive(false), d.Lease
		others.Go(func() {
			if err := other.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	cautious := newCalls(d.store)
	cautious.Carrier, cautious.Live, cautious.Lease = &carrier{}, alive(true), d.Lease
	others.Go(func() {
		if err := cautious.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for range 2000 {
		if line.brought() > 0 {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if took := time.Since(cut); took < d.Lease {
		t.Errorf("brought back after %v, want a lease of %v to lapse first", took, d.Lease)
	}
	if got, _ := d.store.Call(d.ctx, c.ID); got.EndReason != "crashed" {
		t.Errorf("call %+v", got)
	}
	d.next("connect")
	stop()
	others.Wait()
	if n := line.brought() + cautious.Carrier.(*carrier).brought(); n != 1 {
		t.Errorf("brought back %d times, want once", n)
	}
	// The vanished process was only late, and nobody has come: the call is its own.
	held, err := d.store.RenewCalls(d.ctx, uuid.New(), []control.Hold{{Call: c.ID, Generation: 1}}, time.Minute)
	if got, _ := d.store.Call(d.ctx, c.ID); err != nil || len(held) != 1 || got.Status != control.CallActive {
		t.Errorf("renewed %v, %v: %+v", held, err, got)
	}
}
