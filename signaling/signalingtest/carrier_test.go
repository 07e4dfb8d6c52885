package signalingtest_test

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
	"parley/signaling"
	"parley/signaling/signalingtest"
)

const authToken = "tok-test-1"

// desk is a Desk of one conversation at a time, which the test plays.
type desk struct {
	mu       sync.Mutex
	arrivals []signaling.Arrival
	statuses []signaling.CarrierStatus
	outcomes []string
	served   int

	arrive func(signaling.Arrival) (signaling.Admitted, error)
	serve  func(ctx context.Context, leg media.Leg) error
	next   []signaling.Next
}

func (d *desk) Arrive(_ context.Context, a signaling.Arrival) (signaling.Admitted, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrivals = append(d.arrivals, a)
	if d.arrive != nil {
		return d.arrive(a)
	}
	return signaling.Admitted{CallID: "call-" + a.CarrierCallID, Agent: "demo"}, nil
}

func (d *desk) Serve(ctx context.Context, _ string, leg media.Leg) error {
	d.mu.Lock()
	d.served++
	d.mu.Unlock()
	return d.serve(ctx, leg)
}

func (d *desk) Next(context.Context, string, string) (signaling.Next, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.next) == 0 {
		return signaling.Next{Do: "hangup"}, nil
	}
	n := d.next[0]
	d.next = d.next[1:]
	return n, nil
}

func (d *desk) TransferEnded(ctx context.Context, carrier, id, outcome string) (signaling.Next, error) {
	d.mu.Lock()
	d.outcomes = append(d.outcomes, outcome)
	d.mu.Unlock()
	return d.Next(ctx, carrier, id)
}

func (d *desk) Status(_ context.Context, s signaling.CarrierStatus) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.statuses = append(d.statuses, s)
	return nil
}

// pipes is a network in memory, for virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

func (p *pipes) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// gateway serves Twilio's routes over pipes, and returns options for calls.
func gateway(t *testing.T, d *desk) signalingtest.CarrierOptions {
	t.Helper()
	tw := &signaling.Twilio{
		Desk:       d,
		PublicURL:  "https://gw.example",
		AuthTokens: func(context.Context) ([]string, error) { return []string{authToken}, nil },
		Tokens:     &signaling.MediaTokens{Key: []byte(strings.Repeat("k", 32))},
		Logger:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	mux := http.NewServeMux()
	for _, r := range tw.Routes() {
		mux.HandleFunc(r.Pattern, r.Handler)
	}
	p := newPipes()
	srv := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(p) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return signalingtest.CarrierOptions{
		URL:       "http://gw.test",
		PublicURL: "https://gw.example",
		From:      "+15550100",
		To:        "+15550101",
		AuthToken: authToken,
		Dial:      p.Dial,
	}
}

// tone makes 20 ms pieces of a sine.
func tone(hz float64) func() []int16 {
	n := 0
	return func() []int16 {
		pcm := make([]int16, 160)
		for i := range pcm {
			pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(n)/8000))
			n++
		}
		return pcm
	}
}

// level returns the amplitude of hz in pcm (Goertzel).
func level(pcm []int16, hz float64) float64 {
	var re, im float64
	for i, s := range pcm {
		a := 2 * math.Pi * hz * float64(i) / 8000
		re += float64(s) * math.Cos(a)
		im += float64(s) * math.Sin(a)
	}
	return 2 * math.Hypot(re, im) / float64(len(pcm))
}

func TestCallCarriesToneBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fromCaller, fromAgent []int16
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			defer leg.Close("done")
			go func() {
				for range leg.Events() {
				}
			}()
			say := tone(440)
			for range 50 {
				f, err := leg.ReadFrame()
				if err != nil {
					return err
				}
				fromCaller = append(fromCaller, f.PCM...)
				if err := leg.Write(media.EncodePCMU(nil, say())); err != nil {
					return err
				}
			}
			for range 5 { // the last of it is on its way
				if _, err := leg.ReadFrame(); err != nil {
					return err
				}
			}
			return nil
		}}
		o := gateway(t, d)
		say := tone(1000)
		o.Source = func(frame []byte) { media.EncodePCMU(frame[:0], say()) }
		o.Heard = func(_ time.Time, frame []byte, played int) {
			fromAgent = media.DecodePCMU(fromAgent, frame[:played])
		}
		c, err := signalingtest.Call(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := level(fromCaller, 1000); got < 7800 || got > 8200 {
			t.Errorf("caller's 1000 Hz arrives at level %.0f, want 8000", got)
		}
		if len(fromAgent) != 8000 {
			t.Errorf("the caller heard %d samples, want 8000", len(fromAgent))
		}
		if got := level(fromAgent, 440); got < 7800 || got > 8200 {
			t.Errorf("agent's 440 Hz arrives at level %.0f, want 8000", got)
		}
		for _, e := range c.Events() {
			if e.Kind == "error" {
				t.Errorf("carrier saw: %s", e.Text)
			}
		}
		a := d.arrivals[0]
		if a.From != "+15550100" || a.To != "+15550101" || a.Direction != "inbound" || a.CarrierCallID != c.SID {
			t.Errorf("arrival = %+v", a)
		}
		if len(d.statuses) != 2 || d.statuses[0].Status != "stream-started" || d.statuses[1].Status != "stream-stopped" {
			t.Errorf("statuses = %+v, want the stream's start and stop", d.statuses)
		}
	})
}
