package flow

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
)

// A composite changes nothing of its parent but its outputs' targets, and those
// only when it completes: whatever its nodes do to local, output, input and
// what nobody may write, at any depth.
func TestCompositesChangeOutputsAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	completed, failed := 0, 0
	for range 600 {
		seed := make([]byte, 300)
		for i := range seed {
			seed[i] = byte(r.IntN(256))
		}
		switch outcome := compositeKeepsOut(t, seed); outcome {
		case "done":
			completed++
		case "failed":
			failed++
		}
	}
	if completed < 30 || failed < 30 {
		t.Errorf("%d composites completed and %d failed: too few to tell", completed, failed)
	}
}

// compositeKeepsOut runs one composite between two questions.
func compositeKeepsOut(t *testing.T, seed []byte) string {
	t.Helper()
	c := &choices{b: seed, inside: true}
	n := 1 + c.n(5)
	inputs := fields{"i": c.value(), "user": "{user}"}
	outputs := fields{"o": "user.out", "o2.p": "variables.list.0", "missing": "temp.never"}
	doc, err := json.Marshal(fields{"entry": "before", "nodes": []any{
		fields{"id": "before", "type": "question", "content": fields{"question": "?", "variable": "temp.said"}, "connections": fields{"default": "c"}},
		fields{"id": "c", "type": "composite", "content": fields{"nodes": c.nodes(n, 1), "inputs": inputs, "outputs": outputs},
			"connections": fields{"complete": "done", "error": "failed", "default": "other"}},
		fields{"id": "done", "type": "question", "content": fields{"question": "done", "variable": "x"}},
		fields{"id": "failed", "type": "question", "content": fields{"question": "failed", "variable": "x"}},
		fields{"id": "other", "type": "question", "content": fields{"question": "other", "variable": "x"}},
	}, "defaults": fields{"limits": fields{"steps_per_turn": 50, "turns": 40}}})
	if err != nil {
		t.Fatal(err)
	}
	f := mustParse(t, string(doc))
	s := New(f, Init{ID: "p", Variables: fields{"list": []any{"a", "b"}, "a": 1}, User: fields{"x": fields{"y": 1}}, Env: fields{"e": 1}})
	s = fuzzStep(t, f, s, Start{epoch})
	s = fuzzStep(t, f, s, Input{epoch, "go", "text", 0})
	before := parentOf(s)
	before["temp"].(map[string]any)["said"] = "go"
	for i := 0; i < 40 && len(s.System.Frames) > 1 && s.Session.Status == Active; i++ {
		s = fuzzStep(t, f, s, c.event(s, At{epoch.At}))
		if len(s.System.Frames) > 1 {
			if now := parentOf(s); !reflect.DeepEqual(now, before) {
				t.Fatalf("within the composite the parent has become\n%v\nwas\n%v\n%s", now, before, doc)
			}
		}
	}
	at := s.Session.CurrentNode
	now := parentOf(s)
	if at == "done" { // the outputs' targets are its own
		for _, m := range []fields{before, now} {
			delete(m["user"].(map[string]any), "out")
			m["variables"].(map[string]any)["list"].([]any)[0] = "*"
		}
	}
	if len(s.System.Frames) == 1 && !reflect.DeepEqual(now, before) {
		t.Fatalf("at %q the parent has become\n%v\nwas\n%v\n%s", at, now, before, doc)
	}
	return at
}

// parentOf is a copy of all that a parent may read.
func parentOf(s State) fields {
	b, err := json.Marshal(fields{"user": s.User, "variables": s.Variables, "temp": s.Temp, "context": s.Context, "env": s.System.Env,
		"frame": fmt.Sprint(s.System.Frames[0].Local, s.System.Frames[0].Output, s.System.Frames[0].Input)})
	if err != nil {
		return nil
	}
	v, _ := decodeValue(b)
	m, _ := v.(map[string]any)
	return m
}
