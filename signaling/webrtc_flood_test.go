package signaling_test

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"parley/media"
	"parley/signaling"
	"parley/signaling/signalingtest"
)

// A page that floods its data channel is warned, and its session ends.
func TestWebRTCFlood(t *testing.T) {
	d := newRTCDesk()
	what, who := make(chan string, 8), make(chan string, 8)
	url, _ := rtcGateway(t, d, func(o *signaling.WebRTCOptions) {
		o.Metrics.Flooded = func(w string) { what <- w }
		o.Flooded = func(w string) { who <- w }
	})
	p := dialPeer(t, signalingtest.PeerOptions{URL: url})
	for range 2000 {
		if p.SendRaw(`{"type":"other"}`) != nil {
			break // it is closed: that is the test
		}
	}
	if got := d.await(t, media.HungUp).Reason; got != "too many messages" {
		t.Errorf("reason %q, want too many messages", got)
	}
	if first, second := <-what, <-what; first != "warned" || second != "closed" {
		t.Errorf("counted %s, %s; want warned, closed", first, second)
	}
	if got := <-who; got != "jane" || len(who) > 0 {
		t.Errorf("%q is told to have flooded, and %d more; want jane alone", got, len(who))
	}
	late := time.After(10 * time.Second)
	for {
		select {
		case e := <-p.Events():
			var m struct{ Type, Reason string }
			if json.Unmarshal(e, &m) == nil && m.Type == "warning" {
				if m.Reason != "too many messages" {
					t.Errorf("warned of %q", m.Reason)
				}
				return
			}
		case <-late:
			t.Fatal("no warning came")
		}
	}
}

// Whoever comes back to a call is who began it: a resume token is no way to flood
// without being known.
func TestWebRTCFloodAfterResume(t *testing.T) {
	d := newRTCDesk()
	who := make(chan string, 8)
	url, _ := rtcGateway(t, d, func(o *signaling.WebRTCOptions) { o.Flooded = func(w string) { who <- w } })
	p := dialPeer(t, signalingtest.PeerOptions{URL: url})
	for range 2 { // come back twice: it is carried on
		p = dialPeer(t, signalingtest.PeerOptions{URL: url, Bearer: "wrong", Resume: p.Session().Resume})
		d.await(t, media.HungUp) // of the session before
	}
	for range 2000 {
		if p.SendRaw(`{"type":"other"}`) != nil {
			break // it is closed: that is the test
		}
	}
	if got := d.await(t, media.HungUp).Reason; got != "too many messages" {
		t.Errorf("reason %q, want too many messages", got)
	}
	select {
	case got := <-who:
		if got != "jane" {
			t.Errorf("%q is told to have flooded, want jane", got)
		}
	case <-time.After(30 * time.Second):
		t.Error("nobody is told to have flooded")
	}
}

// A line that stalls for 3 s, all of it coming at once, is no flood.
func TestWebRTCStallIsNoFlood(t *testing.T) {
	d := newRTCDesk()
	var flooded, dropped atomic.Int32
	url, _ := rtcGateway(t, d, func(o *signaling.WebRTCOptions) {
		o.Metrics.Flooded = func(string) { flooded.Add(1) }
		o.Metrics.Dropped = func(what string) {
			if what == "flood" {
				dropped.Add(1)
			}
		}
	})
	var tone sine
	p := dialPeer(t, signalingtest.PeerOptions{URL: url, Faulty: true, Audio: func(pcm []int16) bool {
		tone.fill(pcm, 440, 8000)
		return true
	}})
	tail(t, 8000, d.hearing)
	p.Stall(3 * time.Second)
	tail(t, len(d.hearing())+4*16000, d.hearing)
	if err := p.SendDigit('7'); err != nil {
		t.Fatal(err)
	}
	if got := d.await(t, media.Digit).Digit; got != '7' {
		t.Errorf("digit %q", got)
	}
	if flooded.Load()+dropped.Load() != 0 {
		t.Errorf("%d floods, %d packets dropped; want none", flooded.Load(), dropped.Load())
	}
}
