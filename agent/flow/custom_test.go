package flow

import (
	"strings"
	"testing"
)

// A program's own node type, in twenty lines.
func TestCustomNodeType(t *testing.T) {
	types := Types{"shout": {
		Check: func(content map[string]any) []Problem {
			if str(content["what"]) == "" {
				return []Problem{{SeverityError, "missing-field", "/what", "there is nothing to shout", "add \"what\""}}
			}
			return nil
		},
		Enter: func(v Visit) Outcome {
			loud := strings.ToUpper(str(v.Content.(map[string]any)["what"]))
			return Outcome{Name: "shouted", Messages: []Message{{Type: "text", Text: loud}}, Set: map[string]any{"user.loud": loud}}
		}}}
	doc := []byte(`{"nodes": [{"id": "s", "type": "Shout", "content": {"what": "{word}"}, "connections": {"shouted": "m"}},
		{"id": "m", "type": "message", "content": {"text": "{user.loud}!"}}]}`)
	f, err := Parse(doc, types)
	if err != nil {
		t.Fatal(err)
	}
	k := newTalk(t, f, Init{Variables: map[string]any{"word": "hey"}})
	if got := strings.Join(k.said, "|"); got != "HEY|HEY!" || len(f.Check()) != 0 {
		t.Errorf("said %q, problems %v", got, f.Check())
	}
	// Without its type, and without its content, the document is refused.
	if got := Lint(doc); got[0].Code != "unknown-type" {
		t.Errorf("unknown: %v", got)
	}
	if got := Lint([]byte(strings.Replace(string(doc), `"what": "{word}"`, ``, 1)), types); got[0].Pointer != "/nodes/0/content/what" {
		t.Errorf("unchecked: %v", got)
	}
}

// What such a type gets wrong harms one conversation alone.
func TestCustomNodeTypeFails(t *testing.T) {
	for name, enter := range map[string]func(Visit) Outcome{
		"panic":     func(Visit) Outcome { panic("x") },
		"read-only": func(Visit) Outcome { return Outcome{Set: map[string]any{"session.id": "x"}} },
	} {
		f, err := Parse([]byte(`{"nodes": [{"id": "s", "type": "own", "connections": {"error": "e"}}, {"id": "e", "type": "hangup", "content": {"status": "failed"}}]}`), Types{"own": {Enter: enter}})
		if err != nil {
			t.Fatal(err)
		}
		if k := newTalk(t, f, Init{}); k.s.Session.Status != Failed || k.s.Session.ID == "x" {
			t.Errorf("%s: %s", name, k.s.Session.Status)
		}
	}
}
