package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"parley/examples/bookbot/library"
)

// A bookService is the library of the book bot, behind a gateway's internal URL.
type bookService struct {
	*httptest.Server
	handler atomic.Pointer[http.Handler]
}

func newBookService(t *testing.T) *bookService {
	s := &bookService{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := s.handler.Load(); h != nil {
			(*h).ServeHTTP(w, r)
			return
		}
		panic(http.ErrAbortHandler) // closed: the connection breaks
	}))
	t.Cleanup(s.Close)
	return s
}

// open answers from now on, with the key that the gateway has made.
func (s *bookService) open(t *testing.T, data string) {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(data, "internal.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := library.New(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := l.Handler()
	s.handler.Store(&h)
}

// away breaks every connection from now on.
func (s *bookService) away() { s.handler.Store(nil) }

const (
	bookFlow     = "../../examples/bookbot/flow.json"
	picturesFlow = "../../examples/bookbot/pictures.json"
	quizFlow     = "../../examples/bookbot/quiz.json"
)

// testBookBot publishes the example from the command line, chats by the API with
// the service behind it and without, and calls it.
func testBookBot(t *testing.T, e *endToEnd) {
	publish := func(args ...string) (int, string) {
		status, out, errs := parley(t, "", append([]string{"flow", "publish", "--data", e.data}, args...)...)
		return status, out + errs
	}
	status, out := publish("--agent", "bookbot", bookFlow, picturesFlow, quizFlow)
	if status != exitOK || !strings.Contains(out, "bookbot: version 1 is published") || !strings.Contains(out, "parley call bookbot") {
		t.Fatalf("status %d: %s", status, out)
	}
	if status, out := publish("--json", "--agent", "bookbot", bookFlow); status != exitOK || !strings.Contains(out, `"version":2`) {
		t.Errorf("again: status %d: %s", status, out)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"no file", []string{"/nonexistent.json"}, exitUsage, "no such file"},
		{"no id", []string{file(t, `{"nodes":[{"id":"a","type":"message","content":{"text":"x"}}]}`)}, exitUsage, `no "id"`},
		{"a fault", []string{file(t, `{"id":"faulty","nodes":[{"id":"a","type":"message","content":{"text":"x"},"connections":{"default":"b"}}]}`)}, exitFailed, "/nodes/0/connections/default"},
		{"a wrong key", []string{"--api-key", "wrong", bookFlow}, exitFailed, "does not take the API key"},
		{"nobody there", []string{"--url", "http://127.0.0.1:1", "--api-key", "x", bookFlow}, exitFailed, "start it with parley dev"},
		{"no key", []string{"--url", "http://127.0.0.1:1", bookFlow}, exitUsage, "PARLEY_API_KEY"},
	} {
		if status, out := publish(tt.args...); status != tt.status || !strings.Contains(out, tt.says) {
			t.Errorf("%s: status %d, want %d: %s", tt.name, status, tt.status, out)
		}
	}

	answers := []string{"11", "puppy", "dragon", "sailing ship", "yes", "the bus", "rain", "her brother"}
	said := e.chat(t, "ada", answers...)
	for _, want := range []string{"Welcome back, Ada. You have read 17 books so far.", "Your level is advanced.", "I have found "} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
	e.books.away()
	said = e.chat(t, "ada", append(append([]string{"Ada", "11", "chapters"}, answers[1:]...), "no")...)
	for _, want := range []string{"What's your name?", "I cannot mark your answers", "I cannot reach the library", "Goodbye, and enjoy your book.", "completed"} {
		if !strings.Contains(said, want) {
			t.Errorf("with the service away: no %q in:\n%s", want, said)
		}
	}
	status, out, errs := parley(t, "goodbye\n", "call", "--data", e.data, "--text", "bookbot")
	if status != exitOK || !strings.Contains(out, "What's your name?") || !strings.Contains(out, "agent    Goodbye, and enjoy your book.") {
		t.Errorf("status %d:\n%s%s", status, out, errs)
	}
}

// chat talks to the book bot by the API, and returns what it said and how the
// conversation stands.
func (g *gatewayRun) chat(t *testing.T, user string, answers ...string) string {
	t.Helper()
	var r struct {
		Token    string `json:"session_token"`
		Status   string
		Messages []struct{ Text string }
	}
	var said strings.Builder
	g.request(t, "POST", "/chat/start", map[string]any{"flow_id": "bookbot", "user_id": user}, &r)
	token := r.Token
	for i := 0; ; i++ {
		for _, m := range r.Messages {
			said.WriteString(m.Text + "\n")
		}
		if i == len(answers) || r.Status != "active" {
			return said.String() + r.Status
		}
		r.Messages = nil
		g.request(t, "POST", "/chat/sessions/"+token+"/interact", map[string]any{"input": answers[i]}, &r)
	}
}
