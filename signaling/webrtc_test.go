package signaling_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/media"
	"parley/signaling"
	"parley/signaling/signalingtest"
)

const rtcBearer = "bearer-of-the-test"

// rtcDesk serves every call by speaking a tone and listening.
type rtcDesk struct {
	silent bool // do not speak
	arrive error

	mu       sync.Mutex
	arrivals []signaling.Arrival
	statuses []signaling.CarrierStatus
	legs     []media.Leg
	heard    []int16
	events   []media.LegEvent
	served   int
	note     chan media.LegEvent
}

func newRTCDesk() *rtcDesk { return &rtcDesk{note: make(chan media.LegEvent, 4096)} }

func (d *rtcDesk) Arrive(_ context.Context, a signaling.Arrival) (signaling.Admitted, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.arrive != nil {
		return signaling.Admitted{}, d.arrive
	}
	d.arrivals = append(d.arrivals, a)
	return signaling.Admitted{CallID: "call-" + a.CarrierCallID, Agent: a.Agent}, nil
}

func (d *rtcDesk) Serve(_ context.Context, _ string, leg media.Leg) error {
	d.mu.Lock()
	d.legs = append(d.legs, leg)
	d.mu.Unlock()
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for e := range leg.Events() {
			d.mu.Lock()
			d.events = append(d.events, e)
			d.mu.Unlock()
			select {
			case d.note <- e:
			default:
			}
		}
	})
	leg.Notify([]byte(`{"type":"state","state":"listening"}`))
	var tone sine
	pcm, wire := make([]int16, 320), make([]byte, 640)
	for {
		f, err := leg.ReadFrame()
		if err != nil {
			break
		}
		d.mu.Lock()
		d.heard = append(d.heard, f.PCM...)
		d.mu.Unlock()
		if d.silent {
			continue
		}
		tone.fill(pcm, 440, 8000)
		for i, s := range pcm {
			binary.LittleEndian.PutUint16(wire[2*i:], uint16(s))
		}
		if err := leg.Write(wire); err != nil && !errors.Is(err, media.ErrClosed) {
			break
		}
	}
	err := leg.Close("test")
	tasks.Wait()
	d.mu.Lock()
	d.served++
	d.mu.Unlock()
	return err
}

func (d *rtcDesk) Next(context.Context, string, string) (signaling.Next, error) {
	return signaling.Next{}, signaling.ErrEnded
}

func (d *rtcDesk) TransferEnded(context.Context, string, string, string) (signaling.Next, error) {
	return signaling.Next{}, signaling.ErrEnded
}

func (d *rtcDesk) Status(_ context.Context, s signaling.CarrierStatus) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.statuses = append(d.statuses, s)
	return nil
}

func (d *rtcDesk) hearing() []int16 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]int16(nil), d.heard...)
}

// await returns the next event of a kind.
func (d *rtcDesk) await(t *testing.T, kind media.LegEventKind) media.LegEvent {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case e := <-d.note:
			if e.Kind == kind {
				return e
			}
		case <-limit:
			t.Fatalf("no event of kind %d", kind)
		}
	}
}

type sine struct{ phase float64 }

func (s *sine) fill(pcm []int16, hertz, amplitude float64) {
	for i := range pcm {
		pcm[i] = int16(amplitude * math.Sin(s.phase))
		s.phase += 2 * math.Pi * hertz / 16000
	}
}

// level returns the amplitude of a tone in pcm, and what share of the RMS the
// rest is: medians over 100 ms, so that a stall of a busy machine does not count.
func level(pcm []int16, hertz float64) (amplitude, rest float64) {
	var amps, rests []float64
	for ; len(pcm) >= 1600; pcm = pcm[1600:] {
		var re, im, all float64
		for i, s := range pcm[:1600] {
			w := 2 * math.Pi * hertz * float64(i) / 16000
			re += float64(s) * math.Cos(w)
			im += float64(s) * math.Sin(w)
			all += float64(s) * float64(s)
		}
		amp := 2 * math.Hypot(re, im) / 1600
		amps = append(amps, amp)
		rests = append(rests, math.Sqrt(max(0, all/1600-amp*amp/2))/math.Sqrt(all/1600+1e-9))
	}
	slices.Sort(amps)
	slices.Sort(rests)
	return amps[len(amps)/2], rests[len(rests)/2]
}

// rtcGateway mounts a gateway, and checks at the end that nothing of it is left.
func rtcGateway(t *testing.T, d signaling.Desk, change func(*signaling.WebRTCOptions)) (url string, w *signaling.WebRTC) {
	t.Helper()
	o := signaling.WebRTCOptions{
		Desk: d, Loopback: true,
		Authorize: func(r *http.Request, agent string) (string, error) {
			switch r.Header.Get("Authorization") {
			case "Bearer " + rtcBearer:
				return "jane", nil
			case "Bearer wrong":
				return "", signaling.ErrForbidden
			case "Bearer often":
				return "", signaling.ErrTooMany
			}
			return "", signaling.ErrUnauthorized
		},
	}
	if change != nil {
		change(&o)
	}
	before := runtime.NumGoroutine()
	w, err := signaling.ListenWebRTC(o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, r := range w.Routes() {
		mux.Handle(r.Pattern, r.Handler)
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
		settle(t, before)
	})
	return srv.URL, w
}

// settle waits until no more goroutines run than before.
func settle(t *testing.T, before int) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(until) {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			return
		}
		runtime.Gosched()
		<-time.After(5 * time.Millisecond)
	}
}

type recorder struct {
	mu  sync.Mutex
	pcm []int16
}

func (r *recorder) add(pcm []int16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pcm = append(r.pcm, pcm...)
}

// tail waits until n samples were heard, and returns the last half of them.
func tail(t *testing.T, n int, get func() []int16) []int16 {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		if pcm := get(); len(pcm) >= n {
			return pcm[len(pcm)-n/2:]
		}
		if time.Now().After(until) {
			t.Fatalf("%d samples heard, want %d", len(get()), n)
		}
	}
}

// awaitTone waits until the last second of what was heard, after the first from
// samples, is the tone that both sides send: 440 Hz at 8000. It may take a while
// where the machine is late, as what did not come in time is concealed.
func awaitTone(t *testing.T, who string, from int, get func() []int16) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		amp, rest := 0.0, 1.0
		if pcm := get(); len(pcm) >= from+16000 {
			amp, rest = level(pcm[len(pcm)-16000:], 440)
		}
		if amp >= 8000*0.8 && amp <= 8000*1.25 && rest <= 0.25 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s hears 440 Hz at %.0f, the rest %.2f of all, want 8000 and under 0.25", who, amp, rest)
		}
	}
}

func (r *recorder) get() []int16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int16(nil), r.pcm...)
}

func dialPeer(t *testing.T, o signalingtest.PeerOptions) *signalingtest.Peer {
	t.Helper()
	o.Loopback = true
	if o.Agent == "" {
		o.Agent = "demo"
	}
	if o.Bearer == "" {
		o.Bearer = rtcBearer
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	p, err := signalingtest.Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestWebRTCTone(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    signalingtest.PeerOptions
	}{
		{"opus", signalingtest.PeerOptions{}},
		{"PCMU", signalingtest.PeerOptions{Codec: "PCMU"}},
		{"PCMA", signalingtest.PeerOptions{Codec: "PCMA"}},
		{"trickle", signalingtest.PeerOptions{Trickle: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newRTCDesk()
			url, _ := rtcGateway(t, d, nil)
			var heard recorder
			var tone sine
			o := tc.o
			o.URL, o.Heard = url, heard.add
			o.Audio = func(pcm []int16) bool { tone.fill(pcm, 440, 8000); return true }
			p := dialPeer(t, o)
			awaitTone(t, "gateway", 16000, d.hearing)
			awaitTone(t, "peer", 16000, heard.get)
			if pos := d.await(t, media.Played).Position; pos < 0 {
				t.Errorf("played position %d", pos)
			}
			if err := p.Hangup(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := d.await(t, media.HungUp).Reason; got != "caller" {
				t.Errorf("reason %q, want caller", got)
			}
		})
	}
}

func TestWebRTCEvents(t *testing.T) {
	d := newRTCDesk()
	url, _ := rtcGateway(t, d, nil)
	p := dialPeer(t, signalingtest.PeerOptions{URL: url})
	if s := p.Session(); s.ID == "" || s.Secret == "" || s.Resume == "" || s.ResumeFor != 60 {
		t.Errorf("session %+v", s)
	}
	for _, bad := range []string{"{", `{"type":"text","text":"` + strings.Repeat("x", 2001) + `"}`, `{"type":"dtmf","digit":"x"}`, `{"type":"other"}`, strings.Repeat("y", 17000), `[]`, `{"type":"played","rtp":-1}`} {
		if err := p.SendRaw(bad); err != nil {
			t.Fatal(err)
		}
	}
	p.SendText("hello")
	p.SendDigit('5')
	if got := d.await(t, media.Typed).Text; got != "hello" {
		t.Errorf("typed %q", got)
	}
	if got := d.await(t, media.Digit).Digit; got != '5' {
		t.Errorf("digit %q", got)
	}
	types := map[string]bool{}
	for range 2 {
		var m struct{ Type string }
		json.Unmarshal(<-p.Events(), &m)
		types[m.Type] = true
	}
	if !types["session"] || !types["state"] {
		t.Errorf("messages %v, want session and state", types)
	}
	p.SendRaw(`{"type":"hangup"}`)
	if got := d.await(t, media.HungUp).Reason; got != "caller" {
		t.Errorf("reason %q, want caller", got)
	}
	<-p.Done()
}

// A party whose page does not report what it plays is known by its round trip.
func TestWebRTCDelay(t *testing.T) {
	d := newRTCDesk()
	url, _ := rtcGateway(t, d, nil)
	dialPeer(t, signalingtest.PeerOptions{URL: url, NoPlayed: true})
	if got := d.await(t, media.Delayed).Delay; got < 60*time.Millisecond || got > time.Second {
		t.Errorf("delay %v, want 60 ms and half a round trip", got)
	}
}
