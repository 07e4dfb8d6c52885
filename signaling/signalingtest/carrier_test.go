package signalingtest_test

import (
	"context"
	"errors"
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

// count is how many sockets were served.
func (d *desk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.served
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

func testTokens() *signaling.MediaTokens {
	return &signaling.MediaTokens{Key: []byte(strings.Repeat("k", 32))}
}

func twilio(d *desk) *signaling.Twilio {
	return &signaling.Twilio{
		Desk:       d,
		PublicURL:  "https://gw.example",
		AuthTokens: func(context.Context) ([]string, error) { return []string{authToken}, nil },
		Tokens:     testTokens(),
		Logger:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// gateway serves Twilio's routes over pipes, and returns options for calls.
func gateway(t *testing.T, d *desk) signalingtest.CarrierOptions {
	t.Helper()
	tw := twilio(d)
	mux := http.NewServeMux()
	for _, r := range tw.Routes() {
		mux.HandleFunc(r.Pattern, r.Handler)
	}
	p := signalingtest.NewPipes()
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
		synctest.Wait()
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

// drain discards a leg's events until it has ended.
func drain(leg media.Leg) {
	for range leg.Events() {
	}
}

// place makes a call, in virtual time, and waits for its end.
func place(t *testing.T, o signalingtest.CarrierOptions) *signalingtest.CarrierCall {
	t.Helper()
	c, err := signalingtest.Call(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	synctest.Wait() // for the gateway's half
	return c
}

func TestMarkComesBackWhenHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 75 * time.Millisecond
		var empty, end time.Duration
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			defer leg.Close("done")
			await := func(id uint64) time.Duration {
				start := time.Now()
				for e := range leg.Events() {
					if e.Kind == media.Marked && e.Mark == id {
						return e.At.Sub(start)
					}
				}
				t.Errorf("mark %d never came", id)
				return 0
			}
			_ = leg.Mark(1)
			empty = await(1)
			_ = leg.Write(make([]byte, 300*8))
			_ = leg.Mark(2)
			end = await(2)
			return nil
		}}
		o := gateway(t, d)
		o.Up, o.Down = signalingtest.Line{Delay: each}, signalingtest.Line{Delay: each}
		place(t, o)
		if empty != 2*each {
			t.Errorf("a mark on an empty buffer took %v, want the round trip, %v", empty, 2*each)
		}
		if got := end - 2*each; got < 300*time.Millisecond || got > 320*time.Millisecond {
			t.Errorf("a mark after 300 ms of audio took %v over the round trip, want 300 to 320 ms", got)
		}
	})
}

func TestClearDropsWhatIsUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var marks []uint64
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			defer leg.Close("done")
			_ = leg.Write(make([]byte, 1600))
			_ = leg.Mark(1)
			_ = leg.Write(make([]byte, 1600))
			_ = leg.Mark(2)
			time.Sleep(110 * time.Millisecond)
			_ = leg.Flush()
			for e := range leg.Events() {
				if marks = append(marks, e.Mark); len(marks) == 2 {
					break
				}
			}
			time.Sleep(100 * time.Millisecond)
			return nil
		}}
		o := gateway(t, d)
		played := 0
		o.Heard = func(_ time.Time, _ []byte, n int) { played += n }
		start := time.Now()
		place(t, o)
		if len(marks) != 2 || marks[0] != 1 || marks[1] != 2 {
			t.Errorf("marks %v came back, want 1 and 2", marks)
		}
		if played < 5*160 || played > 6*160 {
			t.Errorf("the caller heard %d samples, want those of 110 ms", played)
		}
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Errorf("took %v: marks did not come back at once", took)
		}
	})
}

func TestDigitsAndHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var digits []byte
		var reason string
		var readErr, writeErr error
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			for e := range leg.Events() {
				switch e.Kind {
				case media.Digit:
					digits = append(digits, e.Digit)
				case media.HungUp:
					reason = e.Reason
				}
			}
			for readErr == nil {
				_, readErr = leg.ReadFrame()
			}
			writeErr = leg.Write(make([]byte, 160))
			return leg.Close("done")
		}}
		c, err := signalingtest.Call(t.Context(), gateway(t, d))
		if err != nil {
			t.Fatal(err)
		}
		c.Digits("1*#0")
		if err := c.HangUp(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if string(digits) != "1*#0" || reason != "caller" {
			t.Errorf("digits %q, end %q; want 1*#0 and caller", digits, reason)
		}
		if readErr != io.EOF || writeErr != media.ErrClosed {
			t.Errorf("after the end: read %v, write %v; want EOF and ErrClosed", readErr, writeErr)
		}
	})
}

func TestTransfersAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{
			serve: func(_ context.Context, leg media.Leg) error { return leg.Close("done") },
			next: []signaling.Next{
				{Do: "dial", Dial: "+15550199", CallerID: "+15550101", Timeout: 20 * time.Second},
				{Do: "connect", CallID: "again"},
				{Do: "dial", Dial: `sip:a&b@example.com`},
			},
		}
		o := gateway(t, d)
		var dialed []signalingtest.Dialed
		o.Transfer = func(_ context.Context, d signalingtest.Dialed) string {
			dialed = append(dialed, d)
			return []string{"busy", "completed"}[len(dialed)-1]
		}
		c := place(t, o)
		want := []signalingtest.Dialed{
			{Number: "+15550199", CallerID: "+15550101", Timeout: "20"},
			{Sip: "sip:a&b@example.com", Timeout: "30"},
		}
		if len(dialed) != 2 || dialed[0] != want[0] || dialed[1] != want[1] {
			t.Errorf("dialed %+v, want %+v", dialed, want)
		}
		if strings.Join(d.outcomes, " ") != "busy completed" || d.served != 2 {
			t.Errorf("outcomes %q, served %d times; want busy and completed, 2", d.outcomes, d.served)
		}
		if last := c.Events()[len(c.Events())-1]; last.Kind != "hangup" {
			t.Errorf("the call ended with %+v, want a hang-up", last)
		}
	})
}

func TestRefusedCalls(t *testing.T) {
	tests := []struct {
		name       string
		err        error
		direction  string
		kind, text string
	}{
		{"busy", signaling.ErrBusy, "inbound", "reject", "busy"},
		{"no-agent", signaling.ErrNoAgent, "inbound", "reject", ""},
		{"ended", signaling.ErrEnded, "inbound", "hangup", ""},
		{"busy-outbound", signaling.ErrBusy, "outbound-api", "hangup", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &desk{arrive: func(signaling.Arrival) (signaling.Admitted, error) { return signaling.Admitted{}, tt.err }}
				o := gateway(t, d)
				o.Direction, o.Agent = tt.direction, "front desk"
				c := place(t, o)
				if last := c.Events()[len(c.Events())-1]; last.Kind != tt.kind || last.Text != tt.text {
					t.Errorf("the call ended with %+v, want %s %q", last, tt.kind, tt.text)
				}
				if d.arrivals[0].Agent != "front desk" {
					t.Errorf("agent = %q, want that of the path", d.arrivals[0].Agent)
				}
			})
		})
	}
}

func TestUnsignedWebhookIsRefused(t *testing.T) {
	for _, token := range []string{"", "wrong"} {
		d := &desk{}
		o := gateway(t, d)
		o.AuthToken = token
		c, err := signalingtest.Call(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("signed with %q: %v, want 403", token, err)
		}
		_ = c.Wait()
		if len(d.arrivals) != 0 {
			t.Error("the desk heard of it")
		}
	}
}

// A call that could not be placed is told by Call itself, every time.
func TestCallToNobodyFails(t *testing.T) {
	nobody := errors.New("nobody is there")
	for range 2000 {
		_, err := signalingtest.Call(t.Context(), signalingtest.CarrierOptions{URL: "http://gateway.test",
			Dial: func(context.Context, string, string) (net.Conn, error) { return nil, nobody }})
		if !errors.Is(err, nobody) {
			t.Fatalf("the call ended with %v, want %v", err, nobody)
		}
	}
}
