package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// apiPage writes docs/api.md out of the OpenAPI document.
type apiPage struct {
	doc     map[string]any
	schemas map[string]any
	out     strings.Builder
}

// words are values that an example takes by its field's name, where the document
// gives neither an example nor an enumeration.
var words = map[string]any{
	"email": "anna@example.com", "number": "+15550100", "to": "+15550123", "from": "+15550100", "e164": "+15550100",
	"url": "https://example.com/parley", "name": "opening-hours", "password": "a sentence you remember", "token": "…", "secret": "…",
	"value": "…", "code": "123456", "ticket": "…", "origin": "https://www.example.com", "hosts": []any{"api.example.com"},
	"scopes": []any{"calls.read"}, "text": "The caller's booking is for four people.", "q": "opening hours",
	"locale": "en-US", "language": "en-US", "issuer": "https://login.example.com", "timezone": "Europe/Berlin", "time_zone": "Europe/Berlin", "tz": "Europe/Berlin",
	"reason": "asked by the caller", "refresh_token": "…", "caller": "+15550123", "account_sid": "AC00000000000000000000000000000000",
}

const exampleID = "0199c2d4-7e5b-7c3a-9a51-2f1f3f6f0a11"

// TestAPIPage holds docs/api.md to the OpenAPI document, and the page's requests to
// their schemas. After a change of routes: go test ./cmd/parley -run TestAPIPage -update.
func TestAPIPage(t *testing.T) {
	w := newWired(t)
	p := &apiPage{}
	if err := json.Unmarshal([]byte(w.ask(sending{method: "GET", path: "/openapi.json"}).body), &p.doc); err != nil {
		t.Fatal(err)
	}
	p.schemas = p.doc["components"].(map[string]any)["schemas"].(map[string]any)
	p.write(t)
	const page = "../../docs/api.md"
	if *update {
		if err := os.WriteFile(page, []byte(p.out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil || string(have) != p.out.String() {
		stale := slices.DeleteFunc(strings.Split(p.out.String(), "\n"), func(line string) bool { return strings.Contains(string(have), line) })
		t.Errorf("docs/api.md is not what the program does (%v); lines that it lacks:\n%s", err, strings.Join(stale, "\n"))
	}
}

func (p *apiPage) write(t *testing.T) {
	p.out.WriteString("# The API\n\nWritten by a test from the OpenAPI document, which a running Parley serves at `/openapi.json` and, to\n" +
		"read, at `/docs`; tests hold every answer of the program to that document. [quickstart.md](quickstart.md) goes\n" +
		"through the whole of it once, [permissions.md](permissions.md) has who may do what.\n\n" +
		"JSON in snake_case, times in UTC (RFC 3339). `KEY` is an API key, `URL` the gateway's address. Lists are pages:\n" +
		"`?limit=&after=` answers `{\"items\",\"next\"}`, and `next` is the `after` of the next page, absent on the last.\n" +
		"A POST takes an `Idempotency-Key`; what is edited has an `ETag`, which a change repeats as `If-Match`. Errors are\n" +
		"`application/problem+json` with a stable `code` and, for a field, its `location`. Examples show required fields,\n" +
		"and of answers all that may come; `…` stands for a secret or a token.\n")
	byTag := map[string][]string{}
	paths := p.doc["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, method := range []string{"get", "post", "put", "patch", "delete"} {
			op, ok := paths[path].(map[string]any)[method].(map[string]any)
			if !ok {
				continue
			}
			tag := "server"
			if tags, _ := op["tags"].([]any); len(tags) > 0 && tags[0] != "" {
				tag = tags[0].(string)
			}
			byTag[tag] = append(byTag[tag], p.route(t, method, path, op))
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		fmt.Fprintf(&p.out, "\n## %s\n%s", tag, strings.Join(byTag[tag], ""))
	}
}

// route is one route's section.
func (p *apiPage) route(t *testing.T, method, path string, op map[string]any) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s %s\n\n%s.", strings.ToUpper(method), path, op["summary"])
	if may, ok := op["x-permission"].(string); ok && may != "" {
		fmt.Fprintf(&b, " Permission `%s`.", may)
	}
	b.WriteString("\n")
	var curl strings.Builder
	address := path
	for _, name := range between(path) {
		address = strings.ReplaceAll(address, "{"+name+"}", map[bool]string{true: exampleID, false: fmt.Sprint(words[name])}[words[name] == nil])
	}
	curl.WriteString("curl ")
	if method != "get" {
		curl.WriteString("-X " + strings.ToUpper(method) + " ")
	}
	fmt.Fprintf(&curl, "$URL%s", address)
	if sec, ok := op["security"].([]any); ok && len(sec) > 0 {
		curl.WriteString(" -H \"Authorization: Bearer $KEY\"")
	}
	params, _ := op["parameters"].([]any)
	for _, v := range params {
		q := v.(map[string]any)
		name, in := q["name"].(string), q["in"].(string)
		switch {
		case in == "query":
			fmt.Fprintf(&b, "\n- `?%s=` %s", name, oneLine(q["description"], q["schema"]))
		case in == "header" && name == "If-Match":
			curl.WriteString(` -H 'If-Match: "3"'`)
		}
	}
	if body, schema := p.requestBody(op); schema != nil {
		example := p.example(schema, "", 0, true)
		p.valid(t, method+" "+path, schema, example)
		for _, line := range p.optional(schema) {
			b.WriteString("\n" + line)
		}
		fmt.Fprintf(&curl, " \\\n  -H 'Content-Type: %s' -d '%s'", body, strings.ReplaceAll(compact(example), "'", `'\''`))
	}
	fmt.Fprintf(&b, "\n\n```\n%s\n```\n", curl.String())
	b.WriteString(p.answer(op))
	return strings.ReplaceAll(b.String(), ".\n\n\n", ".\n\n")
}

func (p *apiPage) requestBody(op map[string]any) (kind string, schema map[string]any) {
	body, _ := op["requestBody"].(map[string]any)
	content, _ := body["content"].(map[string]any)
	for kind, v := range content {
		if s, ok := v.(map[string]any)["schema"].(map[string]any); ok && strings.Contains(kind, "json") {
			return kind, s
		}
	}
	return "", nil
}

// answer shows the answer of success.
func (p *apiPage) answer(op map[string]any) string {
	responses := op["responses"].(map[string]any)
	for _, status := range slices.Sorted(maps.Keys(responses)) {
		if status[0] != '2' && status[0] != '3' {
			continue
		}
		content, _ := responses[status].(map[string]any)["content"].(map[string]any)
		if kinds := slices.Sorted(maps.Keys(content)); len(kinds) > 0 {
			kind := kinds[0]
			schema, _ := content[kind].(map[string]any)["schema"].(map[string]any)
			if !strings.Contains(kind, "json") || schema == nil {
				return fmt.Sprintf("\n%s, `%s`.\n", status, kind)
			}
			return fmt.Sprintf("\n%s\n\n```json\n%s\n```\n", status, compact(p.example(schema, "", 0, false)))
		}
		return "\n" + status + "\n"
	}
	return ""
}

// optional lists a request's other fields.
func (p *apiPage) optional(schema map[string]any) (lines []string) {
	s := p.resolve(schema)
	required, _ := s["required"].([]any)
	props, _ := s["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(props)) {
		if !slices.Contains(required, any(name)) {
			v := props[name].(map[string]any)
			lines = append(lines, fmt.Sprintf("- `%s` %s", name, oneLine(v["description"], v)))
		}
	}
	return lines
}

func (p *apiPage) resolve(s map[string]any) map[string]any {
	for {
		ref, ok := s["$ref"].(string)
		if !ok {
			return s
		}
		s = p.schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(map[string]any)
	}
}

// example makes a value of a schema; least leaves out what is not required.
func (p *apiPage) example(schema map[string]any, name string, depth int, least bool) any {
	s := p.resolve(schema)
	if v, ok := s["example"]; ok {
		return v
	}
	if v, ok := s["examples"].([]any); ok && len(v) > 0 {
		return v[0]
	}
	if v, ok := s["enum"].([]any); ok {
		return v[0]
	}
	kind, _ := s["type"].(string)
	if many, ok := s["type"].([]any); ok {
		kind = many[0].(string)
	}
	word, known := words[name]
	if list, isList := word.([]any); known && isList == (kind == "array") && (kind == "string" || kind == "array") {
		if isList {
			return list
		}
		most, bounded := s["maxLength"].(float64)
		if f, _ := s["format"].(string); (f == "" || f == "uri" || f == "email") && (!bounded || len(word.(string)) <= int(most)) {
			return word
		}
	}
	switch kind {
	case "object":
		if least && strings.HasSuffix(fmt.Sprint(schema["$ref"]), "/AgentSettings") {
			return map[string]any{"kind": "prompt", "prompt": "You answer for a bakery, in one sentence.", "greeting": "Good day."}
		}
		return p.object(s, depth, least)
	case "array":
		items, _ := s["items"].(map[string]any)
		if items == nil || depth > 5 {
			return []any{}
		}
		return []any{p.example(items, name, depth+1, least)}
	case "integer", "number":
		if v, ok := s["minimum"]; ok {
			return v
		}
		return 1
	case "boolean":
		return true
	case "string":
		return exampleString(s, name)
	}
	return map[string]any{}
}

func (p *apiPage) object(s map[string]any, depth int, least bool) any {
	out := map[string]any{}
	required, _ := s["required"].([]any)
	props, _ := s["properties"].(map[string]any)
	for name, v := range props {
		if least && !slices.Contains(required, any(name)) || depth > 5 {
			continue
		}
		out[name] = p.example(v.(map[string]any), name, depth+1, least)
	}
	return out
}

func exampleString(s map[string]any, name string) string {
	format, _ := s["format"].(string)
	id := format == "uuid" || name == "id" || strings.HasSuffix(name, "_id")
	switch {
	case id:
		return exampleID
	case format == "date-time" || strings.HasSuffix(name, "_at"):
		return "2026-11-20T09:30:00Z"
	case format == "date":
		return "2026-11-20"
	}
	if most, _ := s["maxLength"].(float64); most == 5 { // a time of day
		return "08:00"
	}
	least, _ := s["minLength"].(float64)
	return strings.Repeat("…", max(1, int(least)))
}

// valid fails the test where an example is not what its schema takes.
func (p *apiPage) valid(t *testing.T, what string, schema, example any) {
	t.Helper()
	c := jsonschema.NewCompiler()
	whole := maps.Clone(p.doc)
	whole["x-one"] = schema
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(compact(whole))))
	if err == nil {
		err = c.AddResource("mem:///openapi.json", doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	one, err := c.Compile("mem:///openapi.json#/x-one")
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(compact(example)))
	if err == nil {
		err = one.Validate(value)
	}
	if err != nil {
		t.Errorf("%s: the page's example %s is not what the document takes: %v", what, compact(example), err)
	}
}

func compact(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // out of a decoder
	return strings.TrimSpace(b.String())
}

// between returns the names in braces.
func between(path string) (names []string) {
	for part := range strings.SplitSeq(path, "{") {
		if name, _, ok := strings.Cut(part, "}"); ok {
			names = append(names, name)
		}
	}
	return names
}

// oneLine is a field's description, else its values or its kind.
func oneLine(description, schema any) string {
	if d, ok := description.(string); ok && d != "" {
		return strings.Join(strings.Fields(d), " ")
	}
	s, _ := schema.(map[string]any)
	if d, ok := s["description"].(string); ok && d != "" {
		return strings.Join(strings.Fields(d), " ")
	}
	if v, ok := s["enum"].([]any); ok {
		return "one of " + strings.Trim(strings.ReplaceAll(compact(v), `"`, "`"), "[]")
	}
	if v, ok := s["format"].(string); ok && v != "" && v != "int64" {
		return "(" + v + ")"
	}
	if v, ok := s["type"].(string); ok {
		return "(" + v + ")"
	}
	return ""
}
