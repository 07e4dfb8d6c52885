package control_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"parley/agent"
	"parley/control"
)

// A recording that is deleted alone is out of sight at once, comes back for 30
// days, and is gone on the 30th; its call stays.
func TestDeletedRecordingIsKeptThirtyDays(t *testing.T) {
	a := newAttic(t)
	c, other := a.call("+15552223333", 1), a.call("+15552224444", 1)
	listed := func() int {
		t.Helper()
		list, err := a.store.Recordings(a.ctx, control.RecordingFilter{})
		must(t, err)
		return len(list)
	}
	seen := func() bool {
		t.Helper()
		got, err := a.store.Call(a.ctx, c.ID)
		must(t, err)
		return got.Recording != ""
	}
	if listed() != 2 || !seen() {
		t.Fatalf("%d recordings at first", listed())
	}
	must(t, a.store.DeleteRecording(a.ctx, c.ID))
	if listed() != 1 || seen() {
		t.Errorf("%d recordings are listed, and it is shown: %v", listed(), seen())
	}
	if trash, err := a.store.Trash(a.ctx, control.Page{}); err != nil || len(trash) != 1 || trash[0].ID != c.ID || trash[0].Kind != "recording" {
		t.Errorf("trash: %+v, %v", trash, err)
	}
	if err := a.store.DeleteRecording(a.ctx, c.ID); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("deleted again: %v, want ErrNotFound", err)
	}
	must(t, a.store.RestoreRecording(a.ctx, c.ID))
	if listed() != 2 || !seen() {
		t.Errorf("brought back, %d recordings are listed", listed())
	}
	must(t, a.store.DeleteRecording(a.ctx, c.ID))
	began := time.Now().UTC()
	a.on(began.Add(29 * 24 * time.Hour))
	a.want(c, "on the 29th day", whole)
	a.on(began.Add(30*24*time.Hour + time.Second))
	a.want(c, "on the 30th day", "call events message state turns")
	a.want(other, "on the 30th day", whole)
	if err := a.store.RestoreRecording(a.ctx, c.ID); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("restored when it is gone: %v, want ErrNotFound", err)
	}
	if got := a.proofs(); len(got) != 1 || got[0] != "recordings deleted 1 0 1" {
		t.Errorf("proofs %q", got)
	}
	trail, err := a.store.AuditTrail(a.ctx, control.AuditFilter{Limit: 50, Object: "call:" + c.ID.String()})
	must(t, err)
	var actions []string
	for _, e := range trail {
		actions = append(actions, e.Action)
	}
	slices.Sort(actions)
	if want := []string{"recording.delete", "recording.delete", "recording.restore"}; !slices.Equal(actions, want) {
		t.Errorf("the trail has %q, want %q", actions, want)
	}
}

// What keeps a recording from being deleted.
func TestRecordingIsNotDeleted(t *testing.T) {
	a := newAttic(t)
	c := a.call("+15552223333", 1)
	hold, err := a.store.PlaceHold(a.ctx, control.LegalHold{ID: control.NewID(), Caller: "+15552223333", Reason: "case 7", PlacedBy: "key:k", PlacedAt: time.Now()})
	must(t, err)
	if err := a.store.DeleteRecording(a.ctx, c.ID); !errors.Is(err, control.ErrHeld) {
		t.Errorf("under a hold: %v, want ErrHeld", err)
	}
	_, err = a.store.LiftHold(a.ctx, hold.ID, "key:k")
	must(t, err)
	must(t, a.store.DeleteRecording(a.ctx, c.ID))

	d := a.desk
	live := d.arrive()
	ctx, v := d.begin(live)
	must(t, a.store.SetRecording(a.ctx, live.ID, control.Recording{Key: control.BlobKey(live), Bytes: 1}))
	if err := a.store.DeleteRecording(a.ctx, live.ID); !errors.Is(err, control.ErrConflict) {
		t.Errorf("of a call in progress: %v, want ErrConflict", err)
	}
	d.finish(ctx, v, agent.Ending{Reason: "goodbye"})
}

// What a recording takes is in the ledger once, and grows with it.
func TestRecordingIsInTheLedger(t *testing.T) {
	a := newAttic(t)
	c := a.call("+15552223333", 1)
	for _, n := range []int64{1000, 1000, 2500} {
		must(t, a.store.SetRecording(a.ctx, c.ID, control.Recording{Key: control.BlobKey(c), Bytes: n, Length: 3 * time.Second, Consent: control.ConsentAnnounced}))
	}
	entries, err := a.store.CallUsage(a.ctx, c.ID)
	must(t, err)
	var bytes []int64
	for _, e := range entries {
		if e.Kind == control.UseRecorded {
			bytes = append(bytes, e.Amount)
		}
	}
	if !slices.Equal(bytes, []int64{2500}) {
		t.Errorf("the ledger has %v, want 2500 once", bytes)
	}
	list, err := a.store.Recordings(a.ctx, control.RecordingFilter{Call: c.ID})
	must(t, err)
	if len(list) != 1 || list[0].Recording.Bytes != 2500 || list[0].Recording.Length != 3*time.Second || list[0].Recording.Consent != control.ConsentAnnounced {
		t.Errorf("%+v", list)
	}
}
