package redis

import (
	"net/netip"
	"testing"
	"time"

	"parley/control/ingress"
	"parley/control/ingress/ingresstest"
)

func TestSignals(t *testing.T) {
	c, m := open(t)
	ingresstest.Signals(t, c, m.FastForward, false)
}

// Without Redis each process still counts by itself.
func TestSignalsAlone(t *testing.T) {
	c, m := open(t)
	m.Close()
	var raised []ingress.Alert
	w := ingresstest.Watch(c, &raised)
	for i := range 10 {
		w.SignInFailed(t.Context(), string(rune('a'+i)), netip.MustParseAddr("192.0.2.1"))
	}
	w.KeyUsed(t.Context(), "", "k", netip.MustParseAddr("192.0.2.1"))
	w.KeyUsed(t.Context(), "", "k", netip.MustParseAddr("198.51.100.1"))
	if len(raised) != 1 || raised[0].Signal != ingress.StuffingFrom {
		t.Errorf("raised %+v", raised)
	}
}

// All nodes share the list; what has lapsed, or is not ours, is taken out of it.
func TestBlockList(t *testing.T) {
	here, m := open(t)
	there, err := openPatient("redis://"+m.Addr(), unhurried)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	ctx, until := t.Context(), time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	want := ingress.Block{Network: netip.MustParsePrefix("2001:db8::/64"), Until: until, Reason: "enumeration", By: "user:1"}
	if err := here.PutBlock(ctx, want); err != nil {
		t.Fatal(err)
	}
	if err := here.PutBlock(ctx, ingress.Block{Network: netip.MustParsePrefix("192.0.2.1/32"), Until: time.Now().Add(-time.Second)}); err != nil {
		t.Fatal(err)
	}
	m.HSet(blocksKey, "nonsense", "{}")
	m.HSet(blocksKey, "192.0.2.2/32", "nonsense")
	got, err := there.Blocks(ctx)
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if kept, err := m.HKeys(blocksKey); err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
	if was, err := there.LiftBlock(ctx, want.Network); !was || err != nil {
		t.Errorf("lift: %v, %v", was, err)
	}
	if was, err := here.LiftBlock(ctx, want.Network); was || err != nil {
		t.Errorf("lift again: %v, %v", was, err)
	}
	m.Close()
	if _, err := here.Blocks(ctx); err == nil {
		t.Error("a list that cannot be read is empty")
	}
	if err := here.PutBlock(ctx, want); err == nil {
		t.Error("a list that cannot be written was")
	}
}
