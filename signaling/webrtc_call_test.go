package signaling_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/media"
	"parley/signaling"
	"parley/signaling/signalingtest"
)

func TestWebRTCRestart(t *testing.T) {
	d := newRTCDesk()
	url, _ := rtcGateway(t, d, nil)
	var heard recorder
	var tone sine
	p := dialPeer(t, signalingtest.PeerOptions{URL: url, Heard: heard.add, Audio: func(pcm []int16) bool {
		tone.fill(pcm, 440, 8000)
		return true
	}})
	tail(t, 8000, heard.get)
	before := p.ETag()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.ETag() == before {
		t.Errorf("ETag is still %s", before)
	}
	awaitTone(t, "gateway", len(d.hearing()), d.hearing)
	awaitTone(t, "peer", len(heard.get()), heard.get)
	res, _, err := p.Patch(t.Context(), before, "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("an old ETag: %d, want 412", res.StatusCode)
	}
}

func TestWebRTCPatchRules(t *testing.T) {
	url, _ := rtcGateway(t, newRTCDesk(), nil)
	p := dialPeer(t, signalingtest.PeerOptions{URL: url})
	const one = "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"
	for _, tc := range []struct {
		name, match, body string
		want              int
	}{
		{"candidate", p.ETag(), one, http.StatusNoContent},
		{"end", p.ETag(), "a=end-of-candidates\r\n", http.StatusNoContent},
		{"unknown-family", p.ETag(), "a=candidate:1 1 udp 1 a.local 9 typ host\r\n", http.StatusNoContent},
		{"no-match", "", one, http.StatusPreconditionRequired},
		{"other-match", `"x"`, one, http.StatusPreconditionFailed},
		{"garbage", p.ETag(), "hello", http.StatusBadRequest},
		{"empty", p.ETag(), "", http.StatusBadRequest},
		{"many", p.ETag(), strings.Repeat(one, 65), http.StatusUnprocessableEntity},
		{"many-in-all", p.ETag(), strings.Repeat(one, 64), http.StatusUnprocessableEntity},
		{"restart-by-etag", p.ETag(), "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n", http.StatusUnprocessableEntity},
		{"restart-without-words", "*", one, http.StatusUnprocessableEntity},
		{"bad-words", "*", "a=ice-ufrag:a\r\na=ice-pwd:b\r\n", http.StatusBadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, body, err := p.Patch(t.Context(), tc.match, tc.body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != tc.want {
				t.Errorf("status %d (%s), want %d", res.StatusCode, body, tc.want)
			}
		})
	}
}

func TestWebRTCCredentials(t *testing.T) {
	d := newRTCDesk()
	url, _ := rtcGateway(t, d, nil)
	p := dialPeer(t, signalingtest.PeerOptions{URL: url})
	del := func(token, to string) int {
		req, _ := http.NewRequest(http.MethodDelete, to, nil)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := del("", p.Location()); got != http.StatusUnauthorized {
		t.Errorf("no token: %d, want 401", got)
	}
	if got := del("other", p.Location()); got != http.StatusNotFound {
		t.Errorf("another token: %d, want 404", got)
	}
	if got := del(rtcBearer, p.Location()+"x"); got != http.StatusNotFound {
		t.Errorf("another session: %d, want 404", got)
	}
	if got := del(p.Session().Secret, p.Location()); got != http.StatusOK {
		t.Errorf("the secret: %d, want 200", got)
	}
	if got := d.await(t, media.HungUp).Reason; got != "caller" {
		t.Errorf("reason %q", got)
	}
}

func TestWebRTCResume(t *testing.T) {
	d := newRTCDesk()
	url, _ := rtcGateway(t, d, nil)
	first := dialPeer(t, signalingtest.PeerOptions{URL: url})
	call := "call-" + first.Session().ID
	token := first.Session().Resume
	second := dialPeer(t, signalingtest.PeerOptions{URL: url, Bearer: "wrong", Resume: token})
	if got := d.await(t, media.HungUp).Reason; got != "network" {
		t.Errorf("the first session ended by %q, want network", got)
	}
	d.mu.Lock()
	got := d.arrivals[len(d.arrivals)-1].Resume
	d.mu.Unlock()
	if got != call {
		t.Errorf("resumes %q, want %q", got, call)
	}
	for name, o := range map[string]signalingtest.PeerOptions{
		"used":        {URL: url, Agent: "demo", Bearer: rtcBearer, Resume: token},
		"wrong-agent": {URL: url, Agent: "other", Bearer: rtcBearer, Resume: second.Session().Resume},
	} {
		if p, err := signalingtest.Dial(t.Context(), o); err == nil {
			t.Errorf("%s: taken", name)
			p.Close()
		}
	}
}

func TestWebRTCVanishedPeer(t *testing.T) {
	d := newRTCDesk()
	url, _ := rtcGateway(t, d, func(o *signaling.WebRTCOptions) {
		o.Disconnected, o.Failed = 300*time.Millisecond, 500*time.Millisecond
	})
	p := dialPeer(t, signalingtest.PeerOptions{URL: url})
	if err := p.Vanish(); err != nil {
		t.Fatal(err)
	}
	d.await(t, media.Away)
	if got := d.await(t, media.HungUp).Reason; got != "network" {
		t.Errorf("reason %q, want network", got)
	}
}

func TestWebRTCNeverConnected(t *testing.T) {
	d := newRTCDesk()
	ended := make(chan string, 1)
	url, _ := rtcGateway(t, d, func(o *signaling.WebRTCOptions) {
		o.ConnectWait = 50 * time.Millisecond
		o.Metrics.Ended = func(reason string) { ended <- reason }
	})
	res := postOffer(t, url, goodOffer, nil)
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("status %d", res.StatusCode)
	}
	if got := <-ended; got != "never-connected" {
		t.Errorf("ended by %q", got)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.statuses) != 1 || d.statuses[0].Status != "failed" || d.statuses[0].CarrierCallID != d.arrivals[0].CarrierCallID {
		t.Errorf("statuses %+v of %+v", d.statuses, d.arrivals)
	}
}

func TestWebRTCManyDropped(t *testing.T) {
	d := newRTCDesk()
	d.silent = true
	url, w := rtcGateway(t, d, func(o *signaling.WebRTCOptions) {
		o.ConnectWait = time.Second
		o.Disconnected, o.Failed = 200*time.Millisecond, 300*time.Millisecond
	})
	rng := rand.New(rand.NewPCG(7, 7))
	var wave sync.WaitGroup
	gate := make(chan struct{}, 8)
	for i := range 50 {
		wait, how := time.Duration(rng.IntN(120))*time.Millisecond, i%4
		gate <- struct{}{}
		wave.Go(func() {
			defer func() { <-gate }()
			ctx, cancel := context.WithTimeout(t.Context(), wait+time.Duration(how/3)*5*time.Second)
			defer cancel()
			p, err := signalingtest.Dial(ctx, signalingtest.PeerOptions{URL: url, Agent: "demo", Bearer: rtcBearer, Loopback: true})
			if err != nil {
				return // given up on the way: that is the test
			}
			switch how {
			case 1:
				_ = p.Hangup(t.Context())
			case 2:
				_ = p.Vanish()
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wave.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestWebRTCShutdownRefuses(t *testing.T) {
	url, w := rtcGateway(t, newRTCDesk(), nil)
	p := dialPeer(t, signalingtest.PeerOptions{URL: url})
	if err := w.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if res := postOffer(t, url, goodOffer, nil); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
}

func TestWebRTCLinks(t *testing.T) {
	url, _ := rtcGateway(t, newRTCDesk(), func(o *signaling.WebRTCOptions) {
		o.ICEURLs = []string{"stun:stun.example:3478", "turn:turn.example:3478?transport=udp"}
		o.TURNSecret = func(context.Context) (string, error) { return "s3", nil }
		o.PublicAddr = "203.0.113.7"
	})
	res := postOffer(t, url, goodOffer, nil)
	links := res.Header.Values("Link")
	if len(links) != 2 || !slices.Contains(links, `<stun:stun.example:3478>; rel="ice-server"`) || !strings.Contains(links[1], "credential-type=\"password\"") {
		t.Errorf("links %q", links)
	}
	if !strings.Contains(res.body, "a=ice-lite") || !strings.Contains(res.body, "203.0.113.7") {
		t.Errorf("answer is not ICE-lite on the public address:\n%s", res.body)
	}
}
