package api_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"parley/control"
	"parley/control/api"
)

// Streams end with the permission to follow them, whatever opened them: a key
// that is revoked, a browser that signs out.
func TestStreamsEndWithTheirPermission(t *testing.T) {
	p := newPlane(t).with(func(o *api.Options) { o.StayCheck = 20 * time.Millisecond })
	server := httptest.NewServer(p.Handler())
	defer server.Close()
	call, err := p.o.Calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: "front-desk"})
	if err != nil {
		t.Fatal(err)
	}
	key := p.demo.APIKey
	made := p.want(201, "POST", "/v1/keys", key, `{"name":"k","scopes":["calls.read","events.read","analytics.read"]}`)
	cookie := p.cookie()
	for _, path := range []string{"/v1/calls/live", "/v1/calls/" + call.ID.String() + "/live", "/v1/events", "/v1/analytics/live"} {
		bearer := p.opens(t, server, path, "Authorization", "Bearer "+made["secret"].(string))
		browser := p.opens(t, server, path, "Cookie", cookie)
		p.want(204, "DELETE", "/v1/keys/"+made["id"].(string), key, "")
		bearer.ends("forbidden")
		p.want(204, "POST", "/v1/auth/logout", "", "", "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
		browser.ends("forbidden")
		made = p.want(201, "POST", "/v1/keys", key, `{"name":"k","scopes":["calls.read","events.read","analytics.read"]}`)
		cookie = p.cookie()
	}
}

// An opened is a stream that is followed.
type opened struct {
	t     *testing.T
	path  string
	lines *bufio.Scanner
}

func (p *plane) opens(t *testing.T, server *httptest.Server, path, name, value string) *opened {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(name, value)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != 200 {
		t.Fatalf("%s with %s: %d", path, name, res.StatusCode)
	}
	return &opened{t, path, bufio.NewScanner(res.Body)}
}

func (o *opened) ends(reason string) {
	o.t.Helper()
	for o.lines.Scan() {
		if o.lines.Text() == `data: {"reason":"`+reason+`"}` {
			return
		}
	}
	o.t.Errorf("%s has not ended for %s: %v", o.path, reason, o.lines.Err())
}

// Where an agent's settings forbid it nobody listens in, and is told so: by what
// the call began with, and by what was decided since.
func TestListeningIsForbidden(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	agent := p.want(201, "POST", "/v1/agents", key, `{"name":"discreet","settings":{"kind":"prompt","prompt":"x","no_listening":true}}`)
	call := func() string {
		c, err := p.o.Calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: "discreet"})
		if err == nil {
			_, _, err = p.o.Calls.Begin(t.Context(), c.ID.String(), func(string) {})
		}
		if err != nil {
			t.Fatal(err)
		}
		return "/v1/calls/" + c.ID.String() + "/listen"
	}
	refused := func(path string) {
		t.Helper()
		if no := p.want(403, "GET", path, key, ""); !strings.Contains(no["detail"].(string), "listen in") {
			t.Errorf("refused for %v", no["detail"])
		}
	}
	began := call()
	refused(began)
	path := "/v1/agents/" + agent["id"].(string)
	p.want(200, "PATCH", path, key, `{"settings":{"kind":"prompt","prompt":"x"}}`)
	refused(began) // its caller was told otherwise
	open := call()
	p.want(200, "PATCH", path, key, `{"settings":{"kind":"prompt","prompt":"x","no_listening":true}}`)
	refused(open)
}
