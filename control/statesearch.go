package control

import (
	"encoding/json"
	"regexp"
	"strings"
)

// maxStateTests in one search; each has two readings at most.
const maxStateTests = 4

// A StateTest asks for conversations whose state has a value at a path.
type StateTest struct {
	Path  string // "variables.order.status"; the scopes are user, variables, context, temp and session
	Value string // JSON, or a text as it is: 3 finds both 3 and "3"
}

var statePath = regexp.MustCompile(`^(user|variables|context|temp|session)(\.[^.]+)+$`)

// StateWanted turns tests, which must all hold, into the objects of which a
// state must contain one. Errors: [Invalid].
func StateWanted(tests []StateTest) ([]json.RawMessage, error) {
	if len(tests) > maxStateTests {
		return nil, Invalidf("state", "at most %d values may be asked for", maxStateTests)
	}
	wanted := []map[string]any{{}}
	for _, t := range tests {
		if !statePath.MatchString(t.Path) || len(t.Path) > 400 || len(t.Value) > 1000 {
			return nil, Invalidf("state."+t.Path, "must be a path within user, variables, context, temp or session, and a value of at most 1000 bytes")
		}
		readings := []any{t.Value}
		var v any
		if d := json.NewDecoder(strings.NewReader(t.Value)); true {
			d.UseNumber()
			if d.Decode(&v) == nil && !d.More() {
				if s, quoted := v.(string); quoted {
					readings = []any{s}
				} else {
					readings = append(readings, v)
				}
			}
		}
		var next []map[string]any
		for _, w := range wanted {
			for _, r := range readings {
				next = append(next, with(w, strings.Split(t.Path, "."), r))
			}
		}
		wanted = next
	}
	out := make([]json.RawMessage, len(wanted))
	for i, w := range wanted {
		b, err := json.Marshal(w)
		if err != nil {
			return nil, Invalidf("state", "cannot be read")
		}
		out[i] = b
	}
	return out, nil
}

// with returns a copy of m with a value at a path.
func with(m map[string]any, path []string, v any) map[string]any {
	out := make(map[string]any, len(m)+1)
	for k, e := range m {
		out[k] = e
	}
	if len(path) == 1 {
		out[path[0]] = v
		return out
	}
	inner, _ := out[path[0]].(map[string]any)
	out[path[0]] = with(inner, path[1:], v)
	return out
}
