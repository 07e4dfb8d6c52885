package signalingtest_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"parley/media"
	"parley/signaling/signalingtest"
)

// levels counts what the agent hears: loud frames and silent ones.
func levels(leg media.Leg, n int) (loud, silent int, took time.Duration, err error) {
	start := time.Now()
	for range n {
		f, err := leg.ReadFrame()
		if err != nil {
			return loud, silent, time.Since(start), err
		}
		if level(f.PCM, 1000) > 4000 {
			loud++
		} else {
			silent++
		}
	}
	return loud, silent, time.Since(start), nil
}

// A stall of 500 ms becomes silence on our clock; then the backlog comes at
// once, and quiet frames make up for it.
func TestStallAndBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var before, during, after, burst time.Duration
		var silent, backlog, left int
		stall := make(chan struct{})
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			defer leg.Close("done")
			go drain(leg)
			_, _, before, _ = levels(leg, 50)
			close(stall)
			_, silent, during, _ = levels(leg, 24)
			backlog, _, burst, _ = levels(leg, 20)
			loud, _, took, err := levels(leg, 200)
			left, after = loud, took
			return err
		}}
		o := gateway(t, d)
		say, n := tone(1000), 0
		o.Source = func(frame []byte) {
			if n++; n < 150 { // then the caller is quiet
				media.EncodePCMU(frame[:0], say())
			}
		}
		c, err := signalingtest.Call(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		<-stall
		c.Stall(500 * time.Millisecond)
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if before < 970*time.Millisecond || before > 1020*time.Millisecond {
			t.Errorf("50 frames took %v, want 1 s", before)
		}
		if silent < 15 || during < 400*time.Millisecond || during > 600*time.Millisecond {
			t.Errorf("in the stall %d of 24 frames are silent, in %v; want most of them, in 480 ms", silent, during)
		}
		if backlog < 18 || burst > 100*time.Millisecond {
			t.Errorf("the backlog gave %d of 20 frames of speech in %v, want them at once", backlog, burst)
		}
		if total := before + during + burst + after; total < (294-2)*media.Ptime || total > (294+3)*media.Ptime {
			t.Errorf("294 frames took %v in all, want %v: what was too much is to be taken out", total, 294*media.Ptime)
		}
		if left < 50 {
			t.Errorf("only %d frames of speech after the burst: speech was dropped", left)
		}
	})
}

func TestSilentPeerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reason string
		var took time.Duration
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			defer leg.Close("done")
			start := time.Now()
			for e := range leg.Events() {
				reason, took = e.Reason, time.Since(start)
			}
			return nil
		}}
		c, err := signalingtest.Call(t.Context(), gateway(t, d))
		if err != nil {
			t.Fatal(err)
		}
		c.Mute(true)
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if reason != "peer-timeout" || took < 10*time.Second || took > 12*time.Second {
			t.Errorf("ended by %q after %v, want peer-timeout after 10 to 12 s", reason, took)
		}
	})
}

func TestPeerThatStopsReadingIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reason string
		var took time.Duration
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			defer leg.Close("done")
			over := make(chan struct{})
			go func() {
				defer close(over)
				for e := range leg.Events() {
					reason = e.Reason
				}
			}()
			start := time.Now()
			for leg.Write(make([]byte, 1600)) == nil {
				time.Sleep(200 * time.Millisecond)
			}
			took = time.Since(start)
			<-over
			return nil
		}}
		c, err := signalingtest.Call(t.Context(), gateway(t, d))
		if err != nil {
			t.Fatal(err)
		}
		c.Deafen()
		synctest.Wait()
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if reason != "peer-timeout" || took < 5*time.Second || took > 6*time.Second {
			t.Errorf("cut by %q after %v, want peer-timeout after 5 s", reason, took)
		}
		_ = c.HangUp()
	})
}

func TestUnusableMessagesDoNotEndTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		digit := byte(0)
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			defer leg.Close("done")
			for e := range leg.Events() {
				if e.Kind == media.Digit {
					digit = e.Digit
					return nil
				}
			}
			return nil
		}}
		c, err := signalingtest.Call(t.Context(), gateway(t, d))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{
			`{`, `null`, `{"event":"media","media":{"payload":"%%"}}`, `{"event":"media","media":{"payload":""}}`,
			`{"event":"start","start":{"callSid":"CA2"}}`, `{"event":"mark","mark":{"name":"not ours"}}`,
			`{"event":"dtmf","dtmf":{"digit":"xx"}}`, `{"event":"tomorrow","x":{}}`, "\x00\xff",
		} {
			c.Raw([]byte(m))
		}
		c.Digits("5")
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if digit != '5' {
			t.Errorf("digit %q came through, want 5", digit)
		}
	})
}

func TestTooLongMessageEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reason string
		d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
			for e := range leg.Events() {
				reason = e.Reason
			}
			return leg.Close("done")
		}}
		c, err := signalingtest.Call(t.Context(), gateway(t, d))
		if err != nil {
			t.Fatal(err)
		}
		c.Raw(make([]byte, 10<<20))
		_ = c.Wait()
		synctest.Wait()
		if reason != "protocol" {
			t.Errorf("ended by %q, want protocol", reason)
		}
	})
}

func TestSocketWithoutStartIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := gateway(t, &desk{})
		tokens := testTokens()
		token, err := tokens.Mint("CA1", "call-1")
		if err != nil {
			t.Fatal(err)
		}
		d := websocket.Dialer{NetDialContext: o.Dial}
		ws, _, err := d.DialContext(t.Context(), "ws://gw.test/twilio/media/"+token, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		start := time.Now()
		_, _, err = ws.ReadMessage()
		if took := time.Since(start); !websocket.IsCloseError(err, websocket.ClosePolicyViolation) || took != 5*time.Second {
			t.Errorf("closed with %v after %v, want 1008 after 5 s", err, took)
		}
	})
}

// Calls dropped at any moment and in any way leave nothing behind.
func TestDroppedCallsLeaveNothing(t *testing.T) {
	const calls, atOnce = 200, 20
	d := &desk{serve: func(ctx context.Context, leg media.Leg) error {
		defer leg.Close("done")
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { drain(leg) })
		defer leg.Close("done")
		limit := 2 + rand.IntN(20)
		for n := range limit {
			if _, err := leg.ReadFrame(); err != nil {
				return nil
			}
			if leg.Write(make([]byte, 160)) != nil || leg.Mark(uint64(n)) != nil {
				return nil
			}
		}
		return nil
	}}
	tw := twilio(d)
	tw.PublicURL = ""
	var handlers sync.WaitGroup
	mux := http.NewServeMux()
	for _, r := range tw.Routes() {
		mux.HandleFunc(r.Pattern, func(w http.ResponseWriter, req *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			r.Handler(w, req)
		})
	}
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	srv := httptest.NewServer(mux)
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range calls {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			heard, left := make(chan struct{}), rand.IntN(12)
			await := left > 0
			c, err := signalingtest.Call(t.Context(), signalingtest.CarrierOptions{
				URL: srv.URL, AuthToken: authToken, To: "+1", From: "+2",
				Heard: func(time.Time, []byte, int) {
					if left--; left == 0 {
						close(heard)
					}
				},
			})
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			over := make(chan struct{})
			go func() { defer close(over); _ = c.Wait() }()
			if await {
				select {
				case <-heard:
				case <-over:
				}
			}
			switch i % 3 {
			case 0:
				c.Break()
			case 1:
				_ = c.HangUp()
			}
			<-over
		})
	}
	wg.Wait()
	srv.Close()
	handlers.Wait()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	for runtime.NumGoroutine() > goroutines || openFiles(t) > files {
		select {
		case <-deadline.C:
			buf := make([]byte, 1<<20)
			t.Fatalf("left behind: %d goroutines, %d files\n%s", runtime.NumGoroutine()-goroutines, openFiles(t)-files, buf[:runtime.Stack(buf, true)])
		default:
			runtime.Gosched()
		}
	}
	if d.served != calls {
		t.Errorf("served %d calls, want %d", d.served, calls)
	}
}

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
