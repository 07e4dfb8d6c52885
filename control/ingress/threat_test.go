package ingress_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"parley/control/ingress"
	"parley/control/ingress/ingresstest"
)

// One process's memory and all processes' raise the same.
func TestSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ingresstest.Signals(t, ingress.NewRecent(), time.Sleep, true)
	})
}

// A network that is kept out by a signal comes in again by itself.
func TestAutomaticBlockLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := &ingresstest.Deny{}
		b := &ingress.Blocks{List: list, Exempt: func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.2") }}
		var raised []ingress.Alert
		w := ingresstest.Watch(ingress.NewRecent(), &raised)
		w.Blocks, w.BlockFor = b, time.Minute
		stuff := func(from string) netip.Addr {
			a := netip.MustParseAddr(from)
			for i := range 10 {
				w.SignInFailed(t.Context(), from+string(rune('a'+i)), a)
			}
			return a
		}
		bad := stuff("192.0.2.7")
		if one, ok := b.Blocked(bad); !ok || one.Reason != "stuffing_from" || one.By != "" || len(raised) != 1 || raised[0].Blocked != time.Minute {
			t.Errorf("blocked %v: %+v, %+v", ok, one, raised)
		}
		if _, ok := b.Blocked(netip.MustParseAddr("192.0.2.8")); ok {
			t.Error("a neighbour is kept out too")
		}
		if six := stuff("2001:db8::7"); !held(b, six) || !held(b, netip.MustParseAddr("2001:db8::8")) || held(b, netip.MustParseAddr("2001:db8:0:1::7")) {
			t.Error("of IPv6, the /64 and no more is kept out")
		}
		for _, never := range []string{"10.0.0.2", "127.0.0.1"} {
			raised = nil
			if a := stuff(never); held(b, a) || len(raised) != 1 || raised[0].Blocked != 0 {
				t.Errorf("%s is kept out, or told to be: %+v", never, raised)
			}
		}
		time.Sleep(time.Minute - time.Millisecond)
		if !held(b, bad) {
			t.Error("it is let in before its time")
		}
		time.Sleep(time.Millisecond)
		if held(b, bad) || len(b.All()) != 0 {
			t.Errorf("it is kept out beyond its time: %v", b.All())
		}
		w.BlockFor, raised = 0, nil // tell alone
		if a := stuff("192.0.2.9"); held(b, a) || len(raised) != 1 {
			t.Errorf("told alone: blocked %v, %+v", held(b, a), raised)
		}
	})
}

func held(b *ingress.Blocks, a netip.Addr) bool { _, ok := b.Blocked(a); return ok }

func TestBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		list := &ingresstest.Deny{}
		here, there := &ingress.Blocks{List: list, Log: slog.New(slog.DiscardHandler)}, &ingress.Blocks{List: list, Log: slog.New(slog.DiscardHandler)}
		done := make(chan error)
		running, end := context.WithCancel(ctx)
		go func() { done <- there.Run(running) }()
		until := time.Now().Add(time.Hour)
		for _, bad := range []string{"127.0.0.1/32", "::1/128", "0.0.0.0/0", "::/0", "10.0.0.0/7"} {
			if err := here.Add(ctx, ingress.Block{Network: netip.MustParsePrefix(bad), Until: until}); !errors.Is(err, ingress.ErrExempt) {
				t.Errorf("%s: %v", bad, err)
			}
		}
		for _, bad := range []time.Time{{}, time.Now(), time.Now().Add(31 * 24 * time.Hour)} {
			if err := here.Add(ctx, ingress.Block{Network: netip.MustParsePrefix("192.0.2.1/32"), Until: bad}); !errors.Is(err, ingress.ErrBlockTime) {
				t.Errorf("until %v: %v", bad, err)
			}
		}
		wide, in := netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("198.51.100.77")
		if err := here.Add(ctx, ingress.Block{Network: wide, Until: until}); err != nil || !held(here, in) || held(here, netip.MustParseAddr("198.51.101.1")) || held(here, netip.Addr{}) {
			t.Errorf("a network: %v", err)
		}
		if !held(here, netip.MustParseAddr("::ffff:198.51.100.77")) {
			t.Error("four in six comes past its block")
		}
		time.Sleep(ingress.BlocksEvery + time.Millisecond)
		if !held(there, in) {
			t.Error("the other node does not know of it")
		}
		list.Away(true) // the last copy holds
		time.Sleep(2 * ingress.BlocksEvery)
		if !held(there, in) {
			t.Error("without the list everybody is let in")
		}
		if err := here.Add(ctx, ingress.Block{Network: netip.MustParsePrefix("192.0.2.1/32"), Until: until}); err == nil || !held(here, netip.MustParseAddr("192.0.2.1")) {
			t.Errorf("without the list: %v; it should hold here, and say so", err)
		}
		if _, err := here.Lift(ctx, wide); err == nil || !held(here, in) {
			t.Errorf("lifted here alone: %v", err)
		}
		list.Away(false)
		if was, err := here.Lift(ctx, wide); !was || err != nil || held(here, in) {
			t.Errorf("lift: %v, %v", was, err)
		}
		if was, err := here.Lift(ctx, wide); was || err != nil {
			t.Errorf("lift again: %v, %v", was, err)
		}
		time.Sleep(2*ingress.BlocksEvery + time.Millisecond)
		if held(there, in) {
			t.Error("the other node keeps it out still")
		}
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
