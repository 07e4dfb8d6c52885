package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/control/console/consoletest"
	"parley/media"
)

// Time that a test gives a page, on a slow machine that does other things too.
const (
	pageSoon = 15 * time.Second
	pageTurn = 40 * time.Second // the agent says its longest sentence, or asks again
)

// TestBrowser places calls from a real browser to a real gateway, with local
// vendors and a spoken microphone.
func TestBrowser(t *testing.T) {
	g := startPageGateway(t)
	b := consoletest.Start(t, consoletest.Options{})
	for _, tt := range []struct {
		name string
		test func(*testing.T, *browserSite)
	}{
		{"by-voice", testBrowserVoice},
		{"interruption", testBrowserInterruption},
		{"by-keys-and-text", testBrowserKeys},
		{"sign-in", testBrowserSignIn},
		{"two-tabs", testBrowserTwoTabs},
		{"unknown-agent", testBrowserUnknown},
		{"reload", testBrowserReload},
		{"network-lost", testBrowserResume},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, &browserSite{g, b}) })
	}
}

type browserSite struct {
	*pageGateway
	browser *consoletest.Browser
}

// call opens the agent's page with a microphone that waits for Say.
func (s *browserSite) open(t *testing.T, agent string) *consoletest.Page {
	t.Helper()
	return s.browser.OpenSpeaking(t, s.URL+"/call/"+agent)
}

// asked waits until the agent's words have been heard to their end.
func asked(p *consoletest.Page, words string) {
	p.WaitLog("the agent to have said: "+words, pageTurn, func(l []consoletest.Item) bool {
		i := len(l) - 1
		return i >= 0 && l[i].Speaker == "agent" && l[i].State == "heard" && strings.Contains(l[i].Text, words)
	})
}

// understood waits until the caller's last words are final and hold words.
func understood(p *consoletest.Page, words string) {
	p.WaitLog("the caller understood: "+words, pageSoon, func(l []consoletest.Item) bool {
		return slices.ContainsFunc(l, func(i consoletest.Item) bool {
			return i.Speaker == "caller" && i.State == "final" && strings.Contains(strings.ToLower(i.Text), words)
		})
	})
}

func ended(p *consoletest.Page) {
	p.WaitStatus("the end", pageTurn, func(s consoletest.Status) bool { return s.State == "ended" })
}

// shoot keeps a picture of the page where PARLEY_SCREENSHOTS says.
func shoot(p *consoletest.Page, name string) {
	if dir := os.Getenv("PARLEY_SCREENSHOTS"); dir != "" {
		p.Screenshot(filepath.Join(dir, name+".png"))
	}
}

func testBrowserVoice(t *testing.T, s *browserSite) {
	p := s.open(t, "front-desk")
	p.Record()
	p.Click("Call")
	for _, turn := range []struct{ agent, caller, word string }{
		{"or to speak to a person?", "book a table", "table"},
		{"For how many people?", "four", "four"},
		{"from Tuesday to Sunday.", "friday", "friday"},
		{"Is that right?", "yes", "yes"},
		{"anything else I can do for you?", "no", "no"},
	} {
		before := len(p.Recording())
		asked(p, turn.agent)
		if turn.caller == "friday" {
			heardInPage(t, p.Recording()[before:], "for which day we are open from tuesday to sunday")
		}
		p.Say(spoken(t, turn.caller))
		understood(p, turn.word)
		shoot(p, "voice-"+turn.word)
	}
	if got := p.Status(); got.LatencyMS <= 0 || got.LatencyMS > 10_000 {
		t.Errorf("status: latency %d ms, want one", got.LatencyMS)
	}
	ended(p)
	shoot(p, "voice-ended")
	items := p.Log()
	if last := items[len(items)-1]; last.State != "heard" || !strings.HasSuffix(last.Text, "Goodbye.") {
		t.Errorf("last words: got %+v, want a goodbye that was heard", last)
	}
	if got := p.Problems(); len(got) != 0 {
		t.Errorf("console: %q, want nothing", got)
	}

	c := s.endedCall(t, p)
	if c.Status != "ended" || c.EndReason != "done" || !c.Recorded || c.Carrier != "webrtc" || c.AnsweredAt == nil || c.EndedAt == nil {
		t.Errorf("call: got %+v, want an ended, recorded one with reason done", c)
	}
	turns := s.turns(t, c.ID)
	if said := said(turns, "agent"); !strings.Contains(said, "Your table for 4 on Friday is booked.") {
		t.Errorf("turns: the agent said %q, want a booked table for 4 on Friday", said)
	}
	if said := strings.ToLower(said(turns, "caller")); !strings.Contains(said, "table") || !strings.Contains(said, "friday") {
		t.Errorf("turns: the caller said %q", said)
	}
	for _, turn := range turns {
		if turn.Speaker == "agent" && turn.Heard != turn.Generated {
			t.Errorf("turn %d: heard %q of %q, want all of it", turn.Index, turn.Heard, turn.Generated)
		}
	}
	recordingComplete(t, s, c)
}

// recordingComplete checks that the call's recording is as long as the call,
// with a voice in both channels.
func recordingComplete(t *testing.T, s *browserSite, c callRow) {
	t.Helper()
	rate, channels, pcm, err := media.ReadWAV(bytes.NewReader(s.get(t, "/v1/calls/"+c.ID+"/recording")))
	if err != nil || channels != 2 {
		t.Fatalf("recording: %d channels, %v", channels, err)
	}
	length := time.Duration(len(pcm)/2) * time.Second / time.Duration(rate)
	if lasted := c.EndedAt.Sub(*c.AnsweredAt); (length - lasted).Abs() > 2*time.Second {
		t.Errorf("recording: %v of a call of %v", length, lasted)
	}
	var peak [2]int16
	for i, v := range pcm {
		peak[i%2] = max(peak[i%2], v)
	}
	if peak[0] < 1000 || peak[1] < 1000 {
		t.Errorf("recording: peaks %v, want a voice in both channels", peak)
	}
}

// testBrowserInterruption cuts the long answer short by voice.
func testBrowserInterruption(t *testing.T, s *browserSite) {
	p := s.open(t, "front-desk")
	p.Record()
	p.Click("Call")
	asked(p, "or to speak to a person?")
	p.Say(spoken(t, "opening hours"))
	p.WaitLog("half a sentence", pageTurn, func(l []consoletest.Item) bool {
		i := len(l) - 1
		return l[i].State == "speaking" && strings.Contains(l[i].Text, "lunch")
	})
	p.Say(spoken(t, "goodbye"))
	shoot(p, "interruption-said")
	items := p.WaitLog("the cut", pageSoon, func(l []consoletest.Item) bool {
		return slices.ContainsFunc(l, func(i consoletest.Item) bool { return i.Speaker == "agent" && i.State == "cut" })
	})
	shoot(p, "interruption-cut")
	cut := items[slices.IndexFunc(items, func(i consoletest.Item) bool { return i.State == "cut" })]
	if !strings.HasPrefix(cut.Text, "We are open from Tuesday to Sunday.") || !strings.HasSuffix(cut.Unheard, "weather allows it.") {
		t.Errorf("cut: heard %q, unheard %q, want the beginning and the end of the opening hours", cut.Text, cut.Unheard)
	}
	ended(p)
	shoot(p, "interruption-ended")

	c := s.endedCall(t, p)
	for _, turn := range s.turns(t, c.ID) {
		if turn.Interrupted && (turn.Heard != cut.Text || !strings.HasPrefix(turn.Generated, turn.Heard)) {
			t.Errorf("turn: heard %q, want what the page shows, %q", turn.Heard, cut.Text)
		}
	}
	if said := said(s.turns(t, c.ID), "agent"); strings.Contains(said, "weather allows it") {
		t.Errorf("transcript: %q holds what nobody heard", said)
	}
}

// testBrowserKeys completes the flow without a word, by keys alone: keypad,
// text box, and the keyboard to reach them.
func testBrowserKeys(t *testing.T, s *browserSite) {
	p := s.open(t, "front-desk")
	p.Press("\t\r") // the first stop is the Call button
	asked(p, "or to speak to a person?")
	p.Click("Keypad")
	p.Click("2")
	shoot(p, "keys-keypad")
	asked(p, "For how many people?")
	p.Fill("Message", "six\r")
	asked(p, "from Tuesday to Sunday.")
	p.Fill("Message", "saturday please\r")
	asked(p, "Is that right?")
	shoot(p, "keys-text")
	if items := p.Log(); !strings.Contains(items[len(items)-1].Text, "a table for 6 on Saturday") {
		t.Errorf("last words: got %+v, want a table for 6 on Saturday read back", items[len(items)-1])
	}
	p.Click("Hang up")
	ended(p)
	c := s.endedCall(t, p)
	if c.Status != "ended" || c.EndReason != "caller" {
		t.Errorf("call: status %q, reason %q, want ended by the caller", c.Status, c.EndReason)
	}
	var inputs []string
	for _, turn := range s.turns(t, c.ID) {
		if turn.Speaker == "caller" {
			inputs = append(inputs, turn.Input)
		}
	}
	if want := []string{"dtmf", "text", "text"}; !slices.Equal(inputs, want) {
		t.Errorf("inputs: got %q, want %q", inputs, want)
	}
	if got := p.Problems(); len(got) != 0 {
		t.Errorf("console: %q, want nothing", got)
	}
}

func testBrowserUnknown(t *testing.T, s *browserSite) {
	p := s.open(t, "nobody-here")
	var heading string
	p.Eval(`document.querySelector('h1').textContent`, &heading)
	if want := "Nobody answers here"; heading != want {
		t.Errorf("heading: got %q, want %q", heading, want)
	}
	resp, err := http.Get(s.URL + "/call/nobody-here")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status: got %d, want 404", resp.StatusCode)
	}
}

// testBrowserSignIn calls an agent that is not public.
func testBrowserSignIn(t *testing.T, s *browserSite) {
	s.cloneAgent(t, "front-desk", "back-office")
	p := s.open(t, "back-office")
	p.Click("Call")
	p.Fill("Email", s.AdminEmail)
	shoot(p, "sign-in")
	p.Fill("Password", "wrong\r")
	p.Wait("words about a wrong password", pageSoon, func() bool {
		return slices.ContainsFunc(p.Nodes(), func(n consoletest.Node) bool { return n.Role == "alert" })
	})
	shoot(p, "sign-in-wrong")
	p.Eval(`document.getElementById('password').value = ''`, nil)
	p.Fill("Password", s.AdminPassword+"\r")
	asked(p, "or to speak to a person?")
	p.Click("Hang up")
	ended(p)
	if c := s.endedCall(t, p); c.Status != "ended" {
		t.Errorf("call: status %q, want ended", c.Status)
	}
}

// testBrowserTwoTabs holds two calls from one browser at once.
func testBrowserTwoTabs(t *testing.T, s *browserSite) {
	first, second := s.open(t, "front-desk"), s.open(t, "front-desk")
	first.Click("Call")
	second.Click("Call")
	asked(first, "or to speak to a person?")
	asked(second, "or to speak to a person?")
	first.Fill("Message", "book a table\r")
	asked(first, "For how many people?")
	if items := second.Log(); strings.Contains(fmt.Sprint(items), "how many") {
		t.Errorf("second tab: got %+v of the first tab's call", items)
	}
	first.Click("Hang up")
	ended(first)
	second.Fill("Message", "opening hours\r")
	second.WaitLog("the second call to go on", pageSoon, func(l []consoletest.Item) bool {
		return strings.Contains(l[len(l)-1].Text, "We are open")
	})
	second.Click("Hang up")
	ended(second)
}

// testBrowserReload reloads the page amid a call: that ends it, at once.
func testBrowserReload(t *testing.T, s *browserSite) {
	p := s.open(t, "front-desk")
	p.Click("Call")
	asked(p, "or to speak to a person?")
	p.Eval("void setTimeout(() => location.reload())", nil)
	if got := s.endedCall(t, p).EndReason; got != "caller" {
		t.Errorf("reason: got %q, want caller", got)
	}
	p.WaitStatus("a fresh page", pageSoon, func(s consoletest.Status) bool { return s.State == "idle" })
	p.Click("Call")
	asked(p, "or to speak to a person?")
	p.Click("Hang up")
	ended(p)
}

// testBrowserResume loses the network in the midst of the flow: the page takes
// the same call up again, at the same question.
func testBrowserResume(t *testing.T, s *browserSite) {
	p := s.open(t, "front-desk")
	p.Click("Call")
	asked(p, "or to speak to a person?")
	before := s.lastCall(t)
	p.Fill("Message", "book a table\r")
	asked(p, "For how many people?")
	p.LosePackets(100)
	p.WaitStatus("the call again", pageTurn, func(s consoletest.Status) bool { return s.State == "reconnecting" })
	shoot(p, "resume-reconnecting")
	p.LosePackets(0)
	p.WaitLog("the question again", pageTurn, func(l []consoletest.Item) bool {
		i := len(l) - 1
		return l[i].Speaker == "agent" && l[i].State == "heard" && strings.Contains(l[i].Text, "how many people")
	})
	p.WaitStatus("the call again", pageTurn, func(s consoletest.Status) bool { return s.State == "listening" })
	p.Say(spoken(t, "four"))
	asked(p, "from Tuesday to Sunday.")
	shoot(p, "resume-on")
	if after := s.lastCall(t); after.ID != before.ID {
		t.Errorf("call: got a new one, %s, want %s to go on", after.ID, before.ID)
	}
	p.Click("Hang up")
	ended(p)
	if c := s.endedCall(t, p); c.ID != before.ID || c.Status != "ended" {
		t.Errorf("call: got %+v, want %s ended", c, before.ID)
	}
}

// --- the gateway ---

// A pageGateway is the whole program, run in this process.
type pageGateway struct {
	devFile
	stop func() int // ends it and returns its exit status
}

// startPageGateway runs parley dev on a free port and a data folder of its own,
// and ends it with the test.
func startPageGateway(t *testing.T) *pageGateway {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "parley-data-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the database runs as another user
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	ctx, cancel := context.WithCancel(context.Background())
	exited := make(chan int, 1)
	var out, log lockedBuffer
	go func() {
		exited <- run(ctx, []string{"dev", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"},
			stdio{strings.NewReader(""), &out, &log})
	}()
	g := &pageGateway{}
	g.stop = sync.OnceValue(func() int { cancel(); return <-exited })
	t.Cleanup(func() {
		if status := g.stop(); status != exitOK {
			t.Errorf("exit status: got %d, want 0", status)
		}
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", log.String())
		}
	})
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(out.String(), "Parley is ready") {
		if time.Now().After(deadline) {
			t.Fatalf("the gateway did not start:\n%s", log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	b, err := os.ReadFile(filepath.Join(data, "dev.json"))
	if err == nil {
		err = json.Unmarshal(b, &g.devFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A lockedBuffer takes what several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// --- speech ---

// spoken makes a voice that says text, at the page's rate.
func spoken(t *testing.T, text string) []int16 {
	t.Helper()
	file := filepath.Join(t.TempDir(), "speech.wav")
	if out, err := exec.Command("flite", "-voice", "slt", "-t", text, "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("flite: %v\n%s\ninstall it: apt-get install flite", err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rate, channels, pcm, err := media.ReadWAV(f)
	if err != nil || rate != consoletest.RecordRate || channels != 1 {
		t.Fatalf("flite: %d Hz, %d channels, %v", rate, channels, err)
	}
	return pcm
}

// heardInPage checks by a recognizer, which knows a few sentences only, that
// the recording says want.
func heardInPage(t *testing.T, pcm []int16, want string) {
	t.Helper()
	dir := t.TempDir()
	wav, grammar := filepath.Join(dir, "heard.wav"), filepath.Join(dir, "heard.gram")
	text := "#JSGF V1.0;\ngrammar heard;\npublic <heard> = " + strings.Join([]string{want,
		"for how many people", "is that right", "would you like the opening hours",
		"shall i connect you to a person now", "your table is booked", "thank you for calling goodbye"}, " | ") + ";\n"
	if err := os.WriteFile(wav, consoletest.WAV(t, consoletest.RecordRate, pcm), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(grammar, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pocketsphinx_continuous", "-infile", wav, "-jsgf", grammar, "-logfn", os.DevNull).Output()
	if err != nil {
		t.Fatalf("pocketsphinx_continuous: %v; install it: apt-get install pocketsphinx pocketsphinx-en-us", err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
		t.Errorf("recorded in the page: %q, want %q", out, want)
	}
}

// --- records ---

type callRow struct {
	ID         string     `json:"id"`
	Carrier    string     `json:"carrier"`
	Status     string     `json:"status"`
	AnsweredAt *time.Time `json:"answered_at"`
	EndedAt    *time.Time `json:"ended_at"`
	EndReason  string     `json:"end_reason"`
	Recorded   bool       `json:"recorded"`
}

type turnRow struct {
	Index       int    `json:"index"`
	Speaker     string `json:"speaker"`
	Generated   string `json:"generated"`
	Heard       string `json:"heard"`
	Interrupted bool   `json:"interrupted"`
	Input       string `json:"input"`
}

func said(turns []turnRow, speaker string) string {
	var b strings.Builder
	for _, turn := range turns {
		if turn.Speaker == speaker {
			b.WriteString(turn.Heard + " ")
		}
	}
	return b.String()
}

// lastCall returns the newest call.
func (g *pageGateway) lastCall(t *testing.T) callRow {
	t.Helper()
	var list struct {
		Items []callRow `json:"items"`
	}
	g.read(t, "/v1/calls?limit=1", &list)
	if len(list.Items) != 1 {
		t.Fatalf("calls: got %d, want one", len(list.Items))
	}
	return list.Items[0]
}

// endedCall returns the newest call once it has ended.
func (g *pageGateway) endedCall(t *testing.T, p *consoletest.Page) (c callRow) {
	t.Helper()
	p.Wait("the call's records", pageSoon, func() bool { c = g.lastCall(t); return c.Status == "ended" })
	return c
}

func (g *pageGateway) turns(t *testing.T, call string) []turnRow {
	t.Helper()
	var list struct {
		Items []turnRow `json:"items"`
	}
	g.read(t, "/v1/calls/"+call+"/turns", &list)
	return list.Items
}

func (g *pageGateway) read(t *testing.T, path string, out any) {
	t.Helper()
	if err := json.Unmarshal(g.get(t, path), out); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
}

func (g *pageGateway) get(t *testing.T, path string) []byte { return g.do(t, "GET", path, nil, http.StatusOK) }

func (g *pageGateway) do(t *testing.T, method, path string, body any, want int) []byte {
	t.Helper()
	var in bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&in).Encode(body); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, &in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.APIKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s: %d %s, %v, want %d", method, path, resp.StatusCode, b, err, want)
	}
	return b
}

// cloneAgent makes an agent that is not public with another's settings.
func (g *pageGateway) cloneAgent(t *testing.T, from, name string) {
	t.Helper()
	var a struct {
		Settings json.RawMessage `json:"settings"`
	}
	g.read(t, "/v1/agents/"+from, &a)
	g.do(t, "POST", "/v1/agents", map[string]any{"name": name, "settings": a.Settings}, http.StatusCreated)
}
