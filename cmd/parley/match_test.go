package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"parley/control/api"
)

// unconditional lists routes that edit something and take no If-Match, each
// with the reason.
var unconditional = map[string]string{
	"PATCH /v1/auth/factors/passkeys/{id}": "a name, of one's own",
}

// matchElsewhere lists routes that take an If-Match and are no deed, each with
// the test that shows it.
var matchElsewhere = map[string]string{
	"DELETE /v1/agents/{agent}/draft": "the draft's last edit is tried by its PUT, which has the same check",
	"DELETE /v1/flows/{flow}/draft":   "the same",
}

// drafts are edits of what is nowhere in use, and leaves no entry.
func drafts() []deed {
	return []deed{
		{"POST /v1/flows", "", `{"name":"drafted","document":` + shortFlow + `}`, "flow", "key"},
		{"PUT /v1/flows/{flow}/draft", "", `{"document":` + shortFlow + `}`, "", "key"},
		{"POST /v1/agents", "", `{"name":"drafted","settings":{"kind":"prompt","prompt":"one"}}`, "agent", "key"},
		{"PUT /v1/agents/{agent}/draft", "", `{"settings":{"kind":"prompt","prompt":"two"}}`, "", "key"},
	}
}

// An editor holds what takes an If-Match to it, deed by deed.
type editor struct {
	w           *wired
	conditional map[string]bool // routes that take an If-Match, as their document says
	tried       map[string]bool
}

func (w *wired) editor(key string) *editor {
	w.t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
		}
	}
	if got := w.ask(sending{method: "GET", path: "/openapi.json", bearer: key}); json.Unmarshal([]byte(got.body), &doc) != nil {
		w.t.Fatalf("the API's document: %d %.200s", got.status, got.body)
	}
	e := &editor{w, map[string]bool{}, map[string]bool{}}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			for _, p := range op.Parameters {
				if p.Name == "If-Match" && p.In == "header" {
					e.conditional[strings.ToUpper(method)+" "+path] = true
				}
			}
		}
	}
	return e
}

// do refuses a deed that is based on what is long gone, or on nothing that
// there is, and then does it: on the ETag that its object has now, or on any.
func (e *editor) do(a deed, ids map[string]string, key string, cookie *string) told {
	e.w.t.Helper()
	if !e.conditional[a.route] {
		return e.w.do(a, ids, key, cookie)
	}
	e.tried[a.route] = true
	_, path, _ := strings.Cut(a.route, " ")
	now := e.w.do(deed{route: "GET " + strings.TrimSuffix(path, "/draft"), of: a.of, as: a.as}, ids, key, cookie)
	order := strings.HasPrefix(a.route, "POST /v1/calls/") // orders to a call: 409, with the call as it is
	tried := a
	tried.keep = ""
	for match, want := range map[string]int{`"999999"`: 412, "another": 412} {
		if order {
			want = map[string]int{`"999999"`: 409, "another": 422}[match]
		}
		got := e.w.do(tried, ids, key, cookie, match)
		if got.status == 404 && now.status == 404 {
			continue // nothing to edit yet
		}
		if got.status != want || want == 412 && got.code != "changed" {
			e.w.t.Errorf("%s with If-Match %s: %d %s, want %d", a.route, match, got.status, got.body, want)
		}
	}
	match := "*"
	if tag := now.header.Get("ETag"); now.status == 200 && tag != "" {
		match = tag
	}
	return e.w.do(a, ids, key, cookie, match)
}

// finish holds the catalogue to it: whatever edits something takes an If-Match,
// and whatever takes one was tried.
func (e *editor) finish(t *testing.T) {
	t.Helper()
	routes := map[string]bool{}
	for _, r := range e.w.api.Routes() {
		what := r.Method + " " + r.Pattern
		routes[what] = true
		edits := r.Class != api.Internal && strings.HasPrefix(r.Pattern, "/v1/") && (r.Method == http.MethodPut || r.Method == http.MethodPatch)
		if edits && !e.conditional[what] && unconditional[what] == "" {
			t.Errorf("%s takes no If-Match: two people undo each other's work", what)
		}
	}
	for what := range e.conditional {
		if !e.tried[what] && matchElsewhere[what] == "" {
			t.Errorf("%s takes an If-Match: try it by a deed", what)
		}
	}
	for _, list := range []map[string]string{unconditional, matchElsewhere} {
		for what := range list {
			if !routes[what] {
				t.Errorf("%s is on a list and is no route", what)
			}
		}
	}
	if len(e.tried) < 20 {
		t.Errorf("%d routes were tried: too few", len(e.tried))
	}
}
