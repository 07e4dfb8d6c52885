package flow

import (
	"slices"
	"testing"
)

func TestCheckOfModelNodes(t *testing.T) {
	const rest = `, {"id": "e", "type": "message", "content": {"text": "e"}}]}`
	agent := func(content string) string {
		return `{"nodes": [{"id": "a", "type": "agent", "content": {"prompt": "x", ` + content + `}, "connections": {"default": "e"}}` + rest
	}
	pin := func(model string) string {
		return `{"nodes": [{"id": "q", "type": "question", "voice": {"sensitive": true}, "content": {"question": "PIN?", "variable": "user.pin"}, "connections": {"default": "m"}},
			{"id": "m", ` + model + `, "connections": {"default": "e"}}` + rest
	}
	tests := []struct{ name, doc, code, pointer string }{
		{"sound", agent(`"exits": ["done"]`), "", ""},
		{"secret", `{"nodes": [{"id": "a", "type": "agent", "content": {"prompt": "use {secret:key}", "exits": ["x"]}, "connections": {"default": "e"}}` + rest, "secret-in-prompt", "/nodes/0/content/prompt"},
		{"secret of a tool", agent(`"exits": ["x"], "tools": [{"name": "t", "actions": [], "returns": "{secret:key}"}]`), "secret-in-state", "/nodes/0/content/tools/0/returns"},
		{"no exit", agent(`"greeting": "hi"`), "no-exit", "/nodes/0/content"},
		{"unknown slot", agent(`"exits": [{"name": "x", "must_collect": ["day"]}]`), "missing-field", "/nodes/0/content/exits/0/must_collect"},
		{"bad test", agent(`"exits": [{"name": "x", "if": "1 +"}]`), "bad-expression", "/nodes/0/content/exits/0/if"},
		{"tool's name", agent(`"exits": ["x"], "tools": [{"name": "leave", "actions": []}]`), "unknown-value", "/nodes/0/content/tools/0/name"},
		{"shared tool", agent(`"exits": ["x"], "tools": ["nowhere"]`), "missing-field", "/nodes/0/content/tools/0"},
		{"slot's type", agent(`"exits": ["x"], "slots": [{"name": "n", "type": "colour"}]`), "unknown-value", "/nodes/0/content/slots/0/input_type"},
		{"slot's variable", agent(`"exits": ["x"], "slots": [{"name": "session.id"}]`), "read-only", "/nodes/0/content/slots/0/variable"},
		{"nothing to hear", `{"nodes": [{"id": "a", "type": "listen", "content": {}, "connections": {"default": "e"}}` + rest, "missing-field", "/nodes/0/content/slots"},
		{"nothing to tell", `{"nodes": [{"id": "a", "type": "intent", "content": {}, "connections": {"default": "e"}}` + rest, "missing-field", "/nodes/0/content/intents"},
		{"sensitive prompt", pin(`"type": "agent", "content": {"prompt": "PIN {user.pin}", "exits": ["x"]}`), "sensitive-in-prompt", "/nodes/1/content/prompt"},
		{"sensitive slot", pin(`"type": "listen", "content": {"slots": [{"name": "user.pin"}]}`), "sensitive-in-prompt", "/nodes/1/content/slots"},
		{"sensitive alone", pin(`"type": "listen", "voice": {"sensitive": true}, "content": {"slots": [{"name": "user.pin"}]}`), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := Lint([]byte(tt.doc))
			found := slices.ContainsFunc(list, func(p Problem) bool { return p.Code == tt.code && p.Pointer == tt.pointer })
			refused := slices.ContainsFunc(list, func(p Problem) bool { return p.Severity == SeverityError })
			if tt.code == "" && refused || tt.code != "" && !found {
				t.Errorf("problems %v, want %s at %s", list, tt.code, tt.pointer)
			}
		})
	}
}
