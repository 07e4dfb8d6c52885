package flow

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// sound is a document that no rule has anything to say of; the rules' tests
// spoil it.
const sound = `{
	"id": "sound", "version": "1.0.0", "description": "Asks for a size.", "entry": "ask_size", "on_hangup": "forget",
	"defaults": {"voice": {"no_input": {"timeout_ms": 6000, "max": 2}, "no_match": {"max": 2}}, "http": {"timeout": 2000}},
	"globals": [{"when": {"dtmf": "0"}, "then": "bye"}],
	"nodes": [
		{"id": "ask_size", "type": "question", "content": {"question": "Small or large?", "variable": "size", "input_type": "choice", "options": ["small", "large"],
			"validation": {"pattern": "^[a-z]+$", "expr": "value != ''"}},
		 "connections": {"$0": "order", "large": "order", "no_input": "bye", "no_match": "bye"}},
		{"id": "order", "type": "webhook", "content": {"url": "https://shop.example/order", "method": "POST", "headers": {"Authorization": "Bearer {secret:shop}"},
			"body": {"size": "{size}"}, "response_mapping": {"number": "$.number"}},
		 "connections": {"success": "is_there", "error": "bye"}},
		{"id": "is_there", "type": "condition", "content": {"conditions": [{"if": {"var": "number", "exists": true}, "then": "tell"}], "else": "bye"}},
		{"id": "tell", "type": "message", "content": {"text": "It is {number}."}, "connections": {"default": "count"}},
		{"id": "count", "type": "action", "content": {"actions": [{"type": "increment", "variable": "orders"}]}, "connections": {"success": "address", "error": "bye"}},
		{"id": "address", "type": "composite", "content": {"flow": "address", "version": "^1.2", "outputs": {"city": "user.city"}}, "connections": {"complete": "bye", "error": "bye"}},
		{"id": "bye", "type": "message", "content": {"text": "Goodbye."}},
		{"id": "forget", "type": "action", "content": {"actions": [{"type": "delete_variable", "variable": "size"}]}, "connections": {"error": "@end"}}
	],
	"tests": [{"name": "size", "steps": [{"input": null, "expect_node": "ask_size"}]}]}`

func TestSoundDocument(t *testing.T) {
	for _, p := range Lint([]byte(sound)) {
		t.Error(p)
	}
}

// Each rule speaks of a document that breaks it, at the place where it does,
// and is silent of the same document mended.
func TestRules(t *testing.T) {
	const ok = `{"text": "It is {number}."}`
	node := func(s string) []string {
		return []string{`{"id": "bye", "type": "message", "content": {"text": "Goodbye."}}`, s}
	}
	order := func(s string) []string { return []string{`"method": "POST"`, `"method": "POST", ` + s} }
	tests := map[string][]struct {
		change []string // old and new
		at     string
	}{
		"bad-expression":      {{[]string{`value != ''`, `value !=`}, "/nodes/0/content/validation/expr"}, {[]string{`{"var": "number", "exists": true}`, `"1 +"`}, "/nodes/2/content/conditions/0/if"}},
		"bad-path":            {{[]string{`$.number`, `$[`}, "/nodes/1/content/response_mapping/number"}},
		"bad-pattern":         {{[]string{`^[a-z]+$`, `(?=a)`}, "/nodes/0/content/validation/pattern"}},
		"bad-reference":       {{[]string{`"variable": "orders"`, `"variable": "or ders"`}, "/nodes/4/content/actions/0/variable"}, {[]string{`"variable": "orders"`, `"variable": "user"`}, "/nodes/4/content/actions/0/variable"}},
		"bad-ssml":            {{[]string{`"type": "message", "content": ` + ok, `"type": "say", "content": {"ssml": "<speak>Hi"}`}, ""}},
		"bad-test":            {{[]string{`{"var": "number", "exists": true}`, `5`}, "/nodes/2/content/conditions/0/if"}},
		"bad-version":         {{[]string{`^1.2`, `new`}, "/nodes/5/content/version"}},
		"dead-air":            {{order(`"retry": {"attempts": 4, "delay": 1000}`), "/nodes/1/content"}, {[]string{`"then": "tell"`, `"then": "count"`, `"actions": [{"type": "increment", "variable": "orders"}]`, `"actions": [{"type": "api_call", "config": {"endpoint": "https://a.example/", "timeout": 7}}]`, `"tell", "type": "message"`, `"tell", "type": "message"`}, "/nodes/1"}},
		"dead-connection":     {{[]string{`"$0": "order"`, `"$2": "order"`}, "/nodes/0/connections/$2"}, {[]string{`"success": "is_there"`, `"sucess": "bye", "success": "is_there"`}, "/nodes/1/connections/sucess"}},
		"duplicate-id":        {{[]string{`"id": "tell"`, `"id": "count"`}, "/nodes/4/id"}},
		"empty-message":       {{[]string{ok, `{}`}, "/nodes/3/content"}},
		"empty-question":      {{[]string{`"question": "Small or large?", `, ``}, "/nodes/0/content"}},
		"empty-test":          {{[]string{`, "exists": true`, ``}, "/nodes/2/content/conditions/0/if"}},
		"endless-cycle":       {{[]string{`"default": "count"`, `"default": "order"`}, "/nodes/1"}},
		"large-flow":          {{node(many(60)), "/entry"}},
		"large-state":         {{[]string{`[{"type": "increment", "variable": "orders"}]`, `[{"type": "api_call", "config": {"endpoint": "/x", "response_variable": "all"}}]`}, "/nodes/4/content/actions/0/response_variable"}},
		"later-type":          {{[]string{`"tell", "type": "message"`, `"tell", "type": "payment"`}, "/nodes/3/type"}, {[]string{`{"type": "increment", "variable": "orders"}`, `{"type": "calendar.book"}`}, "/nodes/4/content/actions/0/type"}},
		"missing-field":       {{[]string{`"url": "https://shop.example/order", `, ``}, "/nodes/1/content"}, {[]string{`, "options": ["small", "large"]`, ``}, "/nodes/0/content/options"}},
		"missing-source":      {{[]string{`"globals"`, `"connections": [{"source": "nobody", "target": "bye"}], "globals"`}, "/connections/0/source"}},
		"missing-target":      {{[]string{`"default": "count"`, `"default": "cuont"`}, "/nodes/3/connections/default"}, {[]string{`"then": "bye"`, `"then": "by"`}, "/globals/0/then"}, {[]string{`"on_hangup": "forget"`, `"on_hangup": "frget"`}, "/on_hangup"}, {[]string{`"default": "count"`, `"default": "@nd"`}, "/nodes/3/connections/default"}},
		"no-description":      {{[]string{`"description": "Asks for a size.", `, ``}, "/description"}},
		"no-exit":             {{[]string{`"content": {"text": "Goodbye."}`, `"content": {"text": "Goodbye."}, "connections": {"default": "ask_size"}`, `"error": "@end"`, `"default": "bye"`, `"large": "order"`, `"large": "order", "default": "order"`}, "/entry"}},
		"no-fallback":         {{[]string{ok, `{"messages": [{"type": "text", "content_id": "3f0c5a1e-7d1e-4c3a-9f6e-0d3f5a2b1c4d"}]}`}, ""}},
		"no-id":               {{[]string{`"id": "tell", `, ``}, "/nodes/3"}},
		"no-nodes":            {{[]string{`"nodes"`, `"knots"`}, ""}},
		"no-tests":            {{[]string{`"tests": [{"name": "size", "steps": [{"input": null, "expect_node": "ask_size"}]}]`, `"tests": []`}, "/tests"}},
		"no-timeout":          {{[]string{`, "http": {"timeout": 2000}`, ``}, "/nodes/1/content"}},
		"no-variable":         {{[]string{`{"var": "number", "exists": true}`, `{"exists": true}`}, "/nodes/2/content/conditions/0/if"}},
		"no-version":          {{[]string{`"version": "1.0.0"`, `"version": "first"`}, "/version"}},
		"no-way-out-hangup":   {{[]string{`"on_hangup": "forget",`, ``, `"default": "count"`, `"default": "forget"`}, ""}},
		"no-way-out-nonsense": {{[]string{`, "no_match": {"max": 2}`, ``}, "/nodes/0"}},
		"no-way-out-silence":  {{[]string{`6000, "max": 2`, `6000`}, "/nodes/0"}},
		"node-name":           {{[]string{`"id": "tell"`, `"id": "Tell It"`, `"then": "tell"`, `"then": "Tell It"`}, "/nodes/3"}, {[]string{`"id": "tell"`, `"id": "node7"`, `"then": "tell"`, `"then": "node7"`}, "/nodes/3"}},
		"read-only":           {{[]string{`"variable": "orders"`, `"variable": "session.id"`}, "/nodes/4/content/actions/0/variable"}, {[]string{`user.city`, `env.city`}, "/nodes/5/content/outputs/city"}, {[]string{`{"number": "$.number"}`, `{"context.caller": "$.number"}`}, "/nodes/1/content/response_mapping/context.caller"}},
		"secret-in-clear": {{[]string{`Bearer {secret:shop}`, `Basic eDp5`}, "/nodes/1/content/headers/Authorization"}, {[]string{`"It is {number}."`, `"sk-abcdefghijklmnopqrstuv"`}, "/nodes/3/content/text"},
			{[]string{`{"size": "{size}"}`, `{"k": "q7Xb2Lw9Tz4Rk8Vn3Ms6Pd1G"}`}, "/nodes/1/content/body/k"}, {[]string{`{"size": "{size}"}`, `{"k": "9f86d081884c7d659a2feaa0c55ad015"}`}, "/nodes/1/content/body/k"},
			{[]string{`shop.example/order`, `shop.example/order?key=q7Xb2Lw9Tz4Rk8Vn3Ms6Pd1G`}, "/nodes/1/content/url"}, {[]string{`https://shop.example`, `https://joe:hunter2@shop.example`}, "/nodes/1/content/url"}},
		"secret-in-message": {{[]string{`It is {number}`, `It is {secret:shop}`}, "/nodes/3/content/text"}, {[]string{`6000, "max": 2`, `6000, "max": 2, "prompts": ["{secret:shop}"]`}, "/defaults/voice/no_input/prompts/0"}, {[]string{`"small", "large"`, `{"label": "{secret:shop}", "value": "small"}, "large"`}, "/nodes/0/content/options/0/label"}},
		"secret-in-prompt":  {{node(`{"id": "bye", "type": "agent", "content": {"prompt": "Say {secret:shop}.", "exits": [{"name": "done"}]}, "connections": {"exit:done": "@end", "default": "@end"}}`), ""}},
		"secret-in-state":   {{[]string{`{"type": "increment", "variable": "orders"}`, `{"type": "set_variable", "variable": "k", "value": "{secret:shop}"}`}, "/nodes/4/content/actions/0/value"}},
		"secret-in-url":     {{[]string{`shop.example/order`, `shop.example/{secret:shop}`}, "/nodes/1/content/url"}},
		"sensitive-in-prompt": {{[]string{`"type": "question", "content"`, `"type": "question", "voice": {"sensitive": true}, "content"`,
			`{"id": "bye", "type": "message", "content": {"text": "Goodbye."}}`, `{"id": "bye", "type": "agent", "content": {"prompt": "They want {size}.", "exits": [{"name": "done"}]}, "connections": {"exit:done": "@end", "default": "@end"}}`}, ""}},
		"syntax":           {{[]string{`"entry"`, `"entry" "x"`}, ""}, {[]string{`"on_hangup"`, `"entry": "x", "on_hangup"`}, "/entry"}},
		"too-deep":         {{[]string{`"Asks for a size."`, strings.Repeat("[", 70) + strings.Repeat("]", 70)}, ""}},
		"too-large":        {{[]string{`Asks for a size.`, strings.Repeat("x", MaxDocumentBytes)}, ""}},
		"too-many":         {{node(many(MaxNodes)), "/nodes"}},
		"type":             {{[]string{ok, `"text"`}, "/nodes/3/content"}},
		"unit":             {{order(`"timeout": 5`), "/nodes/1/content"}, {[]string{`6000`, `6`}, "/defaults/voice/no_input/timeout_ms"}, {order(`"circuit_breaker": {"timeout": 30000}`), "/nodes/1/content/circuit_breaker/timeout"}},
		"unknown-goal":     {{[]string{`"globals"`, `"experiments": [{"id": "e", "split": [{"arm": "a"}], "goal": "gone"}], "globals"`}, "/experiments"}},
		"unknown-operator": {{[]string{`"exists": true`, `"near": 1`}, "/nodes/2/content/conditions/0/if/near"}},
		"unknown-type":     {{[]string{`"tell", "type": "message"`, `"tell", "type": "teleport"`}, "/nodes/3/type"}, {[]string{`"type": "increment"`, `"type": "excrement"`}, "/nodes/4/content/actions/0/type"}},
		"unknown-value":    {{[]string{`"input_type": "choice"`, `"input_type": "mood"`}, "/nodes/0/content/input_type"}},
		"unreachable":      {{[]string{`"then": "tell"`, `"then": "count"`}, "/nodes/3"}},
		"unwired-outcome":  {{[]string{`"success": "is_there", "error": "bye"`, `"success": "is_there"`}, "/nodes/1"}, {[]string{`"complete": "bye", "error": "bye"`, `"complete": "bye"`}, "/nodes/5"}, {[]string{`, "no_match": "bye"`, ``}, "/nodes/0"}},
	}
	for _, r := range Rules() {
		cases := tests[r.Code]
		if len(cases) == 0 {
			t.Errorf("no test shows rule %s", r.Code)
		}
		delete(tests, r.Code)
		for _, tt := range cases {
			doc := sound
			for i := 0; i < len(tt.change); i += 2 {
				if !strings.Contains(doc, tt.change[i]) {
					t.Fatalf("%s: the sound document has no %s", r.Code, tt.change[i])
				}
				doc = strings.Replace(doc, tt.change[i], tt.change[i+1], 1)
			}
			found := false
			problems := Lint([]byte(doc))
			for _, p := range problems {
				found = found || p.Code == r.Code && (p.Pointer == tt.at || tt.at == "")
				if p.Message == "" || p.Fix == "" || !severities[p.Severity] {
					t.Errorf("%+v says too little", p)
				}
				if p.Code == r.Code && r.Severity == SeverityError && p.Severity == SeverityInfo {
					t.Errorf("%s is but an info", p.Code)
				}
			}
			if !found {
				t.Errorf("%s at %q: found %v", r.Code, tt.at, problems)
			}
		}
	}
	for code := range tests {
		t.Errorf("%s is tested and no rule", code)
	}
}

var severities = map[string]bool{SeverityError: true, SeverityWarning: true, SeverityInfo: true}

// many are n messages that lead to each other.
func many(n int) string {
	var b strings.Builder
	b.WriteString(`{"id": "bye", "type": "message", "content": {"text": "."}, "connections": {"default": "m_0"}}`)
	for i := range n {
		next := `, "connections": {"default": "m_` + strconv.Itoa(i+1) + `"}`
		if i == n-1 {
			next = ""
		}
		b.WriteString(`, {"id": "m_` + strconv.Itoa(i) + `", "type": "message", "content": {"text": "."}` + next + `}`)
	}
	return b.String()
}

// What people write is not taken for a secret.
func TestNoSecrets(t *testing.T) {
	for _, s := range []string{
		"How may I help you today?", "WelcomeMessageForNewCustomersVersion2", "https://cdn.example/9f86d081884c7d659a2feaa0c55ad015/a7Xb2Lw9Tz4Rk8Vn3Ms6Pd1G.png",
		"0199f1c2-7d1e-7c3a-9f6e-0d3f5a2b1c4d", "2026-01-31T12:30:00.000000Z", "+15551234567890123456789", "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUA",
		"ask_for_the_second_name_of_person_2_in_room_14", "Donaudampfschifffahrtsgesellschaft", "{user.first_name} {user.last_name2} {variables.a1b2c3d4}", "Mon-Fri 9am-5pm/Sat 10am-2pm",
	} {
		if clearSecret(s, "text", "content") {
			t.Errorf("%q is taken for a secret", s)
		}
	}
}

// Every code that the package can give has its rule.
func TestRulesAreComplete(t *testing.T) {
	known := map[string]bool{}
	for _, r := range Rules() {
		known[r.Code] = true
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	given := regexp.MustCompile(`(?:problem|add|fault)\((?:[^"\n]|"(?:error|warning)"|"/[a-z_/]*")*?"([a-z]+(?:-[a-z]+)+)"`)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range given.FindAllSubmatch(b, -1) {
			if !known[string(m[1])] {
				t.Errorf("%s: code %s has no rule", f.Name(), m[1])
			}
		}
	}
}

// The manual lists every rule, and none that there is not.
func TestManualListsRules(t *testing.T) {
	b, err := os.ReadFile("../../docs/flow.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rules() {
		if line := "| `" + r.Code + "` | " + r.Severity + " | " + r.What + " |"; !strings.Contains(string(b), line) {
			t.Errorf("docs/flow.md lacks the line %s", line)
		}
	}
}
