package console_test

import (
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/control/console"
	"parley/control/console/consoletest"
)

const soon = 10 * time.Second

// site is a whole origin: the page, its token endpoint, sign-in and a peer.
type site struct {
	*httptest.Server
	peer   *peer
	refuse atomic.Pointer[error] // what MintToken answers, if set
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{peer: newPeer(t)}
	page := console.CallPage{
		Lookup: func(_ context.Context, agent string) (console.Page, error) {
			if agent == "nobody" {
				return console.Page{}, console.ErrNoAgent
			}
			return console.Page{Agent: agent, Name: "Ada", Owner: "Harbour Dental", Public: agent == "demo"}, nil
		},
		MintToken: func(r *http.Request, agent string) (console.Token, error) {
			if err := s.refuse.Load(); err != nil {
				return console.Token{}, *err
			}
			if agent == "private" && r.Header.Get("Authorization") != "Bearer user-token" {
				return console.Token{}, console.ErrSignIn
			}
			return console.Token{Token: "token-1"}, nil
		},
	}
	handler, err := page.Handler()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/call/", handler)
	mux.HandleFunc("POST /v1/auth/login", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"user-token"}`))
	})
	s.peer.routes(mux)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// shoot keeps a picture of the page where PARLEY_SCREENSHOTS says.
func shoot(t *testing.T, p *consoletest.Page, name string) {
	t.Helper()
	dir := os.Getenv("PARLEY_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, look := range []struct {
		name          string
		width, height int
		dark          bool
	}{
		{"phone-light", 390, 844, false}, {"phone-dark", 390, 844, true}, {"small-light", 320, 568, false},
		{"desk-light", 1280, 800, false}, {"desk-dark", 1280, 800, true},
	} {
		p.Emulate(look.width, look.height, look.dark)
		p.Eval("new Promise((r) => setTimeout(r, 300))", nil)
		p.Screenshot(filepath.Join(dir, name+"-"+look.name+".png"))
	}
	p.Emulate(1280, 800, false)
}

func live(s consoletest.Status) bool {
	return s.State == "connected" || s.State == "listening" || s.State == "speaking"
}

func startCall(t *testing.T, b *consoletest.Browser, s *site) *consoletest.Page {
	t.Helper()
	p := b.Open(t, s.URL+"/call/demo")
	p.Click("Call")
	p.WaitStatus("a connection", soon, live)
	p.Wait("the data channel", soon, func() bool { return len(s.peer.of("played")) > 0 })
	return p
}

func TestCallPage(t *testing.T) {
	b := consoletest.Start(t, consoletest.Options{})
	for _, tt := range []struct {
		name string
		test func(*testing.T, *consoletest.Browser)
	}{
		{"conversation", testConversation},
		{"hang-up", testHangUp},
		{"far-end-ends", testFarEndEnds},
		{"resume", testResume},
		{"refusals", testRefusals},
		{"sign-in", testSignIn},
		{"plain-http", testPlainHTTP},
		{"names", testNames},
		{"unknown-agent", testUnknownAgent},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, b) })
	}
}

func testConversation(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := b.Open(t, s.URL+"/call/demo")
	shoot(t, p, "idle")
	p.Record()
	p.Click("Call")
	p.WaitStatus("a connection", soon, live)
	p.Wait("reports of what was played", soon, func() bool { return len(s.peer.of("played")) >= 4 })
	played := s.peer.of("played")
	for i := 1; i < len(played); i++ {
		if step := int32(played[i].RTP - played[i-1].RTP); step <= 0 {
			t.Errorf("played report %d: rtp %d after %d, want it to grow", i, played[i].RTP, played[i-1].RTP)
		}
	}

	s.peer.say(
		`{"type":"state","state":"speaking","turn":0}`,
		`{"type":"agent","turn":0,"text":"Good morning, Harbour Dental. How may I help you today?","heard":"Good morning,","phase":"speaking"}`)
	items := p.WaitLog("the agent's first turn", soon, func(l []consoletest.Item) bool { return len(l) == 1 })
	want := consoletest.Item{Speaker: "agent", State: "speaking", Text: "Good morning,", Coming: "Harbour Dental. How may I help you today?"}
	if items[0] != want {
		t.Errorf("speaking: got %+v, want %+v", items[0], want)
	}

	s.peer.say(
		`{"type":"agent","turn":0,"text":"Good morning, Harbour Dental. How may I help you today?","heard":"Good morning, Harbour Dental.","phase":"cut"}`,
		`{"type":"state","state":"listening","turn":1}`,
		`{"type":"transcript","turn":1,"text":"hello I need","phase":"interim"}`)
	items = p.WaitLog("the interruption", soon, func(l []consoletest.Item) bool { return len(l) == 2 })
	want = consoletest.Item{Speaker: "agent", State: "cut", Text: "Good morning, Harbour Dental.", Unheard: "How may I help you today?"}
	if items[0] != want {
		t.Errorf("cut: got %+v, want %+v", items[0], want)
	}
	if want := (consoletest.Item{Speaker: "caller", State: "interim", Text: "hello I need"}); items[1] != want {
		t.Errorf("interim: got %+v, want %+v", items[1], want)
	}

	s.peer.say(
		`{"type":"transcript","turn":1,"text":"Hello, I need an appointment on Friday.","phase":"final"}`,
		`{"type":"latency","turn":2,"latency_ms":640}`,
		`{"type":"state","state":"speaking","turn":2}`,
		`{"type":"agent","turn":2,"text":"Gladly. Friday at ten, or <b>three</b>?","heard":"Gladly. Friday at ten, or <b>three</b>?","phase":"heard"}`,
		`{"type":"transcript","turn":3,"text":"ten would be","phase":"interim"}`,
		`{"type":"agent","turn":4,"text":"Ten it is. Shall I send you a reminder the day before?","heard":"Ten it is.","phase":"speaking"}`)
	items = p.WaitLog("five turns", soon, func(l []consoletest.Item) bool { return len(l) == 5 })
	for i, want := range []string{"cut", "final", "heard", "interim", "speaking"} {
		if items[i].State != want {
			t.Errorf("item %d: state %q, want %q", i, items[i].State, want)
		}
	}
	if got, want := items[2].Text, "Gladly. Friday at ten, or <b>three</b>?"; got != want {
		t.Errorf("heard: got %q, want %q", got, want)
	}
	if got := p.Status(); got.LatencyMS != 640 || got.State != "speaking" {
		t.Errorf("status: got %+v, want speaking with 640 ms", got)
	}
	shoot(t, p, "call")

	p.Fill("Message", "my name is Jo\r")
	p.Click("Keypad")
	p.Click("7")
	p.Press("#")
	p.Wait("text and digits at the peer", soon, func() bool { return len(s.peer.of("text")) == 1 && len(s.peer.of("dtmf")) == 2 })
	if got, want := s.peer.of("text")[0].Text, "my name is Jo"; got != want {
		t.Errorf("text: got %q, want %q", got, want)
	}
	if d := s.peer.of("dtmf"); d[0].Digit != "7" || d[1].Digit != "#" {
		t.Errorf("digits: got %v, want 7 and #", d)
	}
	shoot(t, p, "keypad")
	p.Click("Sound")
	shoot(t, p, "sound")

	var pcm []int16
	p.Wait("a second of sound", soon, func() bool { pcm = p.Recording(); return len(pcm) > 2*consoletest.RecordRate })
	if share := toneShare(pcm[len(pcm)-consoletest.RecordRate:], 500); share < 0.5 {
		t.Errorf("recording: %.2f of its energy is at 500 Hz, want more than half", share)
	}
	if got := p.Problems(); len(got) != 0 {
		t.Errorf("console: %q, want nothing", got)
	}
}

// toneShare tells which part of the energy lies at hz (Goertzel's algorithm).
func toneShare(pcm []int16, hz float64) float64 {
	var re, im, total float64
	for i, s := range pcm {
		x := 2 * math.Pi * hz * float64(i) / consoletest.RecordRate
		re += float64(s) * math.Cos(x)
		im += float64(s) * math.Sin(x)
		total += float64(s) * float64(s)
	}
	if total == 0 {
		return 0
	}
	return 2 * (re*re + im*im) / float64(len(pcm)) / total
}

func testHangUp(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := startCall(t, b, s)
	p.Click("Hang up")
	p.WaitStatus("the end", soon, func(s consoletest.Status) bool { return s.State == "ended" })
	p.Wait("DELETE", soon, func() bool { _, deletes := s.peer.counts(); return deletes == 1 })
	if got, want := s.peer.deletes[0].Get("Authorization"), "Bearer secret-1"; got != want {
		t.Errorf("DELETE: Authorization %q, want %q", got, want)
	}
	if got, want := s.peer.posts[0].Get("Authorization"), "Bearer token-1"; got != want {
		t.Errorf("POST: Authorization %q, want %q", got, want)
	}

	p.Click("Call")
	p.WaitStatus("a second call", soon, live)
	p.Wait("its data channel", soon, func() bool { return s.peer.isOpen() })
	p.Eval("void setTimeout(() => location.assign('about:blank'))", nil)
	p.Wait("DELETE as the page goes", soon, func() bool { _, deletes := s.peer.counts(); return deletes == 2 })
}

func testFarEndEnds(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := startCall(t, b, s)
	s.peer.say(`{"type":"ended","turn":3,"reason":"goodbye"}`)
	p.WaitStatus("the end", soon, func(s consoletest.Status) bool { return s.State == "ended" && s.Notice == "" })
	if posts, deletes := s.peer.counts(); posts != 1 || deletes != 0 {
		t.Errorf("got %d POST and %d DELETE, want 1 and 0", posts, deletes)
	}
	shoot(t, p, "ended")
}

func testResume(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := startCall(t, b, s)
	s.peer.drop()
	p.Wait("a second offer", soon, func() bool { posts, _ := s.peer.counts(); return posts == 2 })
	p.WaitStatus("the call again", soon, live)
	if got, want := s.peer.posts[1].Get("Parley-Resume"), "resume-1"; got != want {
		t.Errorf("Parley-Resume: got %q, want %q", got, want)
	}
	s.peer.setStatus(http.StatusInternalServerError)
	p.Wait("the data channel", soon, func() bool { return s.peer.isOpen() })
	s.peer.drop()
	got := p.WaitStatus("the loss in words", soon, func(s consoletest.Status) bool { return s.State == "failed" })
	if !strings.Contains(got.Notice, "connection was lost") {
		t.Errorf("notice: got %q, want it to say that the connection was lost", got.Notice)
	}
	shoot(t, p, "lost")
	s.peer.setStatus(0)
	p.Click("Try again")
	p.WaitStatus("a new call", soon, live)
}

func testRefusals(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := b.Open(t, s.URL+"/call/demo")
	for status, words := range map[int]string{
		http.StatusServiceUnavailable:  "All lines are busy",
		http.StatusNotFound:            "takes no calls",
		http.StatusTooManyRequests:     "many calls",
		http.StatusUnauthorized:        "sign-in was not accepted",
		http.StatusInternalServerError: "our side",
	} {
		s.peer.setStatus(status)
		p.Click("Call")
		got := p.WaitStatus(words, soon, func(s consoletest.Status) bool { return s.State == "failed" })
		if !strings.Contains(got.Notice, words) {
			t.Errorf("status %d: notice %q, want %q", status, got.Notice, words)
		}
	}
	s.peer.setStatus(0)
	s.refuse.Store(&console.ErrTooMany)
	p.Click("Call")
	p.WaitStatus("too many calls", soon, func(s consoletest.Status) bool { return strings.Contains(s.Notice, "many calls") })
	shoot(t, p, "error")
}

func testSignIn(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := b.Open(t, s.URL+"/call/private")
	p.Click("Call")
	p.Fill("Email", "jo@example.com")
	shoot(t, p, "signin")
	p.Fill("Password", "correct horse\r")
	p.WaitStatus("a connection after sign-in", soon, live)
}

func testPlainHTTP(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := b.Open(t, strings.Replace(s.URL, "127.0.0.1", "desk.test", 1)+"/call/demo")
	p.WaitStatus("words about https", soon, func(s consoletest.Status) bool { return strings.Contains(s.Notice, "https://") })
	p.Click("Continue without microphone")
	p.WaitStatus("a call by keys", soon, live)
}

func testNames(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := b.Open(t, s.URL+"/call/demo")
	have := map[[2]string]bool{}
	for _, panel := range []string{"Keypad", "Sound"} {
		p.Click(panel)
		for _, n := range p.Nodes() {
			have[[2]string{n.Role, n.Name}] = true
		}
	}
	for _, want := range [][2]string{
		{"heading", "Ada"}, {"button", "Call"}, {"button", "Mute"}, {"button", "Keypad"}, {"button", "Sound"},
		{"textbox", "Message"}, {"button", "Send"}, {"log", "Conversation"}, {"status", ""},
		{"button", "star"}, {"button", "pound"}, {"button", "0"}, {"combobox", "Microphone"}, {"combobox", "Speaker"},
		{"checkbox", "Let my screen reader read the captions"},
	} {
		if !have[want] {
			t.Errorf("no %s named %q", want[0], want[1])
		}
	}
	var small []string
	p.Eval(`[...document.querySelectorAll('button, select, input:not([type=checkbox])')].filter((e) => e.offsetParent)
		.filter((e) => e.offsetHeight < 44 || e.offsetWidth < 44).map((e) => e.id || e.textContent)`, &small)
	if len(small) != 0 {
		t.Errorf("targets under 44 px: %q", small)
	}
	p.Emulate(320, 568, false)
	var wide bool
	p.Eval(`document.documentElement.scrollWidth > 320`, &wide)
	if wide {
		t.Error("the page scrolls sideways at 320 px")
	}
}

func testUnknownAgent(t *testing.T, b *consoletest.Browser) {
	s := newSite(t)
	p := b.Open(t, s.URL+"/call/nobody")
	var heading string
	p.Eval(`document.querySelector('h1').textContent`, &heading)
	if want := "Nobody answers here"; heading != want {
		t.Errorf("heading: got %q, want %q", heading, want)
	}
	shoot(t, p, "unknown")
}

func TestCallPageMicrophoneRefused(t *testing.T) {
	b := consoletest.Start(t, consoletest.Options{RefuseMicrophone: true})
	s := newSite(t)
	p := b.Open(t, s.URL+"/call/demo")
	p.Click("Call")
	got := p.WaitStatus("the refusal", soon, func(s consoletest.Status) bool { return s.State == "failed" })
	if !strings.Contains(got.Notice, "did not let this page use the microphone") {
		t.Errorf("notice: got %q, want it to say that the microphone was refused", got.Notice)
	}
	shoot(t, p, "refused")
	p.Click("Continue without microphone")
	p.WaitStatus("a call by keys", soon, live)
	p.Wait("reports of what was played", soon, func() bool { return len(s.peer.of("played")) >= 2 })
}
