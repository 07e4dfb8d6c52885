package agent

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"parley/agent/flow"
)

// A call says content that a flow fetches, and asks it again after silence.
func TestFlowSaysContentOnCall(t *testing.T) {
	play(t, func(s *scene) {
		f, err := flow.Parse([]byte(`{"nodes":[
			{"id":"hello","type":"message","content":{"messages":[{"content_id":"hi"},{"content_id":"gone","content":"Nobody else is here."}]},"connections":{"default":"q"}},
			{"id":"q","type":"question","content":{"content_filter":{"type":"question"},"text":"?","variable":"x","voice":{"no_input":{"timeout_ms":4000,"max":3}}},"connections":{"default":"bye"}},
			{"id":"bye","type":"hangup","content":{"text":"Goodbye then."}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		s.spec.Prompt = nil
		s.spec.Flow = &FlowSpec{Flow: f, Init: flow.Init{ID: "c1"}, Perform: func(_ context.Context, e flow.Effect) flow.Result {
			fetch := e.(flow.Fetch)
			data, _ := json.Marshal([]*flow.Content{{ID: "hi", Content: "Good morning, friend."}, nil}) // texts
			if fetch.Wants[0].Type == "question" {
				data, _ = json.Marshal([]*flow.Content{{ID: "q", Content: map[string]any{"question": "Which colour?"}}})
			}
			return flow.Result{At: flow.At{At: time.Now()}, ID: fetch.ID, Outcome: "success", Data: data}
		}}
		s.results = []string{"blue"}
	}, func(s *scene) {
		s.wait(12 * time.Second) // silence: it asks again
		s.line.say(600 * time.Millisecond)
		if e := s.ended(15 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: Good morning, friend. Nobody else is here. Which colour?\nagent: Which colour?\ncaller: blue\nagent: Goodbye then.")
	})
}
