package control_test

import (
	"encoding/json"
	"os"
	"testing"

	"parley/control"
	"parley/control/class"
)

// fields calls fn for each property of a JSON Schema, with its path.
func fields(path string, schema map[string]any, fn func(path string, field map[string]any)) {
	for _, part := range []string{"properties", "$defs"} {
		list, _ := schema[part].(map[string]any)
		for name, v := range list {
			field, ok := v.(map[string]any)
			if !ok {
				continue
			}
			if part == "properties" {
				fn(path+"."+name, field)
			}
			fields(path+"."+name, field, fn)
		}
	}
}

// Every field of events and of a session's state says what class of data it
// holds, and none what may not be there: events and webhooks, like state, take
// classes up to personal.
func TestFieldsHaveClasses(t *testing.T) {
	state, err := os.ReadFile("../docs/session-state.schema.json")
	must(t, err)
	for what, text := range map[string]string{"event": control.EventSchema, "state": string(state)} {
		var doc map[string]any
		must(t, json.Unmarshal([]byte(text), &doc))
		n := 0
		fields(what, doc, func(path string, field map[string]any) {
			n++
			name, _ := field["x-class"].(string)
			if c := class.Class(name); name == "" || !known(c) {
				t.Errorf("%s has no class", path)
			} else if !c.Within(class.Personal) {
				t.Errorf("%s is %s", path, c)
			}
		})
		if n < 10 {
			t.Errorf("%s: only %d fields", what, n)
		}
	}
}

func known(c class.Class) bool {
	for _, k := range class.All() {
		if c == k {
			return true
		}
	}
	return false
}
