package ingresstest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"parley/control/ingress"
)

// Deny is a shared list in memory. Its zero value is empty.
type Deny struct {
	mu   sync.Mutex
	list map[netip.Prefix]ingress.Block
	away bool
}

var errAway = errors.New("ingresstest: the list is away")

// Away makes it answer nothing but errors, or no longer.
func (d *Deny) Away(away bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = away
}

// PutBlock implements [ingress.Deny].
func (d *Deny) PutBlock(_ context.Context, b ingress.Block) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return errAway
	}
	if d.list == nil {
		d.list = map[netip.Prefix]ingress.Block{}
	}
	d.list[b.Network] = b
	return nil
}

// LiftBlock implements [ingress.Deny].
func (d *Deny) LiftBlock(_ context.Context, network netip.Prefix) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.list[network]
	if d.away {
		return false, errAway
	}
	delete(d.list, network)
	return ok, nil
}

// Blocks implements [ingress.Deny].
func (d *Deny) Blocks(context.Context) (list []ingress.Block, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, errAway
	}
	for _, b := range d.list {
		list = append(list, b)
	}
	return list, nil
}

// Watch returns one that appends what it raises to alerts.
func Watch(seen ingress.Sightings, alerts *[]ingress.Alert) *ingress.Watch {
	return &ingress.Watch{Seen: seen, Key: []byte("0123456789abcdef"), Raise: func(_ context.Context, a ingress.Alert) { *alerts = append(*alerts, a) }}
}

// Signals holds a memory of sightings, which has seen nothing yet, to what each
// signal is raised by: its pattern once, and nothing milder. Alone says whether
// it is one process's own, which tells nothing of keys that moved.
func Signals(t *testing.T, seen ingress.Sightings, advance Clock, alone bool) {
	t.Helper()
	var alerts []ingress.Alert
	w, ctx := Watch(seen, &alerts), t.Context()
	expect := func(what string, want ...ingress.Signal) {
		t.Helper()
		var got []ingress.Signal
		for _, a := range alerts {
			got = append(got, a.Signal)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		alerts = nil
	}
	from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, byte(18 + i/250), byte(i % 250), 1}) }
	fails := func(account string, a netip.Addr) { w.SignInFailed(ctx, account, a) }

	for range 50 {
		fails("mistypes", from(0))
	}
	for i := range 9 {
		fails(fmt.Sprint("family", i), from(1))
	}
	expect("one account often, nine accounts once")
	advance(10*time.Minute + time.Second)
	for i := range 9 {
		fails(fmt.Sprint("later", i), from(1))
	}
	expect("nine more after the window")
	fails("later9", from(1))
	expect("ten accounts from one network", ingress.StuffingFrom)
	for i := range 20 {
		fails(fmt.Sprint("more", i), from(1))
	}
	expect("still more in the same window")

	for i := range 9 {
		fails("travels", from(10+i))
	}
	expect("one account from nine networks")
	fails("travels", from(10)) // again
	expect("and from one of them again")
	fails("travels", from(30))
	expect("one account from ten networks", ingress.StuffingOf)

	const tenant = "0198c0de-0000-7000-8000-000000000000"
	for _, a := range []string{"203.0.113.1", "203.0.113.77", "203.0.113.1"} { // one neighbourhood
		w.KeyUsed(ctx, tenant, "k", netip.MustParseAddr(a))
	}
	w.KeyUsed(ctx, tenant, "other", netip.MustParseAddr("192.0.2.1"))
	expect("keys where they live")
	w.KeyUsed(ctx, tenant, "k", netip.MustParseAddr("192.0.2.1"))
	if alone {
		expect("a key elsewhere, where only this process knows")
	} else {
		if len(alerts) == 1 && (alerts[0].Tenant != tenant || alerts[0].Object != "key:k" || alerts[0].Count != 2) {
			t.Errorf("alert %+v", alerts[0])
		}
		expect("a key elsewhere", ingress.KeyMoved)
		w.KeyUsed(ctx, tenant, "k", netip.MustParseAddr("192.0.2.9"))
		expect("and there again")
		w.KeyUsed(ctx, tenant, "k", netip.MustParseAddr("2001:db8::1"))
		expect("and elsewhere again", ingress.KeyMoved)
	}

	for range 200 {
		w.Missed(ctx, tenant, "key:k", "/v1/calls/old", from(1))
	}
	for i := range 48 {
		w.Missed(ctx, tenant, "key:k", fmt.Sprint("/v1/calls/", i), from(1))
	}
	expect("an old link often, and 48 others")
	advance(time.Minute + time.Second)
	for i := range 49 {
		w.Missed(ctx, tenant, "key:k", fmt.Sprint("/v1/calls/", i), from(1))
	}
	expect("49 more a minute later")
	w.Missed(ctx, tenant, "key:k", "/v1/calls/49", from(1))
	expect("50 in a minute", ingress.Enumeration)

	w.SignInFailed(ctx, "nobody", netip.Addr{})
	(*ingress.Watch)(nil).SignInFailed(ctx, "nobody", from(1))
	(*ingress.Watch)(nil).KeyUsed(ctx, tenant, "k", from(1))
	(*ingress.Watch)(nil).Missed(ctx, tenant, "k", "x", from(1))
	expect("nobody watching, nobody there")
}
