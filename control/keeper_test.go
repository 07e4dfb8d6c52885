package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/store/blob"
	"parley/store/postgres"
)

// An attic is a tenant whose time passes as the test says.
type attic struct {
	*desk
	keeper *control.Keeper
	blobs  *blob.Folder
	now    time.Time
	calls  int
}

func newAttic(t *testing.T) *attic {
	t.Helper()
	blobs, err := blob.Open(t.TempDir())
	must(t, err)
	t.Cleanup(func() { _ = blobs.Close() })
	a := &attic{desk: newDesk(t), blobs: blobs, now: time.Now().UTC()}
	a.keeper = a.process()
	return a
}

// process is another one's keeper.
func (a *attic) process() *control.Keeper {
	ring := keyring(a.t, "k")
	return &control.Keeper{Store: a.store, Tenants: a.store, Files: a.blobs, Ring: ring, Log: slog.New(slog.DiscardHandler), Batch: 2,
		Once: &control.Idempotency{Store: a.store, Ring: ring}, Now: func() time.Time { return a.now }}
}

// call is one from a number that was over days ago, with all that calls leave.
func (a *attic) call(from string, days int) control.Call {
	a.t.Helper()
	a.calls++
	at := a.now.AddDate(0, 0, -days)
	agents, err := a.store.Agents(a.ctx, control.Page{})
	must(a.t, err)
	c, err := a.store.InsertCall(a.ctx, control.Call{ID: control.NewID(), Agent: agents[0].ID, Carrier: "twilio", CarrierCallID: fmt.Sprint("CAattic", a.calls),
		Direction: "inbound", From: from, To: "+15550001111", Status: control.CallArrived, StartedAt: at.Add(-time.Minute)})
	must(a.t, err)
	must(a.t, a.store.WriteTurn(a.ctx, control.Hold{Call: c.ID}, agent.Turn{Speaker: "caller", Heard: "hello"}, time.Now()))
	must(a.t, a.store.WriteCommit(a.ctx, control.Hold{Call: c.ID}, control.Conversation{ID: c.ID, Call: c.ID},
		control.Revision{Entry: control.Entry{Revision: 1, Status: "completed", Hash: strings.Repeat("0", 44)}, State: []byte(`{}`)}))
	for _, key := range []string{control.BlobKey(c), control.MessageKey(c.Tenant, c.ID, uuid.New())} {
		w, err := a.blobs.Create(a.t.Context(), key)
		must(a.t, err)
		_, _ = io.WriteString(w, "RIFF")
		must(a.t, w.Close())
	}
	must(a.t, a.store.SetRecording(a.ctx, c.ID, control.Recording{Key: control.BlobKey(c), Bytes: 4}))
	_, err = a.store.EndCall(a.ctx, control.Hold{Call: c.ID}, "goodbye", at)
	must(a.t, err)
	return c
}

// left is what there is of a call: "call", "turns", "state", "events", and files.
func (a *attic) left(c control.Call) string {
	a.t.Helper()
	var list []string
	add := func(what string, is bool) {
		if is {
			list = append(list, what)
		}
	}
	_, err := a.store.Call(a.ctx, c.ID)
	add("call", err == nil)
	turns, err := a.store.Turns(a.ctx, c.ID, -1, 10)
	must(a.t, err)
	add("turns", len(turns) > 0)
	_, err = a.store.Conversation(a.ctx, c.ID)
	add("state", err == nil)
	events, err := a.store.SessionEvents(a.ctx, c.ID, 0, 10)
	must(a.t, err)
	add("events", len(events) > 0)
	must(a.t, a.blobs.Blobs(a.t.Context(), c.Tenant, func(b control.Blob) error {
		switch {
		case b.Object != c.ID:
		case b.Part:
			add("part", true)
		case strings.HasSuffix(b.Key, ".wav"):
			add("recording", true)
		default:
			add("message", true)
		}
		return nil
	}))
	slices.Sort(list)
	return strings.Join(list, " ")
}

func (a *attic) want(c control.Call, when, want string) {
	a.t.Helper()
	if got := a.left(c); got != want {
		a.t.Errorf("%s: %q is left, want %q", when, got, want)
	}
}

// on lets the pass of a day find what is due.
func (a *attic) on(at time.Time) {
	a.t.Helper()
	a.now = at
	must(a.t, a.keeper.Tenant(a.ctx))
}

// proofs lists finished ones, oldest first: class, reason, rows and files.
func (a *attic) proofs() []string {
	a.t.Helper()
	list, err := a.store.Deletions(a.ctx, uuid.Nil, control.Page{Limit: 200})
	must(a.t, err)
	var out []string
	for _, d := range list {
		if d.FinishedAt.IsZero() || len(d.Hash) != 32 {
			a.t.Errorf("deletion %s of %s is not finished, or has no hash", d.ID, d.Class)
		}
		out = append(out, fmt.Sprintf("%s %s %d %d %d", d.Class, d.Reason, len(d.Objects), d.Rows, d.Blobs))
	}
	slices.Reverse(out)
	return out
}

const (
	whole  = "call events message recording state turns"
	hidden = "events message recording turns" // by whoever does not ask for the call first
)

// A call that was deleted is out of sight at once, can be brought back for 30
// days, is all there on the 29th and gone on the 30th, with a proof.
func TestDeletedCallIsKeptThirtyDays(t *testing.T) {
	a := newAttic(t)
	c, other := a.call("+15552223333", 1), a.call("+15552224444", 1)
	must(t, a.store.DeleteCall(a.ctx, c.ID))
	began := time.Now().UTC()
	a.want(c, "deleted", hidden)
	if got, err := a.store.Calls(a.ctx, control.CallFilter{}); err != nil || len(got) != 1 || got[0].ID != other.ID {
		t.Errorf("calls listed: %v, %v", got, err)
	}
	if err := a.store.DeleteCall(a.ctx, c.ID); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	trash, err := a.store.Trash(a.ctx, control.Page{})
	if err != nil || len(trash) != 1 || trash[0].ID != c.ID || trash[0].Kind != "call" {
		t.Errorf("trash: %+v, %v", trash, err)
	}
	a.on(began.AddDate(0, 0, 29))
	must(t, a.store.RestoreCall(a.ctx, c.ID))
	a.want(c, "restored on day 29", whole)
	must(t, a.store.DeleteCall(a.ctx, c.ID))
	again := time.Now().UTC()
	a.on(again.AddDate(0, 0, 30).Add(-time.Minute))
	a.want(c, "a minute before day 30", hidden)
	a.on(again.AddDate(0, 0, 30).Add(time.Minute))
	a.want(c, "day 30", "")
	a.want(other, "day 30", whole)
	if err := a.store.RestoreCall(a.ctx, c.ID); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("restored when it was gone: %v", err)
	}
	// Turn, history, conversation, four events, stream, call; and two files.
	if got := fmt.Sprint(a.proofs()); !strings.HasPrefix(got, "[calls deleted 1 ") || !strings.HasSuffix(got, " 2]") {
		t.Errorf("proofs: %v", got)
	}
}

// Each class goes by its tenant's own period: a day before nothing is gone.
func TestPeriods(t *testing.T) {
	a := newAttic(t)
	b := a.call("+15552223333", 0)
	base := a.now
	_, err := a.store.PutRetention(a.ctx, control.Retention{Recordings: 5, Messages: 7, Transcripts: 10, Calls: 20, Restore: 30}, -1)
	must(t, err)
	for _, day := range []struct {
		n    int
		want string
	}{
		{4, whole}, {5, "call events message state turns"}, {6, "call events message state turns"}, {7, "call events state turns"},
		{9, "call events state turns"}, {10, "call events"}, {19, "call events"}, {20, ""},
	} {
		a.on(base.AddDate(0, 0, day.n).Add(time.Second))
		a.want(b, fmt.Sprint("day ", day.n), day.want)
		if c, err := a.store.Call(a.ctx, b.ID); err == nil && (c.Recording == "") != (day.n >= 5) {
			t.Errorf("day %d: the call says that it has the recording %q", day.n, c.Recording)
		}
	}
	got := a.proofs()
	for i, class := range []string{"recordings", "messages", "transcripts", "calls"} {
		if i >= len(got) || !strings.HasPrefix(got[i], class+" period 1 ") {
			t.Errorf("proof %d of %v is not of %s", i, got, class)
		}
	}
}

// What a legal hold keeps stays, whatever the time, a person or an erasure says,
// and goes once it is lifted.
func TestHoldWins(t *testing.T) {
	for _, kind := range []string{"call", "caller", "tenant"} {
		t.Run(kind, func(t *testing.T) {
			a := newAttic(t)
			c := a.call("+15552223333", 100)
			_, err := a.store.PutRetention(a.ctx, control.Retention{Recordings: 5, Transcripts: 5, Messages: 5, Calls: 10, Events: 7, Restore: 0}, -1)
			must(t, err)
			h := control.LegalHold{ID: control.NewID(), Reason: "case 7", PlacedBy: "system"}
			switch kind {
			case "call":
				h.Object = c.ID
			case "caller":
				h.Caller = c.From
			}
			h, err = a.store.PlaceHold(a.ctx, h)
			must(t, err)
			if err := a.store.DeleteCall(a.ctx, c.ID); !errors.Is(err, control.ErrHeld) {
				t.Errorf("a held call is deleted: %v", err)
			}
			if err := a.store.DeleteConversation(a.ctx, c.ID); !errors.Is(err, control.ErrHeld) {
				t.Errorf("a held session is deleted: %v", err)
			}
			if _, err := a.keeper.RequestErasure(a.ctx, c.From, ""); !errors.Is(err, control.ErrHeld) {
				t.Errorf("a held caller is erased: %v", err)
			}
			a.on(a.now.AddDate(1, 0, 0))
			a.want(c, "a year later", whole)
			_, err = a.store.LiftHold(a.ctx, h.ID, "system")
			must(t, err)
			if _, err := a.store.LiftHold(a.ctx, h.ID, "system"); !errors.Is(err, control.ErrEnded) {
				t.Errorf("lifted twice: %v", err)
			}
			a.on(a.now)
			a.want(c, "lifted", "")
		})
	}
}

// A hold that comes while an erasure is under way stops what it keeps of it, and
// the erasure says so.
func TestHoldDuringErasure(t *testing.T) {
	a := newAttic(t)
	kept, gone := a.call("+15552223333", 1), a.call("+15552223333", 1)
	e, err := a.keeper.RequestErasure(a.ctx, "+15552223333", "")
	must(t, err)
	h, err := a.store.PlaceHold(a.ctx, control.LegalHold{ID: control.NewID(), Object: kept.ID, Reason: "case 8", PlacedBy: "system"})
	must(t, err)
	must(t, a.keeper.EraseNow(t.Context()))
	a.want(kept, "held", whole)
	a.want(gone, "not held", "")
	if e, err = a.store.Erasure(a.ctx, e.ID); err != nil || e.Status != control.ErasureHeld || e.Held != 1 || e.Sessions != 1 {
		t.Errorf("erasure: %+v, %v", e, err)
	}
	_, err = a.store.LiftHold(a.ctx, h.ID, "system")
	must(t, err)
	must(t, a.keeper.EraseNow(t.Context()))
	a.want(kept, "lifted", "")
	if e, err = a.store.Erasure(a.ctx, e.ID); err != nil || e.Status != control.ErasureDone || e.Sessions != 2 || e.Caller != "" {
		t.Errorf("erasure: %+v, %v", e, err)
	}
}

// A call in progress is waited for, and what comes after the wish is not of it.
func TestErasureWaits(t *testing.T) {
	a := newAttic(t)
	c := a.arrive()
	a.now = time.Now().UTC()
	e, err := a.keeper.RequestErasure(a.ctx, c.From, "")
	must(t, err)
	if again, err := a.keeper.RequestErasure(a.ctx, c.From, ""); err != nil || again.ID != e.ID {
		t.Errorf("asked twice: %v, %v", again.ID, err)
	}
	a.now = a.now.Add(time.Hour)
	later := a.call(c.From, 0)
	must(t, a.keeper.EraseNow(t.Context()))
	if e, err = a.store.Erasure(a.ctx, e.ID); err != nil || e.Status != control.ErasureWaiting || e.Waiting != 1 {
		t.Errorf("while the call goes on: %+v, %v", e, err)
	}
	_, err = a.store.EndCall(a.ctx, control.Hold{Call: c.ID}, "goodbye", time.Now())
	must(t, err)
	must(t, a.keeper.EraseNow(t.Context()))
	a.want(c, "when it was over", "")
	a.want(later, "after the wish", whole)
}

// flawed breaks off where a test says.
type flawed struct {
	*postgres.Store
	control.BlobSweep
	left int // steps until it does
}

var errCrash = errors.New("the process died")

func (f *flawed) step() error {
	if f.left--; f.left == 0 {
		return errCrash
	}
	return nil
}

func (f *flawed) NoteBlobs(ctx context.Context, d control.Deletion) error {
	if err := f.step(); err != nil {
		return err
	}
	return errors.Join(f.Store.NoteBlobs(ctx, d), f.step())
}

func (f *flawed) Remove(ctx context.Context, b control.Blob) error {
	if err := f.step(); err != nil {
		return err
	}
	return errors.Join(f.BlobSweep.Remove(ctx, b), f.step())
}

func (f *flawed) FinishDeletion(ctx context.Context, d control.Deletion, at time.Time, mac func(string) []byte) (control.Deletion, error) {
	if err := f.step(); err != nil {
		return d, err
	}
	d, err := f.Store.FinishDeletion(ctx, d, at, mac)
	return d, errors.Join(err, f.step())
}

// A process may die between any two steps: the next one ends what was begun, and
// the proof says the same as if nothing had happened.
func TestKeeperDies(t *testing.T) {
	a := newAttic(t)
	proof := func() string {
		t.Helper()
		list := a.proofs()
		return list[len(list)-1]
	}
	must(t, a.store.DeleteCall(a.ctx, a.call("+15552223333", 1).ID))
	a.on(time.Now().AddDate(0, 0, 31))
	want := proof()
	died := 0
	for n := 1; n < 20; n++ {
		a.now = time.Now()
		c := a.call("+15552223333", 1)
		must(t, a.store.DeleteCall(a.ctx, c.ID))
		a.now = time.Now().AddDate(0, 0, 31)
		f := &flawed{a.store, a.blobs, n}
		k := a.process()
		k.Store, k.Files = f, f
		err := k.Tenant(a.ctx)
		if err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		if err != nil {
			died++
			if err := a.store.RestoreCall(a.ctx, c.ID); !errors.Is(err, control.ErrNotFound) {
				t.Errorf("step %d: restored when it was half gone: %v", n, err)
			}
		}
		must(t, a.keeper.Tenant(a.ctx))
		a.want(c, fmt.Sprint("after it died at step ", n), "")
		if got := proof(); got != want {
			t.Errorf("step %d: the proof says %q, without a death %q", n, got, want)
		}
	}
	if died != 8 {
		t.Errorf("it died at %d steps, want at each of 8", died)
	}
}

// Half a recording of a call that does not come back goes a day after the call;
// that of a call which may, and files of no call, stay.
func TestPartsOfCallsThatNeverReturn(t *testing.T) {
	a := newAttic(t)
	over, open := a.call("+15552223333", 0), a.arrive()
	stray := control.Call{ID: uuid.New(), Tenant: over.Tenant}
	for _, c := range []control.Call{over, open} {
		w, err := a.blobs.Create(t.Context(), control.BlobKey(c))
		must(t, err)
		_, _ = io.WriteString(w, "RIFF") // and is never closed
		t.Cleanup(func() { _ = w.Close() })
	}
	w, err := a.blobs.Create(t.Context(), control.BlobKey(stray))
	must(t, err)
	must(t, w.Close())
	noted := map[string]int{}
	a.keeper.Noted = func(class string, _ int64, files int) { noted[class] += files }
	a.on(a.now)
	if got := a.left(over); !strings.Contains(got, "part") {
		t.Errorf("at once: %q is left", got)
	}
	a.on(a.now.AddDate(0, 0, 2))
	a.want(over, "two days later", whole)
	if got := a.left(open); !strings.Contains(got, "part") {
		t.Errorf("of a call that goes on: %q is left", got)
	}
	a.want(stray, "of no call", "recording")
	if noted["parts"] != 1 || noted["orphans"] != 1 {
		t.Errorf("noted: %v", noted)
	}
}

// Two processes at once delete each thing once.
func TestKeepersTogether(t *testing.T) {
	a := newAttic(t)
	for range 9 {
		must(t, a.store.DeleteCall(a.ctx, a.call("+15552223333", 1).ID))
	}
	a.now = time.Now().AddDate(0, 0, 31)
	done := make(chan error, 3)
	for range 3 {
		k := a.process()
		go func() { done <- k.Tenant(a.ctx) }()
	}
	for range 3 {
		must(t, <-done)
	}
	must(t, a.keeper.Tenant(a.ctx))
	list, err := a.store.Deletions(a.ctx, uuid.Nil, control.Page{Limit: 200})
	must(t, err)
	seen, files := map[uuid.UUID]bool{}, 0
	for _, d := range list {
		files += d.Blobs
		for _, id := range d.Objects {
			if seen[id] {
				t.Errorf("call %s was deleted twice", id)
			}
			seen[id] = true
		}
	}
	if len(seen) != 9 || files != 18 {
		t.Errorf("%d calls with %d files were deleted, want 9 with 18", len(seen), files)
	}
}

// Events go by their own age, once they are published; the trail of what was
// done stays, and holds.
func TestEventsAge(t *testing.T) {
	a := newAttic(t)
	c := a.call("+15552223333", 0)
	_, err := a.store.PublishEvents(a.ctx, 100)
	must(t, err)
	late := a.call("+15552224444", 0) // whose events nobody has published
	_, err = a.store.PutRetention(a.ctx, control.Retention{Events: 7, Restore: 30}, -1)
	must(t, err)
	a.on(time.Now().AddDate(0, 0, 7).Add(-time.Minute))
	a.want(c, "before day 7", whole)
	a.on(time.Now().AddDate(0, 0, 7).Add(time.Minute))
	a.want(c, "day 7", "call message recording state turns")
	a.want(late, "day 7", whole)
	trail, err := a.store.AuditTrail(a.ctx, control.AuditFilter{Limit: 200})
	if err != nil || len(trail) == 0 || trail[len(trail)-1].Seq != 1 {
		t.Errorf("the audit trail does not begin with its first entry: %v, %v", trail, err)
	}
}
