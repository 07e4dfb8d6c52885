package signalingtest_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
	"parley/signaling"
	"parley/signaling/signalingtest"
)

// webhooks answers with TwiML from a script, in virtual time.
type webhooks struct {
	mu     sync.Mutex
	asked  []url.Values
	paths  []string
	answer func(n int, w http.ResponseWriter, r *http.Request)
}

func (h *webhooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	h.mu.Lock()
	n := len(h.asked)
	h.asked, h.paths = append(h.asked, r.PostForm), append(h.paths, r.URL.Path)
	h.mu.Unlock()
	h.answer(n, w, r)
}

// serve serves h over pipes until the test's end, and returns how to dial it.
func serve(t *testing.T, h http.Handler) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	p := signalingtest.NewPipes()
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(p) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return p.Dial
}

func say(verbs string) string { return "<Response>" + verbs + "</Response>" }

// kinds lists what happened, as "kind text".
func kinds(c *signalingtest.CarrierCall, only ...string) (out []string) {
	for _, e := range c.Events() {
		if slices.Contains(only, e.Kind) {
			out = append(out, strings.TrimSpace(e.Kind+" "+e.Text))
		}
	}
	return out
}

func TestVerbsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &webhooks{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			switch n {
			case 0:
				fmt.Fprint(w, say(`<Say>One moment.</Say><Pause length="2"/><Enqueue/><Dial>+15550123</Dial><Redirect>next?step=2</Redirect>`))
			default:
				fmt.Fprint(w, say(`<Play>https://gw.example/a.wav</Play><Pause/>`))
			}
		}}
		start := time.Now()
		c := place(t, signalingtest.CarrierOptions{URL: "http://gw.test", Dial: serve(t, h)})
		want := []string{"say One moment.", "pause 2", "verb Enqueue", "dial +15550123", "redirect next?step=2",
			"play https://gw.example/a.wav", "pause 1", "hangup"}
		if got := kinds(c, "say", "pause", "verb", "dial", "redirect", "play", "hangup"); !slices.Equal(got, want) {
			t.Errorf("did %q, want %q", got, want)
		}
		if took := time.Since(start); took != 3*time.Second+11*60*time.Millisecond {
			t.Errorf("took %v, want the pauses and the sentence", took)
		}
		if !slices.Equal(h.paths, []string{"/twilio/voice", "/twilio/next"}) || h.asked[1].Get("CallStatus") != "in-progress" {
			t.Errorf("asked %v with %v", h.paths, h.asked)
		}
		if c.Status() != "completed" {
			t.Errorf("status %q, want completed", c.Status())
		}
	})
}

// Each row: what the gateway does at each try, the fragment, and what comes of it.
func TestWebhookRetries(t *testing.T) {
	refuse := func(n int) func(int) string {
		return func(try int) string {
			if try < n {
				return "refuse"
			}
			return "answer"
		}
	}
	always := func(what string) func(int) string { return func(int) string { return what } }
	tests := []struct {
		name, fragment string
		does           func(try int) string
		tries          int
		ok             bool
		took           time.Duration
	}{
		{"one retry by default", "", refuse(1), 2, true, 0},
		{"no more by default", "", refuse(2), 2, false, 0},
		{"five at most", "#rc=5&rp=ct,5xx", refuse(5), 6, true, 0},
		{"none", "#rc=0", refuse(1), 1, false, 0},
		{"too many: the default", "#rc=9", refuse(2), 2, false, 0},
		{"errors of the server are not", "", always("503"), 1, false, 0},
		{"unless asked for", "#rc=3&rp=5xx", always("503"), 4, false, 0},
		{"others are not then", "#rc=3&rp=5xx", refuse(1), 1, false, 0},
		{"all", "#rc=2&rp=all", always("404"), 3, false, 0},
		{"silence is waited for", "", always("silence"), 1, false, 15 * time.Second},
		{"but shorter if asked", "#rt=1000&rc=2&rp=rt&ct=100", always("silence"), 3, false, 3300 * time.Millisecond},
		{"fifteen seconds in all", "#rt=8000&rc=5&rp=rt&ct=1000", always("silence"), 2, false, 15 * time.Second},
		{"connecting", "#ct=500&rc=1", always("stall"), 2, false, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries atomic.Int64
				h := &webhooks{answer: func(_ int, w http.ResponseWriter, r *http.Request) {
					switch what := tt.does(int(tries.Load()) - 1); what {
					case "silence":
						<-r.Context().Done()
					case "answer":
						fmt.Fprint(w, say("<Hangup/>"))
					default:
						http.Error(w, "no", map[string]int{"503": 503, "404": 404}[what])
					}
				}}
				dial := serve(t, h)
				o := signalingtest.CarrierOptions{URL: "http://gw.test", Webhook: "/hook" + tt.fragment,
					Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
						switch tt.does(int(tries.Add(1)) - 1) {
						case "refuse":
							return nil, net.ErrClosed
						case "stall":
							<-ctx.Done()
							return nil, ctx.Err()
						}
						return dial(ctx, network, addr)
					}}
				start := time.Now()
				c, err := signalingtest.Call(t.Context(), o)
				_ = c.Wait()
				if tries := int(tries.Load()); tries != tt.tries || (err == nil) != tt.ok || time.Since(start) != tt.took {
					t.Errorf("%d tries in %v, %v; want %d in %v, good %t", tries, time.Since(start), err, tt.tries, tt.took, tt.ok)
				}
				if !tt.ok && c.Status() != "failed" {
					t.Errorf("status %q, want failed", c.Status())
				}
			})
		})
	}
}

func TestFallbackWhenNobodyAnswers(t *testing.T) {
	for _, fallback := range []string{
		say(`<Pause length="2"/><Redirect>/twilio/next#rc=0</Redirect>`),
		"http://gw.test/fallback",
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			down := func() bool { return time.Since(start) < 5*time.Second }
			h := &webhooks{answer: func(_ int, w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/fallback":
					fmt.Fprint(w, say(`<Pause length="2"/><Redirect>/twilio/next</Redirect>`))
				case down():
					http.Error(w, "starting", http.StatusServiceUnavailable)
				default:
					fmt.Fprint(w, say("<Hangup/>"))
				}
			}}
			c := place(t, signalingtest.CarrierOptions{URL: "http://gw.test", Dial: serve(t, h), Fallback: fallback})
			if got := kinds(c, "fallback"); len(got) != 3 {
				t.Errorf("fell back %d times (%q), want at 0, 2 and 4 s", len(got), got)
			}
			if took := time.Since(start); took != 6*time.Second {
				t.Errorf("took %v, want 6 s", took)
			}
			if f := h.asked[1]; h.paths[1] == "/fallback" && (f.Get("ErrorCode") != "11200" || f.Get("ErrorUrl") != "/twilio/voice") {
				t.Errorf("the fallback was told %v", f)
			}
		})
	}
}

// sleeper serves a call by listening for a while.
func sleeper(d time.Duration) func(context.Context, media.Leg) error {
	return func(_ context.Context, leg media.Leg) error {
		defer leg.Close("done")
		go drain(leg)
		for range int(d / media.Ptime) {
			if _, err := leg.ReadFrame(); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestLostSocket(t *testing.T) {
	tests := []struct {
		lost   signalingtest.Lost
		served int
		ends   bool
	}{
		{signalingtest.LostAsk, 2, true},
		{signalingtest.LostEnd, 1, true},
		{signalingtest.LostHold, 1, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &desk{serve: sleeper(2 * time.Second), next: []signaling.Next{{Do: "connect", CallID: "again"}}}
				o := gateway(t, d)
				o.Lost = tt.lost
				c, err := signalingtest.Call(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				c.Break()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if d.served != tt.served {
					t.Errorf("served %d times, want %d", d.served, tt.served)
				}
				select {
				case <-c.Done():
					if !tt.ends {
						t.Error("the call ended, want it on hold")
					}
				default:
					if tt.ends {
						t.Error("the call has not ended")
					}
				}
				_ = c.HangUp()
			})
		})
	}
}

// REST sends a call elsewhere, whatever it does: its stream is told to stop.
func TestRedirectByREST(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{serve: sleeper(time.Minute), next: []signaling.Next{{Do: "connect", CallID: "again"}, {Do: "connect", CallID: "again"}}}
		o := gateway(t, d)
		api := &signalingtest.REST{AccountSID: "AC" + strings.Repeat("0", 32), AuthToken: "secret1"}
		o.REST, o.Lost = api, signalingtest.LostHold
		apiDial := serve(t, api)
		rest := &signaling.REST{
			AccountSID: api.AccountSID, BaseURL: "http://api.test",
			Secret:    func(context.Context) (string, error) { return api.AuthToken, nil },
			Transport: &http.Transport{DialContext: apiDial, DisableKeepAlives: true},
		}
		c, err := signalingtest.Call(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := rest.Redirect(t.Context(), c.SID, "https://gw.example/twilio/next"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		c.Break()
		time.Sleep(time.Second)
		if n := d.count(); n != 2 {
			t.Fatalf("served %d times, want 2: on hold after the break", n)
		}
		if err := rest.Redirect(t.Context(), c.SID, "https://gw.example/twilio/next"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := d.count(); n != 3 {
			t.Fatalf("served %d times, want 3: redirected out of the hold", n)
		}
		if err := rest.Perform(t.Context(), c.SID, say(`<Dial>+15550177</Dial>`)); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, want := kinds(c, "closed", "dial"), []string{"closed caller", "closed lost", "closed caller", "dial +15550177"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if err := rest.Redirect(t.Context(), c.SID, "https://gw.example/twilio/next"); err == nil {
			t.Error("an ended call was redirected")
		}
		if err := rest.HangUp(t.Context(), c.SID); err != nil {
			t.Errorf("hang up an ended call: %v", err)
		}
		if n := len(api.Requests()); n != 5 {
			t.Errorf("%d requests were kept, want 5", n)
		}
	})
}

func TestHangUpByREST(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{serve: sleeper(time.Minute)}
		o := gateway(t, d)
		api := &signalingtest.REST{}
		o.REST = api
		rest := &signaling.REST{
			AccountSID: "AC" + strings.Repeat("0", 32), BaseURL: "http://api.test",
			Secret:    func(context.Context) (string, error) { return "any", nil },
			Transport: &http.Transport{DialContext: serve(t, api), DisableKeepAlives: true},
		}
		c, err := signalingtest.Call(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := rest.HangUp(t.Context(), c.SID); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil || c.Status() != "completed" {
			t.Errorf("%v, status %q", err, c.Status())
		}
	})
}

// A media socket alone, as of a gateway that knows none of our webhooks.
func TestStreamWithoutWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{serve: sleeper(time.Second)}
		o := gateway(t, d)
		token, err := testTokens().Mint("CA1", "call-1")
		if err != nil {
			t.Fatal(err)
		}
		o.StreamURL, o.URL, o.PublicURL, o.AuthToken = "ws://gw.test/twilio/media/"+token, "", "", ""
		o.CallSID = "CA1"
		c := place(t, o)
		if d.served != 1 || len(d.arrivals) != 0 {
			t.Errorf("served %d times after %d webhooks, want 1 after none", d.served, len(d.arrivals))
		}
		if got := kinds(c, "webhook", "error", "closed"); !slices.Equal(got, []string{"closed gateway"}) {
			t.Errorf("%q", got)
		}
	})
}

func TestBalancer(t *testing.T) {
	tests := []struct {
		name  string
		first bool
		down  string // backend that refuses
		mute  string // backend that does not answer
		want  string // backends of four calls
	}{
		{"in turn", false, "", "", "b a b a"},
		{"first", true, "", "", "a a a a"},
		{"one is down", false, "b", "", "a a a a"},
		{"first is down", true, "a", "", "b b b b"},
		{"one hangs", true, "", "a", "b b b b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []string
				dials := map[string]func(context.Context, string, string) (net.Conn, error){}
				for _, name := range []string{"a", "b"} {
					dials[name+":80"] = serve(t, &webhooks{answer: func(_ int, w http.ResponseWriter, r *http.Request) {
						if name == tt.mute {
							<-r.Context().Done()
							return
						}
						if r.PostForm.Get("CallSid") == "" || r.Host != "gw.test" {
							t.Errorf("%s got %s %v", name, r.Host, r.PostForm)
						}
						got = append(got, name)
						fmt.Fprint(w, say("<Hangup/>"))
					}})
				}
				b := &signalingtest.Balancer{First: tt.first, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
					if addr == tt.down+":80" {
						return nil, net.ErrClosed
					}
					return dials[addr](ctx, network, addr)
				}}
				b.Add("http://a")
				b.Add("http://b")
				o := signalingtest.CarrierOptions{URL: "http://gw.test", Dial: serve(t, b)}
				for range 4 {
					place(t, o)
				}
				if s := strings.Join(got, " "); s != tt.want {
					t.Errorf("calls went to %s, want %s", s, tt.want)
				}
			})
		})
	}
}

// A call through a balancer, whose first gateway goes away under it.
func TestCallThroughBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{serve: sleeper(2 * time.Second), next: []signaling.Next{{Do: "connect", CallID: "again"}}}
		o := gateway(t, d)
		gone, dial := false, o.Dial
		b := &signalingtest.Balancer{First: true, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "a:80" && gone {
				return nil, net.ErrClosed
			}
			return dial(ctx, network, addr)
		}}
		b.Add("http://a")
		b.Add("http://b")
		o.Dial = serve(t, b)
		c, err := signalingtest.Call(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		gone = true
		c.Break()
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if d.served != 2 {
			t.Errorf("served %d times, want 2", d.served)
		}
		b.Remove("http://b")
		if c, err := signalingtest.Call(t.Context(), o); err == nil {
			t.Errorf("a call without a gateway: %q", c.Events())
		}
	})
}
