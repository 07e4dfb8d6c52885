package effect

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"parley/agent/flow"
)

// server is a scripted network with its own clock and secrets.
type server struct {
	now     time.Time
	answers []any // Response or error, in turn; the last repeats
	got     []Request
	slept   []time.Duration
	log     bytes.Buffer
}

func (s *server) Send(_ context.Context, r Request) (Response, error) {
	s.got = append(s.got, r)
	a := s.answers[min(len(s.got)-1, len(s.answers)-1)]
	if err, ok := a.(error); ok {
		return Response{}, err
	}
	return a.(Response), nil
}

const canary = `c4n/ry+"key`

func (s *server) Secret(_ context.Context, key string, to *url.URL) (Secret, error) {
	switch {
	case to.Hostname() != "api.example.com" || key == "none":
		return "", ErrNoSecret
	case key == "broken":
		return "", errors.New("the store says " + canary)
	}
	return canary, nil
}

func (s *server) performer() *Performer {
	m := &Memory{}
	return &Performer{HTTP: s, Secrets: s, Circuits: m, Answers: m, Tenant: "t",
		Jitter: func() float64 { return 1 },
		Log:    slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:    func() time.Time { return s.now },
		Sleep: func(ctx context.Context, d time.Duration) error {
			s.slept, s.now = append(s.slept, d), s.now.Add(d)
			return ctx.Err()
		}}
}

func status(n int) Response { return Response{Status: n, Header: http.Header{}} }

func ok(body string) Response {
	return Response{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}
}

func text(s string) []flow.Part { return []flow.Part{{Text: s}} }

func simple() flow.Call {
	return flow.Call{ID: "s:n:1", Method: "POST", URL: text("https://api.example.com/x"), Route: "POST https://api.example.com/x",
		Timeout: time.Second, Retry: flow.Retry{Attempts: 1}}
}

func TestRequest(t *testing.T) {
	s := &server{answers: []any{ok(`{"n": 1}`)}}
	c := simple()
	c.Query = []flow.Field{{Name: "q", Value: []flow.Part{{Text: "a b&"}, {Secret: "k"}}}}
	c.Headers = []flow.Field{{Name: "authorization", Value: []flow.Part{{Text: "Bearer "}, {Secret: "k"}}}, {Name: "X-Note", Value: text("a\r\nEvil: 1")}}
	c.Body, c.JSON = []flow.Part{{Text: `{"day":["{secret:k}"],"key":"`}, {Secret: "k"}, {Text: `"}`}}, true
	r := s.performer().Perform(t.Context(), c)
	if r.Outcome != "success" || string(r.Data) != `{"n": 1}` || r.ID != c.ID || r.Time() != s.now {
		t.Errorf("%+v", r)
	}
	q := s.got[0]
	if q.Method != "POST" || q.Timeout != time.Second || q.URL.Query().Get("q") != "a b&"+canary {
		t.Errorf("%s %s", q.Method, q.URL)
	}
	for name, want := range map[string]string{"Authorization": "Bearer " + canary, IdempotencyKey: "s:n:1", "Content-Type": "application/json", "X-Note": "aEvil: 1"} {
		if got := q.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var body struct {
		Day []string
		Key string
	}
	if err := json.Unmarshal(q.Body, &body); err != nil || body.Key != canary || body.Day[0] != "{secret:k}" {
		t.Errorf("%v: %s", err, q.Body)
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct{ url, want string }{
		{"/api/users/1%2F2?x=1", "http://inside.example:9/base/api/users/1%2F2?x=1"},
		{"//evil.example/x", ""}, {"/\\evil.example", ""}, {"ftp://x.example/", ""}, {"https://u:p@x.example/", ""}, {"https:///x", ""}, {"", ""},
		{"https://x.example/#frag", "https://x.example/"},
	}
	for _, tt := range tests {
		s := &server{answers: []any{ok(`1`)}}
		p := s.performer()
		p.Internal, _ = url.Parse("http://inside.example:9/base/")
		c := simple()
		c.URL = text(tt.url)
		r := p.Perform(t.Context(), c)
		got := ""
		if len(s.got) > 0 {
			got = s.got[0].URL.String()
		}
		if got != tt.want || (r.Outcome == "success") != (tt.want != "") {
			t.Errorf("%q goes to %q (%s), want %q", tt.url, got, r.Outcome, tt.want)
		}
	}
	s := &server{answers: []any{ok(`1`)}}
	c := simple()
	if c.URL = text("/api"); s.performer().Perform(t.Context(), c).Outcome != "error" || len(s.got) > 0 {
		t.Error("without an internal API the call was made")
	}
}

func TestRetries(t *testing.T) {
	after := func(v string) Response {
		return Response{Status: 429, Header: http.Header{"Retry-After": {v}}}
	}
	deadline := fmt.Errorf("send: %w", context.DeadlineExceeded)
	tests := []struct {
		name    string
		retry   flow.Retry
		answers []any
		outcome string
		sent    int
		slept   []time.Duration
	}{
		{"third-time", flow.Retry{Attempts: 3, Delay: time.Second}, []any{status(503), status(503), ok(`1`)}, "success", 3, []time.Duration{time.Second, time.Second}},
		{"never", flow.Retry{Attempts: 3}, []any{status(503)}, "error", 3, []time.Duration{0, 0}},
		{"timeout", flow.Retry{Attempts: 2}, []any{deadline}, "timeout", 2, []time.Duration{0}},
		{"unreachable", flow.Retry{Attempts: 2}, []any{errors.New("connection refused")}, "error", 2, []time.Duration{0}},
		{"client-error", flow.Retry{Attempts: 3}, []any{status(404)}, "error", 1, nil},
		{"chosen", flow.Retry{Attempts: 2, On: []string{"404"}}, []any{status(404), ok(`1`)}, "success", 2, []time.Duration{0}},
		{"not-chosen", flow.Retry{Attempts: 2, On: []string{"timeout"}}, []any{status(503)}, "error", 1, nil},
		{"policy", flow.Retry{Attempts: 3}, []any{fmt.Errorf("%w: address", ErrRefused)}, "error", 1, nil},
		{"backoff", flow.Retry{Attempts: 4, Delay: time.Second, Backoff: 3, Max: 5 * time.Second}, []any{status(500)}, "error", 4,
			[]time.Duration{time.Second, 3 * time.Second, 5 * time.Second}},
		{"retry-after", flow.Retry{Attempts: 2, Delay: time.Second}, []any{after("7"), ok(`1`)}, "success", 2, []time.Duration{7 * time.Second}},
		{"retry-after-date", flow.Retry{Attempts: 2}, []any{after("Thu, 01 Jan 2026 00:00:09 GMT"), ok(`1`)}, "success", 2, []time.Duration{9 * time.Second}},
		{"retry-after-too-long", flow.Retry{Attempts: 2, Max: 2 * time.Second}, []any{after("7"), ok(`1`)}, "error", 1, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &server{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), answers: tt.answers}
			c := simple()
			c.Retry = tt.retry
			r := s.performer().Perform(t.Context(), c)
			if r.Outcome != tt.outcome || len(s.got) != tt.sent || fmt.Sprint(s.slept) != fmt.Sprint(tt.slept) {
				t.Errorf("%s (%s) after %d requests and pauses %v, want %s, %d, %v", r.Outcome, r.Error, len(s.got), s.slept, tt.outcome, tt.sent, tt.slept)
			}
			for _, q := range s.got {
				if q.Header.Get(IdempotencyKey) != c.ID {
					t.Error("a try without the key")
				}
			}
		})
	}
}

func TestBreaker(t *testing.T) {
	s := &server{answers: []any{status(500), status(500), status(500), status(500), ok(`1`), ok(`2`)}}
	p := s.performer()
	c := simple()
	c.Breaker = &flow.Breaker{Failures: 3, Successes: 2, Timeout: 30 * time.Second}
	want := func(what, outcome string, sent int) {
		t.Helper()
		if r := p.Perform(t.Context(), c); r.Outcome != outcome || len(s.got) != sent {
			t.Errorf("%s: %s after %d requests, want %s after %d", what, r.Outcome, len(s.got), outcome, sent)
		}
	}
	for i := range 3 {
		want("closed", "error", i+1)
	}
	want("open", "error", 3)
	s.now = s.now.Add(30*time.Second - 1)
	want("still open", "error", 3)
	other := *p
	other.Tenant = "u"
	s.now = s.now.Add(1)
	want("failing probe", "error", 4)
	want("open again", "error", 4)
	if r := other.Perform(t.Context(), c); r.Outcome != "success" {
		t.Errorf("another tenant's circuit: %s", r.Outcome)
	}
	s.now = s.now.Add(30 * time.Second)
	want("first success", "success", 6)
	want("second success", "success", 7)
	s.answers = []any{status(500)}
	want("closed", "error", 8)
	want("closed", "error", 9)
}

func TestOneProbe(t *testing.T) {
	m, b, at := &Memory{}, flow.Breaker{Failures: 1, Successes: 1, Timeout: time.Minute}, time.Time{}
	m.Leave(t.Context(), "k", at, b, false)
	at = at.Add(time.Minute)
	probe, err := m.Enter(t.Context(), "k", at, b)
	if !probe || err != nil {
		t.Fatalf("%v, %v: want a probe", probe, err)
	}
	if _, err := m.Enter(t.Context(), "k", at.Add(time.Second), b); !errors.Is(err, ErrOpen) {
		t.Errorf("a second probe: %v", err)
	}
	if probe, err := m.Enter(t.Context(), "k", at.Add(time.Minute), b); !probe || err != nil {
		t.Errorf("after a probe that was lost: %v, %v", probe, err)
	}
}

func TestBreakerStopsRetries(t *testing.T) {
	s := &server{answers: []any{status(500)}}
	c := simple()
	c.Retry.Attempts = 9
	c.Breaker = &flow.Breaker{Failures: 2, Successes: 1, Timeout: time.Minute}
	s.performer().Perform(t.Context(), c)
	if len(s.got) != 2 {
		t.Errorf("%d requests, want 2", len(s.got))
	}
	s = &server{answers: []any{status(404)}}
	p := s.performer()
	for range 5 {
		p.Perform(t.Context(), c)
	}
	if len(s.got) != 5 {
		t.Error("a client's error opened the circuit")
	}
}

func TestKeptAnswers(t *testing.T) {
	s := &server{answers: []any{ok(`{"n":1}`), status(500)}}
	p := s.performer()
	c := simple()
	c.CacheTTL, c.Body = time.Minute, text("mine")
	p.Perform(t.Context(), c)
	if r := p.Perform(t.Context(), c); r.Outcome != "cached" || string(r.Data) != `{"n":1}` {
		t.Errorf("%+v", r)
	}
	other := c
	if other.Body = text("yours"); p.Perform(t.Context(), other).Outcome != "error" {
		t.Error("the answer to another question was given")
	}
	s.now = s.now.Add(time.Minute)
	if r := p.Perform(t.Context(), c); r.Outcome != "error" {
		t.Errorf("an answer was kept too long: %+v", r)
	}
}

// A canary goes out in every place, comes back in every form, and stands in no
// result, error or log.
func TestNothingOfASecretComesBack(t *testing.T) {
	echo := fmt.Sprintf(`{"a": ["x %s y"], "q": %q, %s: 1, "b": %q, "n": 12345}`, jsonText(canary), url.QueryEscape(canary), "\""+jsonText(canary)+"\"",
		base64.StdEncoding.EncodeToString([]byte(canary)))
	answers := []any{ok(echo), Response{Status: 200, Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte("<b>" + canary)},
		Response{Status: 500, Header: http.Header{}, Body: []byte(canary)}, errors.New("dial https://api.example.com/?k=" + canary), fmt.Errorf("%w %s", ErrRefused, canary)}
	for _, key := range []string{"k", "none", "broken"} {
		for _, a := range answers {
			s := &server{answers: []any{a}}
			c := simple()
			c.Headers = []flow.Field{{Name: "X-Key", Value: []flow.Part{{Secret: key}}}}
			r := s.performer().Perform(t.Context(), c)
			all := fmt.Sprintf("%+v %s", r, r.Data) + s.log.String()
			for _, form := range []string{canary, jsonText(canary), url.QueryEscape(canary), base64.StdEncoding.EncodeToString([]byte(canary))} {
				if strings.Contains(all, form) {
					t.Errorf("%s, %v: %s", key, a, all)
				}
			}
			if (key == "k") != (len(s.got) == 1) {
				t.Errorf("%s: %d requests", key, len(s.got))
			}
			if _, isText := a.(Response); isText && r.Outcome == "success" && !json.Valid(r.Data) {
				t.Errorf("not JSON: %s", r.Data)
			}
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %s %q", Secret(canary), Secret(canary), Secret(canary), Secret(canary), Secret(canary)); strings.Contains(s, "c4n") {
		t.Errorf("a secret prints as %s", s)
	}
	if b, _ := json.Marshal(map[string]any{"s": Secret(canary)}); strings.Contains(string(b), "c4n") {
		t.Errorf("a secret encodes as %s", b)
	}
}

func jsonText(s string) string {
	b, _ := json.Marshal(s)
	return string(b[1 : len(b)-1])
}

func TestSecretsStayAtTheirHosts(t *testing.T) {
	s := &server{answers: []any{ok(`1`)}}
	c := simple()
	c.URL = text("https://evil.example/")
	c.Headers = []flow.Field{{Name: "X-Key", Value: []flow.Part{{Secret: "k"}}}}
	r := s.performer().Perform(t.Context(), c)
	if r.Outcome != "error" || len(s.got) > 0 || !strings.Contains(r.Error, "k") {
		t.Errorf("%+v, %d requests", r, len(s.got))
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct{ kind, body, want string }{
		{"application/json; charset=utf-8", `[1]`, `[1]`}, {"application/problem+json", `{}`, `{}`}, {"", `{"a":1}`, `{"a":1}`},
		{"text/plain", `12`, `"12"`}, {"application/json", `{oops`, `"{oops"`}, {"text/html", `<p>`, "\"\\u003cp\\u003e\""}, {"", "", "null"},
	}
	for _, tt := range tests {
		if got := answer(Response{Header: http.Header{"Content-Type": {tt.kind}}, Body: []byte(tt.body)}); string(got) != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.kind, tt.body, got, tt.want)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := &Memory{}
	for i := range maxAnswers + 50 {
		m.Keep(t.Context(), fmt.Sprint(i), time.Time{}, time.Minute, nil)
	}
	for i := range maxCircuits + 50 {
		m.Leave(t.Context(), fmt.Sprint(i), time.Time{}, flow.Breaker{Failures: 9}, false)
	}
	if len(m.answers) > maxAnswers || len(m.circuits) > maxCircuits {
		t.Errorf("%d answers, %d circuits", len(m.answers), len(m.circuits))
	}
}

func TestOtherEffects(t *testing.T) {
	s := &server{}
	p := s.performer()
	if r := p.Perform(t.Context(), flow.Wait{ID: "w", After: time.Hour}); r.ID != "w" || r.Outcome != "timeout" || s.slept[0] != time.Hour {
		t.Errorf("%+v", r)
	}
	for _, e := range []flow.Effect{flow.SendDigits{ID: "d"}, flow.SwitchLanguage{}, flow.Emit{}} {
		if r := p.Perform(t.Context(), e); r.ID != "" {
			t.Errorf("%T came back", e)
		}
	}
	if r := p.Perform(t.Context(), flow.Model{ID: "m"}); r.ID != "m" || r.Outcome != "error" {
		t.Errorf("%+v", r)
	}
}
