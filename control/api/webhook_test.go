package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/agent/effect"
	"parley/control/signature"
)

// Send implements [effect.HTTP]: webhooks reach nobody, who answers by the path.
func (p *plane) Send(_ context.Context, r effect.Request) (effect.Response, error) {
	p.sent = append(p.sent, r)
	switch r.URL.Path {
	case "/refused":
		return effect.Response{}, fmt.Errorf("%w: address", effect.ErrRefused)
	case "/down":
		return effect.Response{Status: 503}, nil
	}
	return effect.Response{Status: 204}, nil
}

func TestWebhooks(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	made := p.want(201, "POST", "/v1/webhooks", key, `{"name":"crm","url":"https://crm.example/hook?x=1","events":["node_changed"],
		"headers":{"authorization":"Bearer canary-plain","x-key":"k {secret:crm}"},"timeout_seconds":3}`)
	path, secret := "/v1/webhooks/"+made["id"].(string), made["secret"].(string)
	if !strings.HasPrefix(secret, "whsec_") || made["max_attempts"] != 8.0 || made["enabled"] != true {
		t.Errorf("made %v", made)
	}
	if got := fmt.Sprint(made["headers"]); got != "map[Authorization:[hidden] X-Key:k {secret:crm}]" {
		t.Errorf("headers are shown as %s", got)
	}
	r, got := p.do("GET", path, key, "")
	if got["secret"] != nil || r.Header.Get("ETag") != `"1"` {
		t.Errorf("read: %v, ETag %s", got, r.Header.Get("ETag"))
	}
	p.want(412, "PATCH", path, key, `{"name":"x"}`, "If-Match", `"7"`)
	got = p.want(200, "PATCH", path, key, `{"name":"CRM","headers":{"Authorization":"[hidden]"}}`, "If-Match", `"1"`)
	if got["name"] != "CRM" || got["url"] != "https://crm.example/hook?x=1" || fmt.Sprint(got["headers"]) != "map[Authorization:[hidden]]" {
		t.Errorf("changed: %v", got)
	}
	p.want(412, "POST", path+"/rotate", key, `{}`, "If-Match", `"1"`)
	got = p.want(200, "POST", path+"/rotate", key, `{"overlap_seconds":60}`)
	second := got["secret"].(string)
	if second == secret || got["old_secret_until"] == nil {
		t.Errorf("rotated: %v", got)
	}
	if got = p.want(200, "POST", path+"/test", key, ""); got["delivered"] != true || got["response_status"] != 204.0 {
		t.Errorf("test: %v", got)
	}
	sent := p.sent[0]
	for name, s := range map[string]string{"old": secret, "new": second} {
		if err := signature.Verify(sent.Header.Get(signature.Header), sent.Body, time.Now(), signature.Tolerance, s); err != nil {
			t.Errorf("with the %s secret: %v", name, err)
		}
	}
	if sent.Header.Get("Authorization") != "Bearer canary-plain" || sent.Header.Get("Parley-Event") != "test" {
		t.Errorf("sent with %v", sent.Header)
	}
	p.want(200, "POST", path+"/rotate", key, `{"overlap_seconds":0}`)
	p.want(200, "POST", path+"/test", key, "")
	if n := strings.Count(p.sent[1].Header.Get(signature.Header), "v1="); n != 1 {
		t.Errorf("%d signatures after the overlap", n)
	}
	p.hides(secret, second, "canary-plain")
	if got := p.want(200, "GET", path+"/deliveries?status=dead", key, ""); fmt.Sprint(got["items"]) != "[]" {
		t.Errorf("deliveries: %v", got)
	}
	if got := p.want(202, "POST", path+"/replay", key, ""); got["replayed"] != 0.0 {
		t.Errorf("replay: %v", got)
	}
	p.want(204, "DELETE", path, key, "")
	p.want(404, "GET", path, key, "")
	p.want(404, "POST", path+"/replay", key, "")
}

// hides looks for secrets in rows and logs.
func (p *plane) hides(secrets ...string) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.SuperURL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(p.t.Context())
	for _, s := range secrets {
		var n int
		err := conn.QueryRow(p.t.Context(), `SELECT count(*) FROM webhooks w WHERE position(convert_to($1, 'UTF8') IN w.headers || w.secret || coalesce(w.old_secret, '')) > 0
			OR (to_jsonb(w) - '{headers,secret,old_secret}'::text[])::text LIKE '%' || $1 || '%'`, s).Scan(&n)
		if err != nil || n > 0 {
			p.t.Errorf("%d rows hold a secret in clear (%v)", n, err)
		}
		if strings.Contains(p.log.String(), s) {
			p.t.Error("a log line holds a secret")
		}
	}
}

func TestWebhookRefusals(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	for name, body := range map[string]string{
		"no-name":        `{"url":"https://a.example"}`,
		"no-url":         `{"name":"a"}`,
		"scheme":         `{"name":"a","url":"ftp://a.example"}`,
		"password":       `{"name":"a","url":"https://u:p@a.example"}`,
		"fragment":       `{"name":"a","url":"https://a.example/#x"}`,
		"type":           `{"name":"a","url":"https://a.example","events":["no type"]}`,
		"our-header":     `{"name":"a","url":"https://a.example","headers":{"parley-signature":"x"}}`,
		"host-header":    `{"name":"a","url":"https://a.example","headers":{"Host":"x"}}`,
		"header-name":    `{"name":"a","url":"https://a.example","headers":{"a b":"x"}}`,
		"header-lines":   `{"name":"a","url":"https://a.example","headers":{"A":"x\r\nB: y"}}`,
		"secret-ref":     `{"name":"a","url":"https://a.example","headers":{"A":"{secret: x}"}}`,
		"nothing-hidden": `{"name":"a","url":"https://a.example","headers":{"A":"[hidden]"}}`,
		"timeout":        `{"name":"a","url":"https://a.example","timeout_seconds":31}`,
		"attempts":       `{"name":"a","url":"https://a.example","max_attempts":0}`,
	} {
		if r, got := p.do("POST", "/v1/webhooks", key, body); r.StatusCode != 422 {
			t.Errorf("%s: %d %v", name, r.StatusCode, got)
		}
	}
	for path, want := range map[string]string{"/refused": "refused: address", "/down": "HTTP 503"} {
		made := p.want(201, "POST", "/v1/webhooks", key, `{"name":"a","url":"https://a.example`+path+`"}`)
		got := p.want(200, "POST", "/v1/webhooks/"+made["id"].(string)+"/test", key, "")
		if got["delivered"] != false || got["error"] != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	made := p.want(201, "POST", "/v1/webhooks", key, `{"name":"a","url":"https://a.example","headers":{"A":"{secret:none}"}}`)
	got := p.want(200, "POST", "/v1/webhooks/"+made["id"].(string)+"/test", key, "")
	if !strings.Contains(fmt.Sprint(got["error"]), "secret of header A") {
		t.Errorf("without its secret: %v", got)
	}
}

// sse reads a stream.
type sse struct {
	t    *testing.T
	body *bufio.Scanner
	last string // id seen
}

func (p *plane) follow(ctx context.Context, server *httptest.Server, query, last string) *sse {
	p.t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/v1/events"+query, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.demo.APIKey)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		p.t.Fatalf("status %d, %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	return &sse{p.t, bufio.NewScanner(res.Body), last}
}

// next returns the type and data of the next event.
func (s *sse) next() (typ, data string) {
	s.t.Helper()
	for s.body.Scan() {
		name, value, _ := strings.Cut(s.body.Text(), ": ")
		switch name {
		case "id":
			s.last = value
		case "event":
			typ = value
		case "data":
			data = value
		case "":
			if typ != "" {
				return typ, data
			}
		}
	}
	s.t.Fatalf("the stream ends: %v", s.body.Err())
	return "", ""
}

func TestEventStream(t *testing.T) {
	p := newPlane(t)
	flow := p.publish("ask", `{"nodes":[{"id":"q","type":"question","content":{"question":"?","variable":"v"},"connections":{"default":"m"}},{"id":"m","type":"message","content":{"text":"bye"}}]}`, true)
	server := httptest.NewServer(p.Handler())
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.o.Events.Run(ctx) }()
	defer func() { cancel(); <-done }()

	all := p.follow(ctx, server, "", "0")
	s := p.chat("", `{"flow_id":"`+flow+`"}`)
	first, _ := all.next()
	if first != "session_started" {
		t.Fatalf("first %s", first)
	}
	cut := all.last
	s.say(200, `{"input":"x"}`)
	var types []string
	for len(types) == 0 || types[len(types)-1] != "session_status_changed" {
		typ, data := all.next()
		types = append(types, typ)
		if !strings.Contains(data, `"event_type":"`+typ+`"`) || !strings.Contains(data, s.id) {
			t.Errorf("%s: %s", typ, data)
		}
	}
	again := p.follow(ctx, server, "", cut)
	for _, want := range types {
		if typ, _ := again.next(); typ != want {
			t.Errorf("after resumption %s, want %s", typ, want)
		}
	}
	only := p.follow(ctx, server, "?type=session_status_changed&session_id="+s.id, "0")
	if typ, _ := only.next(); typ != "session_status_changed" {
		t.Errorf("filtered: %s", typ)
	}
	if only.last != again.last {
		t.Errorf("the filtered stream is at %s, the other at %s", only.last, again.last)
	}
	page := p.want(200, "GET", "/v1/sessions/"+s.id+"/events?limit=1", p.demo.APIKey, "")
	if items := page["items"].([]any); len(items) != 1 || items[0].(map[string]any)["event_type"] != "session_started" || page["next"] != "1" {
		t.Errorf("the session's events: %v", page)
	}
	page = p.want(200, "GET", "/v1/calls/"+s.id+"/events?after=1", p.demo.APIKey, "")
	if items := page["items"].([]any); len(items) != len(types) {
		t.Errorf("%d events behind the first, want %v", len(items), types)
	}
	p.want(404, "GET", "/v1/sessions/01890000-0000-7000-8000-000000000000/events", p.demo.APIKey, "")
	p.want(422, "GET", "/v1/events", p.demo.APIKey, "", "Last-Event-ID", "x")
	p.want(422, "GET", "/v1/events?flow_id=x", p.demo.APIKey, "")
	p.want(401, "GET", "/v1/events", "", "")
	if r, _ := p.do("GET", "/v1/events/schema", "", ""); r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/schema+json" {
		t.Errorf("schema: %d %s", r.StatusCode, r.Header.Get("Content-Type"))
	}
}
