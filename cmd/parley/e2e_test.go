package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/agent/providertest"
	"parley/media"
)

// TestEndToEnd holds calls over Twilio's protocol with the whole program.
func TestEndToEnd(t *testing.T) {
	b, books, box := newExchange(t), newBookService(t), newMailbox(t)
	hooks := httptest.NewServer(box)
	t.Cleanup(hooks.Close)
	g := startGateway(t, "--log-level", "warn", "--openai-api-key", providertest.Canary, "--openai-base-url", b.url+"/v1",
		"--deepgram-api-key", providertest.Canary, "--deepgram-base-url", b.url, "--internal-url", books.URL,
		"--egress-allow", strings.TrimPrefix(hooks.URL, "http://"))
	books.open(t, g.data)
	e := &endToEnd{gatewayRun: g, vendors: b, books: books, box: box, hooks: hooks.URL}
	for _, tt := range []struct {
		name string
		test func(*testing.T, *endToEnd)
	}{
		{"demo-by-voice", testDemoByVoice},
		{"interruption", testInterruption},
		{"prompt-agent", testPromptAgent},
		{"transfer", testTransfer},
		{"model-nodes", testModelNodes},
		{"after-call", testAfterCall},
		{"listening", testListening},
		{"vendor-faults", testVendorFaults},
		{"call-command", testCallCommand},
		{"example-scripts", testExampleScripts},
		{"book-bot", testBookBot},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, e) })
	}
}

type endToEnd struct {
	*gatewayRun
	vendors *exchange
	books   *bookService
	box     *mailbox // behind hooks, an address
	hooks   string
}

// A gatewayRun is parley dev, run in this process.
type gatewayRun struct {
	devFile
	data string
	log  *syncBuffer
}

// startGateway runs parley dev on a free port and a data folder of its own. It
// stops with the test, and must leave nothing behind.
func startGateway(t *testing.T, args ...string) *gatewayRun {
	t.Helper()
	before := runtime.NumGoroutine()
	dir, err := os.MkdirTemp("/tmp", "parley-e2e-") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the database may run as another user
		t.Fatal(err)
	}
	g := &gatewayRun{data: filepath.Join(dir, "d"), log: &syncBuffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	ready := &readyWriter{want: "Parley is ready", ready: make(chan struct{})}
	exited := make(chan int, 1)
	go func() {
		exited <- run(ctx, append([]string{"dev", "--data", g.data, "--listen", "127.0.0.1:0", "--admin-listen", "",
			"--max-late", "0"}, args...),
			stdio{strings.NewReader(""), ready, g.log})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case status := <-exited:
			if status != exitOK {
				t.Errorf("exit status of parley dev: %d", status)
			}
			nothingLeft(t, before, g.data)
		case <-time.After(time.Minute):
			t.Error("parley dev does not stop")
		}
		if t.Failed() {
			t.Logf("log of parley dev:\n%s", g.log.String())
		}
		if strings.Contains(g.log.String(), providertest.Canary) {
			t.Error("the log holds a vendor's key")
		}
		_ = os.RemoveAll(dir)
	})
	select {
	case <-ready.ready:
	case status := <-exited:
		exited <- status
		t.Fatalf("parley dev ended with %d:\n%s", status, g.log.String())
	case <-time.After(2 * time.Minute):
		t.Fatalf("parley dev is not ready:\n%s", g.log.String())
	}
	b, err := os.ReadFile(filepath.Join(g.data, "dev.json"))
	if err == nil {
		err = json.Unmarshal(b, &g.devFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// nothingLeft checks that no goroutine and no database outlives the program.
func nothingLeft(t *testing.T, before int, data string) {
	http.DefaultClient.CloseIdleConnections()
	left := runtime.NumGoroutine()
	for range 500 { // what was told to end needs a moment
		if left = runtime.NumGoroutine(); left <= before {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if left > before {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines are left, %d were before:\n%s", left, before, stacks[:runtime.Stack(stacks, true)])
	}
	if pids, _ := filepath.Glob(filepath.Join(data, "pg", "postmaster.pid")); len(pids) > 0 {
		t.Errorf("the database still runs: %v", pids)
	}
}

// A readyWriter closes ready when want was written.
type readyWriter struct {
	want  string
	ready chan struct{}
	seen  syncBuffer
	once  sync.Once
}

func (w *readyWriter) Write(p []byte) (int, error) {
	n, err := w.seen.Write(p)
	if strings.Contains(w.seen.String(), w.want) {
		w.once.Do(func() { close(w.ready) })
	}
	return n, err
}

// A syncBuffer may be written and read at once.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// request asks the API, and reads the answer into v.
func (g *gatewayRun) request(t *testing.T, method, path string, body, v any) {
	t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, g.URL+path, in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.APIKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s: %s", method, path, res.Status, b)
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = b
		return
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, b)
	}
}

type settings = map[string]any

// addAgent makes an agent.
func (g *gatewayRun) addAgent(t *testing.T, name string, s settings) {
	t.Helper()
	var out struct{}
	g.request(t, "POST", "/v1/agents", map[string]any{"name": name, "settings": s}, &out)
}

// flowID returns the demo flow's.
func (g *gatewayRun) flowID(t *testing.T) string {
	t.Helper()
	var out struct {
		Settings struct {
			FlowID string `json:"flow_id"`
		}
	}
	g.request(t, "GET", "/v1/agents/front-desk", nil, &out)
	return out.Settings.FlowID
}

// localDesk is the demo with the vendors of this machine.
func (e *endToEnd) localDesk(t *testing.T, name string) {
	e.addAgent(t, name, settings{"kind": "flow", "flow_id": e.flowID(t), "record": true,
		"stt": []settings{{"vendor": "pocketsphinx"}}, "tts": []settings{{"vendor": "flite"}}})
}

// A heldCall is a call that parley call has made.
type heldCall struct {
	status int
	shown  []shown
	report report
	errs   string
	rate   int
	caller []int16 // both sides as the caller's end heard them
	agent  []int16
}

// call runs parley call with a script over Twilio's protocol.
func (g *gatewayRun) call(t *testing.T, agent, script string, args ...string) heldCall {
	t.Helper()
	h, err := g.place(t.Context(), t.TempDir(), agent, script, args...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// place is call for goroutines, with files in dir.
func (g *gatewayRun) place(ctx context.Context, dir, agent, script string, args ...string) (h heldCall, err error) {
	path, wav := filepath.Join(dir, agent+".call"), filepath.Join(dir, agent+".wav")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		return h, err
	}
	var out, errs syncBuffer
	args = append([]string{"call", "--via", "twilio", "--data", g.data, "--json", "--script", path, "--record", wav, "--limit", "2m"}, args...)
	h.status = run(ctx, append(args, agent), stdio{strings.NewReader(""), &out, &errs})
	h.errs = errs.String()
	for line := range strings.Lines(out.String()) {
		var s shown
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return h, fmt.Errorf("parley call --json printed %q: %w", line, err)
		}
		h.shown = append(h.shown, s)
		if s.Report != nil {
			h.report = *s.Report
		}
	}
	f, err := os.Open(wav)
	if err != nil {
		return h, fmt.Errorf("no recording (%w): %s", err, h.errs)
	}
	defer f.Close()
	h.rate, h.caller, h.agent, err = readStereo(f)
	return h, err
}

// log is what the caller's terminal showed.
func (h heldCall) log() string {
	var b strings.Builder
	for _, s := range h.shown {
		fmt.Fprintf(&b, "%6.1f %-8s %s\n", float64(s.AtMS)/1000, s.Type, s.Text)
	}
	return b.String() + h.errs
}

func readStereo(r io.Reader) (rate int, left, right []int16, err error) {
	rate, channels, pcm, err := media.ReadWAV(r)
	if err != nil || channels != 2 {
		return 0, nil, nil, fmt.Errorf("recording of %d channels: %w", channels, err)
	}
	for i := 0; i < len(pcm); i += 2 {
		left, right = append(left, pcm[i]), append(right, pcm[i+1])
	}
	return rate, left, right, nil
}

type (
	storedCall struct {
		callRecord
		StartedAt  time.Time  `json:"started_at"`
		AnsweredAt *time.Time `json:"answered_at"`
		EndedAt    *time.Time `json:"ended_at"`
		Recorded   bool       `json:"recorded"`
		TransferTo string     `json:"transfer_to"`
		Outcome    string     `json:"transfer_outcome"`
	}
	storedTurn struct {
		Index       int                `json:"index"`
		Speaker     string             `json:"speaker"`
		Generated   string             `json:"generated"`
		Sent        string             `json:"sent"`
		Heard       string             `json:"heard"`
		Interrupted bool               `json:"interrupted"`
		Input       string             `json:"input"`
		Node        string             `json:"node"`
		StartMS     int64              `json:"start_ms"`
		EndMS       int64              `json:"end_ms"`
		Latency     map[string]float64 `json:"latency"`
	}
)

// stored reads what the newest call of an agent has left behind.
func (g *gatewayRun) stored(t *testing.T, agent string) (storedCall, []storedTurn) {
	t.Helper()
	var a struct{ ID string }
	g.request(t, "GET", "/v1/agents/"+agent, nil, &a)
	var calls struct{ Items []storedCall }
	g.request(t, "GET", "/v1/calls?limit=1&agent_id="+a.ID, nil, &calls)
	if len(calls.Items) != 1 {
		t.Fatalf("agent %s has %d calls", agent, len(calls.Items))
	}
	var turns struct{ Items []storedTurn }
	g.request(t, "GET", "/v1/calls/"+calls.Items[0].ID+"/turns", nil, &turns)
	return calls.Items[0], turns.Items
}

// --- vendors ---

// An exchange lets one address stand for many stand-ins: requests go to the one
// that is named as their model.
type exchange struct {
	url string

	mu     sync.Mutex
	routes map[string]*httputil.ReverseProxy
}

func newExchange(t *testing.T) *exchange {
	x := &exchange{routes: map[string]*httputil.ReverseProxy{}}
	s := httptest.NewServer(http.HandlerFunc(x.serve))
	x.url = s.URL
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return x
}

// connect has requests for model go to a stand-in.
func (x *exchange) connect(t *testing.T, model, to string) {
	t.Helper()
	u, err := url.Parse(strings.TrimSuffix(to, "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(u)
	p.FlushInterval = -1
	p.ErrorLog = log.New(io.Discard, "", 0)                                                          // that a stand-in cuts its answers is meant
	p.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // as the stand-in did
	x.mu.Lock()
	defer x.mu.Unlock()
	x.routes[model] = p
}

func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	model := r.URL.Query().Get("model")
	if r.Method == http.MethodPost {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		var in struct{ Model string }
		_ = json.Unmarshal(b, &in) // another body has no model
		model = in.Model
	}
	x.mu.Lock()
	p := x.routes[model]
	x.mu.Unlock()
	if p == nil {
		http.Error(w, "no stand-in for model "+model, http.StatusNotFound)
		return
	}
	p.ServeHTTP(w, r)
}
