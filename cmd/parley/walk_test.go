package main

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"parley/control"
	"parley/control/api"
)

// setTarget gives a request its address as a server does.
func setTarget(r *http.Request, target string) (err error) {
	r.RequestURI = target
	r.URL, err = url.ParseRequestURI(target)
	return err
}

func body(a sending) (io.ReadCloser, int64) {
	if a.broken {
		return io.NopCloser(brokenBody{bytes.NewReader(a.raw)}), -1
	}
	if a.raw != nil {
		return io.NopCloser(bytes.NewReader(a.raw)), -1
	}
	return io.NopCloser(strings.NewReader(a.body)), int64(len(a.body))
}

var everyAnswer = []string{"X-Request-Id", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Content-Security-Policy",
	"Strict-Transport-Security", "Cross-Origin-Opener-Policy"}

// wantHeaders holds an answer to the headers that all have.
func wantHeaders(t *testing.T, what string, got told) {
	t.Helper()
	for _, h := range everyAnswer {
		if got.header.Get(h) == "" {
			t.Errorf("%s: %d without %s", what, got.status, h)
		}
	}
	if got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%s: pages may read it that nobody listed", what)
	}
}

// Every route of the whole program says who may come, how often and with how
// much, and is held to it.
func TestRouteWalk(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	methods, all := map[string][]string{}, http.NewServeMux()
	for _, r := range w.api.Routes() {
		methods[r.Pattern] = append(methods[r.Pattern], r.Method)
		all.Handle(r.Method+" "+r.Pattern, http.NotFoundHandler())
	}
	classes := map[api.Class]int{}
	for _, r := range w.api.Routes() {
		what, path, inside := r.Method+" "+r.Pattern, unknown(r.Pattern), r.Class == api.Internal
		classes[r.Class]++
		if r.Limit.N <= 0 || r.Limit.Per <= 0 || r.Body == 0 || r.Class == "" || r.Permission == "" {
			t.Errorf("%s: %+v", what, r)
		}
		if inside { // on the public listener there is nothing
			if got := w.ask(sending{method: r.Method, path: path}); got.status != 404 {
				t.Errorf("%s on the public listener: %d, want 404", what, got.status)
			}
			wantHeaders(t, what, w.ask(sending{method: "TRACE", path: path, internal: true}))
			continue
		}
		bare := w.ask(sending{method: r.Method, path: path})
		wantHeaders(t, what, bare)
		if want := 401; guarded(r) && (bare.status != want || bare.code != "unauthenticated") {
			t.Errorf("%s without credentials: %d %s, want %d", what, bare.status, bare.code, want)
		}
		if wrong := w.ask(sending{method: r.Method, path: path, bearer: "parley_aaaaaaaaaaaa_" + strings.Repeat("A", 43)}); guarded(r) && wrong.status != 401 {
			t.Errorf("%s with a key that there is not: %d, want 401", what, wrong.status)
		}
		w.tooLarge(r, path, made.APIKey)
		w.wrongType(r, path, made.APIKey)
		for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} {
			if slices.Contains(methods[r.Pattern], m) {
				continue
			}
			got := w.ask(sending{method: m, path: path, bearer: made.APIKey})
			if _, other := all.Handler(&http.Request{Method: m, URL: &url.URL{Path: path}}); other != "" {
				continue // a wider pattern takes the address with that method
			}
			if got.status != 405 && got.status != 404 || got.status == 405 && !w.allows(got, methods[r.Pattern]) {
				t.Errorf("%s %s: %d, Allow %q, want 405 and %v", m, path, got.status, got.header.Get("Allow"), methods[r.Pattern])
			}
		}
		w.forgive()
	}
	wantHeaders(t, "no address", w.ask(sending{method: "GET", path: "/nothing/here"}))
	for _, c := range []api.Class{api.Public, api.Webhook, api.Session, api.Tenanted, api.Internal} {
		if classes[c] == 0 {
			t.Errorf("no route of class %s was walked: %v", c, classes)
		}
	}
}

// allows reports whether an answer names the methods of its address, but for
// those of a wider pattern that takes the address too.
func (w *wired) allows(got told, methods []string) bool {
	allow := got.header.Get("Allow")
	return !slices.ContainsFunc(methods, func(m string) bool { return !strings.Contains(allow, m) })
}

// tooLarge sends one byte more than the route takes.
func (w *wired) tooLarge(r api.Route, path, key string) {
	w.t.Helper()
	if r.Body <= 0 || r.Class == api.Webhook || r.Permission == control.Platform || r.Method == "OPTIONS" {
		return
	}
	long := `{"name":"` + strings.Repeat("x", int(r.Body)-9) + `"}`
	got := w.ask(sending{method: r.Method, path: path, bearer: key, body: long})
	refused := got.status == 413 || r.Class == api.Session && !strings.HasPrefix(r.Pattern, "/chat/") && got.status >= 400 && got.status < 500
	if !refused {
		w.t.Errorf("%s %s with %d bytes: %d %s, want 413", r.Method, r.Pattern, len(long), got.status, got.code)
	}
	if got := w.ask(sending{method: r.Method, path: path, bearer: key, raw: []byte(long)}); got.status < 400 || got.status >= 500 {
		w.t.Errorf("%s %s with as many in chunks: %d", r.Method, r.Pattern, got.status)
	}
}

// wrongType sends what is no JSON, and says so.
func (w *wired) wrongType(r api.Route, path, key string) {
	w.t.Helper()
	if r.Body <= 0 || r.Class == api.Webhook || r.Permission == control.Platform || !strings.HasPrefix(r.Pattern, "/v1/") && !strings.HasPrefix(r.Pattern, "/chat/") {
		return
	}
	for _, kind := range []string{"text/plain", "application/xml", "multipart/form-data; boundary=x"} {
		got := w.ask(sending{method: r.Method, path: path, bearer: key, body: `{}`, header: http.Header{"Content-Type": {kind}}})
		if got.status != 415 {
			w.t.Errorf("%s %s as %s: %d %s, want 415", r.Method, r.Pattern, kind, got.status, got.code)
		}
	}
}

// A route that does not say all of itself ends the program's start.
func TestBareRouteEndsTheStart(t *testing.T) {
	w := newWired(t)
	whole := api.Route{Method: "GET", Pattern: "/v1/bare", Class: api.Tenanted, Permission: control.CallsRead, Limit: api.Limit{N: 1, Per: 1}, Body: api.NoBody}
	for name, spoil := range map[string]func(*api.Route){
		"class": func(r *api.Route) { r.Class = "" }, "permission": func(r *api.Route) { r.Permission = "" },
		"limit": func(r *api.Route) { r.Limit = api.Limit{} }, "body": func(r *api.Route) { r.Body = 0 },
		"open": func(r *api.Route) { r.Permission = control.Anyone }, "verifier": func(r *api.Route) { r.Class, r.Permission = api.Webhook, control.Anyone },
		"made-up": func(r *api.Route) { r.Permission = "calls.reed" },
	} {
		r := whole
		spoil(&r)
		if err := w.api.Handle(r, http.NotFoundHandler()); err == nil {
			t.Errorf("a route with a bad %s is taken", name)
		}
	}
}
