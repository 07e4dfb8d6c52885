package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
)

// A session that notes the commands it is given.
type session struct {
	ctx context.Context
	v   *control.Serving

	mu     sync.Mutex
	got    []control.Command
	settle []func(string)
	news   chan struct{}
}

// serve begins a call on one of several processes.
func serve(t *testing.T, calls *control.Calls, call uuid.UUID) *session {
	t.Helper()
	s := &session{news: make(chan struct{}, 32)}
	var err error
	if s.ctx, s.v, err = calls.Begin(t.Context(), call.String(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	calls.Obey(s.v, func(c control.Command, settle func(string)) {
		s.mu.Lock()
		s.got, s.settle = append(s.got, c), append(s.settle, settle)
		s.mu.Unlock()
		s.news <- struct{}{}
	})
	return s
}

// next waits for the next command.
func (s *session) next(t *testing.T) (control.Command, func(string)) {
	t.Helper()
	select {
	case <-s.news:
	case <-time.After(10 * time.Second):
		t.Fatal("the session got no command")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[len(s.got)-1], s.settle[len(s.settle)-1]
}

func (d *desk) order(c control.Command, revision int) (control.Command, error) {
	d.t.Helper()
	return d.Order(d.ctx, c, revision)
}

// became waits until a command is over.
func (d *desk) became(id uuid.UUID, status, reason string) {
	d.t.Helper()
	var c control.Command
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		var err error
		if c, err = d.store.Command(d.ctx, id); err != nil {
			d.t.Fatal(err)
		}
		if c.Status == status && c.Reason == reason {
			return
		}
	}
	d.t.Fatalf("the command is %s %q, want %s %q", c.Status, c.Reason, status, reason)
}

func TestCommandsAreChecked(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	tests := map[string]struct {
		c    control.Command
		want string // field, or ""
	}{
		"transfer-nowhere":  {control.Command{Kind: control.CommandTransfer}, "to"},
		"transfer-to-words": {control.Command{Kind: control.CommandTransfer, Target: "the desk"}, "to"},
		"transfer-breaks":   {control.Command{Kind: control.CommandTransfer, Target: "sip:a@b\"><Dial"}, "to"},
		"conference":        {control.Command{Kind: control.CommandTransfer, Target: "conference:x"}, "to"},
		"empty-whisper":     {control.Command{Kind: control.CommandWhisper, Words: " "}, "text"},
		"long-whisper":      {control.Command{Kind: control.CommandWhisper, Words: string(make([]byte, control.MaxWords+1))}, "text"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.c.Call = c.ID
			var field *control.Invalid
			if _, err := d.order(tt.c, control.AnyRevision); !errors.As(err, &field) || field.Field != tt.want {
				t.Errorf("%v, want %s to be invalid", err, tt.want)
			}
		})
	}
	if _, err := d.order(control.Command{Call: c.ID, Kind: control.CommandSay, Words: "x"}, control.AnyRevision); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a call that nobody serves: %v", err)
	}
	if _, err := d.order(control.Command{Call: uuid.New(), Kind: control.CommandHangup}, control.AnyRevision); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("a call that is not: %v", err)
	}
}

// A command reaches the session at once, its words with it, and is settled by it
// or by the call's end.
func TestCommandsReachTheSession(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	s := serve(t, d.Calls, c.ID)
	note, err := d.order(control.Command{Call: c.ID, Kind: control.CommandWhisper, Words: "hush"}, control.AnyRevision)
	if err != nil {
		t.Fatal(err)
	}
	got, settle := s.next(t)
	if got.ID != note.ID || got.Words != "hush" || note.Status != control.CommandTaken {
		t.Errorf("the session got %+v of %+v", got, note)
	}
	settle("")
	d.became(note.ID, control.CommandDone, "")
	if over, err := d.store.Command(d.ctx, note.ID); err != nil || over.Words != "" {
		t.Errorf("the words of a command that is over: %q, %v", over.Words, err)
	}
	say, err := d.order(control.Command{Call: c.ID, Kind: control.CommandSay, Words: "hello"}, control.AnyRevision)
	if err != nil {
		t.Fatal(err)
	}
	hangup, err := d.order(control.Command{Call: c.ID, Kind: control.CommandHangup, Words: "bye"}, control.AnyRevision)
	if err != nil {
		t.Fatal(err)
	}
	d.finish(s.ctx, s.v, agent.Ending{Reason: "operator"})
	d.became(say.ID, control.CommandFailed, "the call ended first: operator")
	d.became(hangup.ID, control.CommandDone, "")
	if _, err := d.order(control.Command{Call: c.ID, Kind: control.CommandHangup}, control.AnyRevision); !errors.Is(err, control.ErrEnded) {
		t.Errorf("hanging up an ended call: %v", err)
	}
	trail, err := d.store.AuditTrail(d.ctx, control.AuditFilter{Limit: 10, Action: "call"})
	if err != nil || len(trail) != 3 {
		t.Errorf("the trail has %d entries, %v, want 3", len(trail), err)
	}
	for _, e := range trail {
		if detail := string(e.Detail); e.Object != "call:"+c.ID.String() || len(detail) > 80 {
			t.Errorf("audited: %s %s %s", e.Action, e.Object, detail)
		}
	}
}

// Of two operators who decide at once one is first; who knows of the other's
// transfer may hang up all the same.
func TestTwoOperators(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	serve(t, d.Calls, c.ID)
	before, err := d.store.Call(d.ctx, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	kinds := []control.Command{{Call: c.ID, Kind: control.CommandHangup}, {Call: c.ID, Kind: control.CommandTransfer, Target: "+15550009"},
		{Call: c.ID, Kind: control.CommandTransfer, Target: "+15550008"}}
	errs := make(chan error, len(kinds))
	var all sync.WaitGroup
	for _, k := range kinds {
		all.Go(func() { _, err := d.Order(d.ctx, k, control.AnyRevision); errs <- err })
	}
	all.Wait()
	close(errs)
	won := 0
	for err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, control.ErrConflict) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of three decide, want 1", won)
	}
	hangup := control.Command{Call: c.ID, Kind: control.CommandHangup}
	if _, err := d.order(hangup, before.Revision); !errors.Is(err, control.ErrConflict) {
		t.Errorf("by what was read before: %v", err)
	}
	now, err := d.store.Call(d.ctx, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.order(hangup, now.Revision); err != nil {
		t.Errorf("by what is read now: %v", err)
	}
}

// A cold transfer is done when the carrier says so, and fails with its word.
func TestTransferIsSettledByItsOutcome(t *testing.T) {
	for outcome, want := range map[string][2]string{"completed": {control.CommandDone, ""}, "busy": {control.CommandFailed, "busy"}} {
		t.Run(outcome, func(t *testing.T) {
			d := newDesk(t)
			c := d.arrive()
			s := serve(t, d.Calls, c.ID)
			o, err := d.order(control.Command{Call: c.ID, Kind: control.CommandTransfer, Target: "+15550009"}, control.AnyRevision)
			if err != nil {
				t.Fatal(err)
			}
			d.finish(s.ctx, s.v, agent.Ending{Reason: "transfer", Transfer: "+15550009"})
			if n := d.next("dial"); n.Dial != "+15550009" {
				t.Errorf("dials %q", n.Dial)
			}
			if _, err := d.order(control.Command{Call: c.ID, Kind: control.CommandSay, Words: "x"}, control.AnyRevision); !errors.Is(err, control.ErrConflict) {
				t.Errorf("saying something to a caller who is elsewhere: %v", err)
			}
			if _, err := d.TransferEnded(t.Context(), "twilio", "CA1", outcome); err != nil {
				t.Fatal(err)
			}
			d.became(o.ID, want[0], want[1])
		})
	}
}

// A call whose process died gets its command from the one that takes it over.
func TestCommandWaitsForTheTakeOver(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	dead := newCalls(d.store)
	first := serve(t, dead, c.ID)
	o, err := d.order(control.Command{Call: c.ID, Kind: control.CommandWhisper, Words: "hush"}, control.AnyRevision)
	if err != nil || o.Status != control.CommandPending {
		t.Fatalf("%+v, %v", o, err)
	}
	second := serve(t, d.Calls, c.ID) // first never hears of it
	hello, err := d.order(control.Command{Call: c.ID, Kind: control.CommandWhisper, Words: "hello"}, control.AnyRevision)
	if err != nil {
		t.Fatal(err)
	}
	second.next(t)
	second.next(t)
	second.mu.Lock()
	ids := []uuid.UUID{second.got[0].ID, second.got[1].ID}
	second.mu.Unlock()
	if !slices.Equal(ids, []uuid.UUID{o.ID, hello.ID}) || len(first.got) != 0 {
		t.Errorf("the new process got %v, want %v; the old one %d", ids, []uuid.UUID{o.ID, hello.ID}, len(first.got))
	}
}

// What was taken by a session that is gone is given to the next one.
func TestCommandsOfALostSession(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	lost := serve(t, d.Calls, c.ID)
	o, err := d.order(control.Command{Call: c.ID, Kind: control.CommandWhisper, Words: "hush"}, control.AnyRevision)
	if err != nil {
		t.Fatal(err)
	}
	lost.next(t)
	other := newCalls(d.store)
	s := serve(t, other, c.ID)
	if _, err := other.Order(d.ctx, control.Command{Call: c.ID, Kind: control.CommandSay, Words: "x"}, control.AnyRevision); err != nil {
		t.Fatal(err)
	}
	s.next(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got[0].ID != o.ID || s.got[0].Words != "hush" {
		t.Errorf("the next session got %+v", s.got[0])
	}
}

// refusing is a carrier that does nothing.
type refusing struct {
	carrier
	err error
}

func (r *refusing) Hangup(context.Context, control.Call, string) error { return r.err }

// Where the carrier does not hang up the call stays as it is, and the operator
// reads why.
func TestCarrierRefusesToHangUp(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"refused": {control.Refuse(control.ErrConflict, "the number called is not valid"), "the carrier refused: the number called is not valid"},
		"broken":  {errors.New("503"), "the carrier is in trouble, and may have done it or not: look at the call before trying again"},
		"busy":    {fmt.Errorf("429: %w", control.ErrBusy), "the carrier takes no more requests at the moment: try again"},
		"slow":    {context.DeadlineExceeded, "the carrier did not answer in time: look at the call before trying again"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.Carrier = &refusing{err: tt.err}
			c := d.arrive()
			o, err := d.order(control.Command{Call: c.ID, Kind: control.CommandHangup}, control.AnyRevision)
			if err != nil || o.Status != control.CommandFailed || o.Reason != tt.want {
				t.Errorf("%+v, %v, want %q", o, err, tt.want)
			}
			if now, err := d.store.Call(d.ctx, c.ID); err != nil || now.Status != control.CallArrived {
				t.Errorf("the call is %s, %v", now.Status, err)
			}
		})
	}
}

// A late is storage that takes its time to write that a transfer has begun.
type late struct {
	control.CallChanges
	write chan struct{}
}

func (l *late) TransferCall(ctx context.Context, h control.Hold, to string) (control.Call, error) {
	<-l.write
	return l.CallChanges.TransferCall(ctx, h, to)
}

// A transfer that is over before it is written that it began is over all the
// same: the caller is not sent back to the agent, nor dialled twice.
func TestTransferEndsBeforeItIsWritten(t *testing.T) {
	for outcome, want := range map[string]string{"completed": "hangup", "busy": "connect"} {
		t.Run(outcome, func(t *testing.T) {
			d := newDesk(t)
			slow := &late{d.Changes, make(chan struct{})}
			d.Changes = slow
			c := d.arrive()
			s := serve(t, d.Calls, c.ID)
			var work sync.WaitGroup
			defer work.Wait()
			work.Go(func() {
				if err := d.Finish(s.ctx, s.v, agent.Ending{Reason: "transfer", Transfer: "+15550009"}, ""); err != nil {
					t.Error(err)
				}
			})
			if n := d.next("dial"); n.Dial != "+15550009" {
				t.Errorf("dials %q", n.Dial)
			}
			if n, err := d.TransferEnded(t.Context(), "twilio", "CA1", outcome); !errors.Is(err, control.ErrUnavailable) {
				t.Errorf("before it is written: %+v, %v", n, err)
			}
			close(slow.write)
			if outcome == "completed" { // the caller hangs up, and that comes too soon as well
				if err := d.Status(t.Context(), "twilio", "CA1", "completed"); err != nil {
					t.Error(err)
				}
			}
			n, err := d.TransferEnded(t.Context(), "twilio", "CA1", outcome)
			if err != nil || n.Do != want {
				t.Errorf("then %+v, %v, want %s", n, err, want)
			}
		})
	}
}

// A moody carrier refuses a few times.
type moody struct {
	refuse atomic.Int32
	done   chan string
}

func (m *moody) ask(what string) error {
	if m.refuse.Add(-1) >= 0 {
		return errors.New("503")
	}
	m.done <- what
	return nil
}

func (m *moody) Hangup(_ context.Context, _ control.Call, leg string) error {
	return m.ask("hang up " + leg)
}

func (m *moody) Reconnect(_ context.Context, c control.Call) error {
	return m.ask("bring back " + c.CarrierCallID)
}

func (*moody) MayConsult(control.Call) bool { return true }

func (*moody) Consult(context.Context, control.Call, string, uuid.UUID) (string, error) {
	return "CA2", nil
}

// Of two who should meet one has left before: the other is not left in silence,
// though the carrier refuses at first.
func TestNobodyIsLeftInAConference(t *testing.T) {
	for _, who := range []string{"caller", "colleague"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			m := &moody{done: make(chan string, 4)}
			d.Carrier, d.Colleagues = m, m
			c := d.arrive()
			s := serve(t, d.Calls, c.ID)
			o, err := d.order(control.Command{Call: c.ID, Kind: control.CommandWarm, Target: "+15550009"}, control.AnyRevision)
			if err != nil {
				t.Fatal(err)
			}
			s.next(t)
			d.staged(o.ID, control.StageCalling)
			if _, err := d.Offer(t.Context(), uuid.Nil, o.ID.String(), "CA2"); err != nil {
				t.Fatal(err)
			}
			if room, err := d.Answer(t.Context(), uuid.Nil, o.ID.String(), true); err != nil || room != o.ID.String() {
				t.Fatalf("room %q, %v", room, err)
			}
			if got, _ := s.next(t); got.Stage != control.StageAccepted {
				t.Fatalf("the session is told of %+v", got)
			}
			d.finish(s.ctx, s.v, agent.Ending{Reason: "transfer", Transfer: control.ConferenceOf(o.ID)})
			d.next("dial")
			m.refuse.Store(2)
			want := "bring back CA1"
			if who == "caller" {
				want = "hang up CA2"
				err = d.Status(t.Context(), "twilio", "CA1", "completed")
			} else {
				err = d.ColleagueGone(t.Context(), uuid.Nil, o.ID.String(), "completed")
			}
			if err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-m.done:
				if got != want {
					t.Errorf("the carrier did %s, want %s", got, want)
				}
			case <-time.After(30 * time.Second):
				t.Error("the one who is left waits in silence")
			}
		})
	}
}

// staged waits until a warm transfer has come so far.
func (d *desk) staged(id uuid.UUID, stage string) {
	d.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		if c, err := d.store.Command(d.ctx, id); err != nil || c.Stage == stage {
			return
		}
	}
	d.t.Fatalf("the transfer is never %s", stage)
}
