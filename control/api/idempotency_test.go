package api_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/api"
)

const replayed = "Idempotency-Replayed"

// named is do with an Idempotency-Key.
func (p *plane) named(name, method, path, key, body string) (*http.Response, string) {
	p.t.Helper()
	resp, _ := p.do(method, path, key, body, "Idempotency-Key", name)
	b := new(bytes.Buffer)
	_, _ = b.ReadFrom(resp.Body)
	return resp, b.String()
}

// super runs statements that no program may.
func (p *plane) super(sql string, args ...any) string {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.SuperURL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(p.t.Context())
	r, err := conn.Query(p.t.Context(), sql, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	got, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(got, "\n")
}

// A request that names itself takes effect once, and is answered the same; what
// is shown once is shown again to who asked, and stands nowhere in clear.
func TestIdempotency(t *testing.T) {
	p := newPlane(t)
	const body = `{"name":"once","scopes":["agents.read"]}`
	first, text := p.named("a-1", "POST", "/v1/keys", p.demo.APIKey, body)
	if first.StatusCode != 201 || first.Header.Get(replayed) != "" {
		t.Fatalf("first: %d %s", first.StatusCode, text)
	}
	second, same := p.named(`"a-1"`, "POST", "/v1/keys", p.demo.APIKey, body) // as a structured field
	if second.StatusCode != 201 || same != text || second.Header.Get(replayed) != "true" ||
		second.Header.Get("Content-Type") != first.Header.Get("Content-Type") || second.Header.Get("X-Request-Id") == first.Header.Get("X-Request-Id") {
		t.Errorf("second: %d %v %s, want %s", second.StatusCode, second.Header, same, text)
	}
	if n := p.super(`SELECT count(*)::text FROM api_keys WHERE name = 'once'`); n != "1" {
		t.Errorf("%s keys were made, want 1", n)
	}
	secret := text[strings.Index(text, "parley_"):]
	secret = secret[:strings.IndexByte(secret, '"')]
	if kept := p.super(`SELECT encode(answer, 'escape') || to_jsonb(k)::text FROM idempotency_keys k`); kept == "" || strings.Contains(kept, secret) || strings.Contains(kept, "a-1") {
		t.Errorf("kept in clear: %s", kept)
	}
	other := `{"name":"twice","scopes":["agents.read"]}`
	if resp, text := p.named("a-1", "POST", "/v1/keys", p.demo.APIKey, other); resp.StatusCode != 422 || !strings.Contains(text, `"idempotency_mismatch"`) {
		t.Errorf("another body: %d %s", resp.StatusCode, text)
	}
	// The name is that of one principal and one route.
	theirs := p.ensure("other@example.com", false)
	p.want(201, "POST", "/v1/keys", theirs.APIKey, other, "Idempotency-Key", "a-1")
	mine := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"admin","scopes":["keys.manage","agents.write","agents.read"]}`)["secret"].(string)
	p.want(201, "POST", "/v1/keys", mine, body, "Idempotency-Key", "a-1")
	if resp, _ := p.named("a-1", "POST", "/v1/agents", p.demo.APIKey, `{}`); resp.StatusCode != 422 || resp.Header.Get(replayed) != "" {
		t.Errorf("another route: %d", resp.StatusCode)
	}
	for _, bad := range []string{"", `""`, "with space", "ümlaut", strings.Repeat("x", 256), `a"b`} {
		if resp, text := p.named(bad, "POST", "/v1/keys", p.demo.APIKey, body); resp.StatusCode != 400 || !strings.Contains(text, `"idempotency_key"`) {
			t.Errorf("name %q: %d %s", bad, resp.StatusCode, text)
		}
	}
	// A day later it is a new request, and the old answer is deleted.
	p.super(`UPDATE idempotency_keys SET expires_at = now() RETURNING 'done'`)
	if resp, again := p.named("a-1", "POST", "/v1/keys", p.demo.APIKey, body); resp.StatusCode != 201 || again == text {
		t.Errorf("a day later: %d %s", resp.StatusCode, again)
	}
	if err := p.o.Idempotency.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := p.super(`SELECT count(*)::text FROM idempotency_keys`); n != "1" {
		t.Errorf("%s answers are kept after the sweep, want 1", n)
	}
}

// probe is a route whose handler a test writes.
func (p *plane) probe(pattern string, h http.HandlerFunc) {
	p.t.Helper()
	r := api.Route{Method: "POST", Pattern: pattern, Class: api.Tenanted, Permission: control.AgentsRead,
		Limit: api.Limit{N: 100, Per: time.Minute}, Body: 1 << 10}
	if err := p.Handle(r, h); err != nil {
		p.t.Fatal(err)
	}
}

// Only what tells what the request came to is given again.
func TestIdempotencyOfFailures(t *testing.T) {
	p := newPlane(t)
	calls, status := 0, 0
	p.probe("/v1/probe", func(w http.ResponseWriter, r *http.Request) {
		calls++
		if status == 0 {
			panic("boom")
		}
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(status)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 8))
	})
	for name, tt := range map[string]struct{ status, want, calls int }{
		"panic":       {0, 500, 2},
		"fault":       {500, 500, 2},
		"unavailable": {503, 503, 2},
		"step-up":     {403, 403, 2},
		"too-many":    {429, 429, 2},
		"made":        {201, 201, 1},
		"conflict":    {409, 409, 1},
		"invalid":     {422, 422, 1},
	} {
		calls, status = 0, tt.status
		for range 2 {
			resp, _ := p.named(name, "POST", "/v1/probe", p.demo.APIKey, `{}`)
			if again := resp.Header.Get(replayed) != ""; resp.StatusCode != tt.want || again && resp.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s: %d %v", name, resp.StatusCode, resp.Header)
			}
		}
		if calls != tt.calls {
			t.Errorf("%s: the handler ran %d times, want %d", name, calls, tt.calls)
		}
	}
	p.probe("/v1/long", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, control.MaxKeptAnswer+1)) })
	if resp, _ := p.named("l", "POST", "/v1/long", p.demo.APIKey, ""); resp.StatusCode != 200 {
		t.Errorf("a long answer: %d", resp.StatusCode)
	}
	if resp, text := p.named("l", "POST", "/v1/long", p.demo.APIKey, ""); resp.StatusCode != 409 || !strings.Contains(text, `"done"`) {
		t.Errorf("a long answer again: %d %s", resp.StatusCode, text)
	}
	if resp, _ := p.named("b", "POST", "/v1/probe", p.demo.APIKey, strings.Repeat("x", 2000)); resp.StatusCode != 413 {
		t.Errorf("a long body: %d", resp.StatusCode)
	}
}

// Of two at once, one is served; a process that died does not hold a name for long.
func TestIdempotencyInProgress(t *testing.T) {
	p := newPlane(t)
	entered, leave := make(chan bool), make(chan bool)
	p.probe("/v1/slow", func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-leave
	})
	done := make(chan int)
	ask := func() {
		resp, _ := p.named("s", "POST", "/v1/slow", p.demo.APIKey, `{}`)
		done <- resp.StatusCode
	}
	go ask()
	<-entered
	resp, text := p.named("s", "POST", "/v1/slow", p.demo.APIKey, `{}`)
	if resp.StatusCode != 409 || !strings.Contains(text, `"in_progress"`) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the second: %d %s", resp.StatusCode, text)
	}
	if resp, text := p.named("s", "POST", "/v1/slow", p.demo.APIKey, `{"x":1}`); resp.StatusCode != 422 {
		t.Errorf("another meanwhile: %d %s", resp.StatusCode, text)
	}
	// The first one's process is taken to be dead.
	p.super(`UPDATE idempotency_keys SET begun_at = now() - interval '31 seconds' RETURNING 'done'`)
	if resp, _ := p.named("s", "POST", "/v1/slow", p.demo.APIKey, `{"x":1}`); resp.StatusCode != 422 {
		t.Errorf("another after the lease: %d", resp.StatusCode)
	}
	go ask()
	<-entered
	leave <- true // either of the two: who lost the claim changes nothing
	leave <- true
	if a, b := <-done, <-done; a != 200 || b != 200 {
		t.Errorf("answers %d and %d", a, b)
	}
	if resp, _ := p.named("s", "POST", "/v1/slow", p.demo.APIKey, `{}`); resp.StatusCode != 200 || resp.Header.Get(replayed) != "true" {
		t.Errorf("after both: %d", resp.StatusCode)
	}
}

// Every POST that makes something takes a name; the walk finds new ones.
func TestEveryPostTakesANameOnce(t *testing.T) {
	p := newPlane(t)
	n := 0
	for _, r := range p.Routes() {
		if r.Method != "POST" || !strings.HasPrefix(r.Pattern, "/v1/") || r.Class != api.Tenanted && r.Class != api.Admin || r.Long {
			continue
		}
		if strings.HasSuffix(r.Pattern, "/logout") {
			continue // ends who asks
		}
		n++
		path, body := fill(r.Pattern), ""
		if r.Body > 0 {
			body = `{}`
		}
		name := uuid.NewString()
		first, text := p.named(name, "POST", path, p.demo.APIKey, body)
		second, same := p.named(name, "POST", path, p.demo.APIKey, body)
		if keeps := first.StatusCode < 500 && first.StatusCode != 401 && first.StatusCode != 403 && first.StatusCode != 415; keeps &&
			(second.StatusCode != first.StatusCode || same != text || second.Header.Get(replayed) != "true") {
			t.Errorf("%s: %d %s, then %d %s", r.Pattern, first.StatusCode, text, second.StatusCode, same)
		} else if keeps {
			if resp, text := p.named(name, "POST", path+"?x=1", p.demo.APIKey, body); resp.StatusCode != 422 || !strings.Contains(text, "idempotency_mismatch") {
				t.Errorf("%s with another query: %d %s", r.Pattern, resp.StatusCode, text)
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d routes", n)
	}
}

// fill puts an id that nothing has into a pattern.
func fill(pattern string) string {
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		switch {
		case part == "{number}":
			parts[i] = "1"
		case strings.HasPrefix(part, "{"):
			parts[i] = uuid.NewString()
		}
	}
	return strings.Join(parts, "/")
}

// Without its storage nothing is promised, and nothing done.
func TestIdempotencyWithoutStorage(t *testing.T) {
	p := newPlane(t)
	ran := false
	p.probe("/v1/ran", func(http.ResponseWriter, *http.Request) { ran = true })
	p.o.Idempotency.Store = away{p.o.Idempotency.Store}
	if resp, text := p.named("x", "POST", "/v1/ran", p.demo.APIKey, `{}`); resp.StatusCode != 503 || ran {
		t.Errorf("storage is away: %d %s, handler ran: %v", resp.StatusCode, text, ran)
	}
}

type away struct{ control.NamedStore }

func (away) ClaimRequest(context.Context, control.NamedRequest, time.Duration, time.Duration) (control.NamedRequest, error) {
	return control.NamedRequest{}, control.ErrUnavailable
}
