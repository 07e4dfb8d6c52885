package flow

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	s, err := c.Compile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func instance(t *testing.T, b []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Whatever runs in the examples and in the tests of the format fits the
// published schema.
func TestDocumentsFitTheSchema(t *testing.T) {
	s := schema(t, "flow.schema.json")
	n := 0
	fits := func(name string, doc any) {
		n++
		if err := s.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	examples, err := filepath.Glob("../../examples/*/*.json")
	if err != nil || len(examples) == 0 {
		t.Fatal("no examples", err)
	}
	for _, name := range append(examples, "sound") {
		b := []byte(sound)
		if name != "sound" {
			if b, err = os.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
		if doc, _ := instance(t, b).(map[string]any); doc["nodes"] != nil {
			fits(name, doc)
		}
	}
	files, err := filepath.Glob("flowtest/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Cases []struct {
				Name   string
				Flow   json.RawMessage
				Refuse any `json:"expect_publish_error"`
			}
		}
		if err := json.Unmarshal(b, &file); err != nil {
			t.Fatal(err)
		}
		for _, c := range file.Cases {
			if c.Refuse == nil && bytes.HasPrefix(bytes.TrimSpace(c.Flow), []byte("{")) {
				fits(name+" "+c.Name, instance(t, c.Flow))
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d documents", n)
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := schema(t, "flow.schema.json")
	for _, change := range [][2]string{
		{`"nodes"`, `"knots"`}, {`"options": ["small", "large"]`, `"options": 7`}, {`"method": "POST"`, `"method": 1`},
		{`{"type": "increment", "variable": "orders"}`, `"increment"`}, {`"version": "^1.2"`, `"version": {}`},
		{`{"if": {"var": "number", "exists": true}, "then": "tell"}`, `{"then": "tell"}`}, {`"default": "count"`, `"default": 3`},
		{`{"dtmf": "0"}, "then": "bye"`, `{"dtmf": "0"}`}, {`"no_input": {"timeout_ms": 6000, "max": 2}`, `"no_input": 6`},
	} {
		doc := strings.Replace(sound, change[0], change[1], 1)
		if doc == sound || s.Validate(instance(t, []byte(doc))) == nil {
			t.Errorf("%s is taken", change[1])
		}
	}
}

// A state as the API shows it, with numbers that a double cannot hold.
func TestStateFitsTheSchema(t *testing.T) {
	s := schema(t, "session-state.schema.json")
	f := mustParse(t, sound)
	k := newTalk(t, f, Init{ID: "s", Channel: "chat", Variables: map[string]any{"big": json.Number("9223372036854775807"), "price": json.Number("19.90000000000000000001")}})
	b, err := EncodeState(k.s)
	if err != nil {
		t.Fatal(err)
	}
	state, _ := instance(t, b).(map[string]any)
	delete(state, "system")
	if err := s.Validate(state); err != nil {
		t.Error(err)
	}
	again, err := DecodeState(b, Hash(b))
	if err != nil || again.Variables["big"] != json.Number("9223372036854775807") || again.Variables["price"] != json.Number("19.90000000000000000001") {
		t.Errorf("numbers changed: %v, %v", again.Variables, err)
	}
	state["secret"] = map[string]any{}
	if s.Validate(state) == nil {
		t.Error("a scope that is none is taken")
	}
}
