package api

import (
	"encoding/json"
	"errors"
	"testing"

	"parley/control"
)

// FuzzChatBody reads any body of a chat: an answer within its bounds or a
// refusal that repeats nothing of it.
func FuzzChatBody(f *testing.F) {
	for _, s := range []string{`"tea"`, `12.50`, `true`, `["a","b"]`, `{"value":"x","label":"X"}`, `{"value":{"value":1}}`, `null`, ` `, `{"value":null}`, `{"user":{"a":[1e999]}}`,
		`{"user":"x"}`, `[[[[`, `"\ud800\u0000"`, `{"a":1}{"b":2}`, `{"value":"x"} trailing`} {
		f.Add([]byte(s), "dtmf")
	}
	f.Fuzz(func(t *testing.T, body []byte, typ string) {
		var refused *control.Invalid
		a, err := readAnswer(body, typ)
		switch {
		case err != nil && !errors.As(err, &refused):
			t.Fatalf("%q: %v", body, err)
		case err == nil && len(a.Text) > control.MaxAnswer:
			t.Fatalf("%q: %d bytes", body, len(a.Text))
		case err == nil && a.Mode != "text" && a.Mode != "dtmf":
			t.Fatalf("%q: mode %q", body, a.Mode)
		}
		scopes, err := readScopes("updates", body)
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("%q: %v", body, err)
		}
		if err == nil && json.Valid(body) {
			if _, err := json.Marshal(scopes); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
		}
	})
}
