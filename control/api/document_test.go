package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"parley/control/api"
)

// A document is the OpenAPI document of a plane, to hold answers to.
type document struct {
	mux      *http.ServeMux // finds the pattern of a path
	raw      map[string]any
	compiler *jsonschema.Compiler
	mu       sync.Mutex // guards schemas and the compiler
	schemas  map[string]*jsonschema.Schema
}

func (p *plane) document() *document {
	p.t.Helper()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
	text := w.Body.String()
	d := &document{mux: http.NewServeMux(), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err == nil {
		err = json.Unmarshal([]byte(text), &d.raw)
	}
	if err == nil {
		err = d.compiler.AddResource("openapi.json", parsed)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range p.Routes() {
		d.mux.HandleFunc(r.Method+" "+r.Pattern, func(http.ResponseWriter, *http.Request) {})
	}
	return d
}

// at returns what stands at a path of the document's objects, nil if nothing does.
func (d *document) at(path ...string) any {
	var v any = d.raw
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// operation returns the document's entry of a request; nil if it has none.
func (d *document) operation(r *http.Request) ([]string, map[string]any) {
	_, pattern := d.mux.Handler(r)
	_, path, ok := strings.Cut(pattern, " ")
	if !ok {
		return nil, nil
	}
	where := []string{"paths", path, strings.ToLower(r.Method)}
	op, _ := d.at(where...).(map[string]any)
	return where, op
}

// fits reports how an answer differs from what the document says of it; nil
// where it says nothing.
func (d *document) fits(r *http.Request, status int, kind string, body []byte) error {
	where, op := d.operation(r)
	if op == nil || len(body) == 0 || !strings.HasSuffix(kind, "json") {
		return nil
	}
	code := fmt.Sprint(status)
	if d.at(append(where, "responses", code)...) == nil {
		code = "default"
	}
	where = append(where, "responses", code, "content", kind)
	if d.at(where...) == nil {
		return fmt.Errorf("the document has no %s of type %s", code, kind)
	}
	if where = append(where, "schema"); d.at(where...) == nil {
		return nil
	}
	at := "openapi.json#"
	for _, part := range where {
		at += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(part)
	}
	s, err := d.schema(at)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(body)))
	if err == nil {
		err = s.Validate(v)
	}
	return err
}

// schema returns the one at a place of the document.
func (d *document) schema(at string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.schemas[at]
	if s == nil {
		var err error
		if s, err = d.compiler.Compile(at); err != nil {
			return nil, err
		}
		d.schemas[at] = s
	}
	return s, nil
}

// documented reports whether a route belongs into the document: pages, sockets,
// preflights and what carriers call do not.
func documented(r api.Route) bool {
	return (strings.HasPrefix(r.Pattern, "/v1/") || strings.HasPrefix(r.Pattern, "/chat/")) && r.Method != "OPTIONS" &&
		r.Class != api.Internal && r.Class != api.Webhook
}

// The document has every route, with who may come, with what, and how it fails;
// and its schemas are JSON Schema.
func TestDocumentOfRoutes(t *testing.T) {
	p := newPlane(t)
	d := p.document()
	ids := map[string]string{}
	for _, r := range p.Routes() {
		if !documented(r) {
			continue
		}
		what := r.Method + " " + r.Pattern
		op, _ := d.at("paths", r.Pattern, strings.ToLower(r.Method)).(map[string]any)
		if op == nil {
			t.Errorf("%s is not in the document", what)
			continue
		}
		id, _ := op["operationId"].(string)
		if ids[id] != "" || id == "" || op["summary"] == nil {
			t.Errorf("%s: id %q is that of %s too, or it has no summary", what, id, ids[id])
		}
		ids[id] = what
		if op["x-class"] != string(r.Class) || op["x-permission"] != string(r.Permission) || op["x-limit"] == nil {
			t.Errorf("%s: the document says %v, %v", what, op["x-class"], op["x-permission"])
		}
		if ways, _ := op["security"].([]any); op["security"] == nil || (r.Class == api.Tenanted || r.Class == api.Admin) && len(ways) < 3 {
			t.Errorf("%s: security %v", what, op["security"])
		}
		if d.at("paths", r.Pattern, strings.ToLower(r.Method), "responses", "default", "content", "application/problem+json") == nil {
			t.Errorf("%s: how it fails is not said", what)
		}
		text, _ := json.Marshal(op)
		if named := strings.Contains(string(text), `"Idempotency-Key"`); named != (r.Method == "POST" && strings.HasPrefix(r.Pattern, "/v1/") && len(op["security"].([]any)) > 0 && !r.Long && r.Class != api.Session) {
			t.Errorf("%s: Idempotency-Key in the document: %v", what, named)
		}
		for part := range strings.SplitSeq(r.Pattern, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok && !strings.Contains(string(text), `"name":"`+strings.TrimSuffix(name, "}")+`"`) {
				t.Errorf("%s: %s is not a parameter", what, part)
			}
		}
	}
	if v := d.at("openapi"); v != "3.1.0" || d.at("info", "title") == nil {
		t.Errorf("openapi %v", v)
	}
	for name := range d.at("components", "schemas").(map[string]any) {
		if _, err := d.compiler.Compile("openapi.json#/components/schemas/" + name); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
	}
	for _, way := range []string{"bearer", "key", "cookie", "chat", "csrf"} {
		if d.at("components", "securitySchemes", way) == nil {
			t.Errorf("no security scheme %s", way)
		}
	}
}

// What was sent never comes back in an error, from whichever place it was: each
// field that the document names, unknown ones, the path, the query and headers.
func TestNoRequestIsEchoed(t *testing.T) {
	p := newPlane(t)
	d := p.document()
	const canary = "zq81canary"
	asked := 0
	ask := func(r api.Route, path, body string, header ...string) {
		t.Helper()
		asked++
		resp, _ := p.do(r.Method, path, p.demo.APIKey, body, header...)
		if resp.StatusCode < 400 {
			return // what was made may be shown
		}
		var b strings.Builder
		_ = resp.Header.Write(&b)
		buf := make([]byte, 1<<16)
		n, _ := resp.Body.Read(buf)
		if text := b.String() + string(buf[:n]); strings.Contains(text, canary) || resp.StatusCode >= 500 {
			t.Errorf("%s %s %s %v: %d %s", r.Method, path, body, header, resp.StatusCode, text)
		}
	}
	for _, r := range p.Routes() {
		if !documented(r) || r.Long || strings.HasSuffix(r.Pattern, "/logout") {
			continue
		}
		path := fill(r.Pattern)
		for i, part := range strings.Split(r.Pattern, "/") {
			if strings.HasPrefix(part, "{") {
				parts := strings.Split(path, "/")
				parts[i] = canary
				ask(r, strings.Join(parts, "/"), least(r))
			}
		}
		op, _ := d.at("paths", r.Pattern, strings.ToLower(r.Method)).(map[string]any)
		params, _ := op["parameters"].([]any)
		for _, v := range params {
			if q := v.(map[string]any); q["in"] == "query" {
				ask(r, path+"?"+q["name"].(string)+"="+canary, least(r))
			}
		}
		ask(r, path+"?"+canary+"="+canary, least(r), "If-Match", canary, "Origin", "https://"+canary+".example", "X-CSRF-Token", canary, "Idempotency-Key", canary+" x")
		if r.Body <= 0 {
			continue
		}
		ask(r, path, `{"`+canary+`":"`+canary+`"}`)
		ask(r, path, canary)
		ask(r, path, `{}`, "Content-Type", canary+"/"+canary)
		for name := range d.properties(r) {
			for _, v := range []string{`"` + canary + `"`, `["` + canary + `"]`, `{"` + canary + `":"` + canary + `"}`} {
				ask(r, path, `{"`+name+`":`+v+`}`)
			}
		}
	}
	if strings.Contains(p.log.String(), canary) {
		t.Error("the log repeats what was sent")
	}
	if asked < 300 {
		t.Errorf("only %d requests", asked)
	}
}

// properties names the fields of a route's body.
func (d *document) properties(r api.Route) map[string]any {
	s, _ := d.at("paths", r.Pattern, strings.ToLower(r.Method), "requestBody", "content", "application/json", "schema").(map[string]any)
	if ref, ok := s["$ref"].(string); ok {
		s, _ = d.at("components", "schemas", strings.TrimPrefix(ref, "#/components/schemas/")).(map[string]any)
	}
	fields, _ := s["properties"].(map[string]any)
	return fields
}

func least(r api.Route) string {
	if r.Body > 0 {
		return `{}`
	}
	return ""
}
