package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/providertest"
)

// testAfterCall has a model read a call after its end: what it makes of it is with
// the call and told by a webhook, and what all vendors did is in the ledger as they
// themselves counted it.
func testAfterCall(t *testing.T, e *endToEnd) {
	filled := providertest.Reply{Calls: []agent.ToolCall{{ID: "c2", Name: "record_call",
		Arguments: `{"summary":"Asks for rye bread.","outcome":"order","extracted":{"item":"rye"}}`}}}
	const goodbye = "We keep one for you. Goodbye."
	c := e.addClerk(t, "noter-vendors", []string{"One rye bread, please."}, endCall(goodbye), filled)
	e.addAgent(t, "noter", settings{"kind": "prompt", "prompt": "You are the clerk of a bakery.", "greeting": "Bakery, hello?",
		"tools": []string{"end_call"},
		"turns": settings{"no_speculation": true}, // what a guess that was dropped has read, no vendor tells
		"stt":   []settings{{"vendor": "deepgram", "model": c.name + "-stt"}},
		"llm":   []settings{{"vendor": "openai", "model": c.name + "-llm"}},
		"tts":   []settings{{"vendor": "openai", "model": c.name + "-tts", "voice": "alloy"}},
		"after_call": settings{"summary": true, "outcomes": []string{"order", "complaint"},
			"extract": json.RawMessage(`{"type":"object","properties":{"item":{"type":"string"}},"required":["item"]}`)},
	})
	var hook struct{ Secret string }
	e.request(t, "POST", "/v1/webhooks", settings{"name": "noter", "url": e.hooks, "events": []string{"call_summarized"}}, &hook)
	e.box.secret = hook.Secret

	h := e.call(t, "noter", `
wait-speech 20s
wait-quiet 1s
say one rye bread please
expect-end goodbye
expect-heard goodbye
`)
	if h.status != exitOK {
		t.Fatalf("exit status %d:\n%s", h.status, h.log())
	}
	call, _ := e.stored(t, "noter")
	var made struct {
		AfterCall struct {
			Status, Failure, Summary, Outcome string
			Extracted                         struct{ Item string }
			Attempts                          int
		} `json:"after_call"`
	}
	e.until(t, "the call is read and told of", func() bool {
		e.request(t, "GET", "/v1/calls/"+call.ID, nil, &made)
		return made.AfterCall.Status != "pending" && e.box.lastOf(call.ID) == "call_summarized"
	})
	if w := made.AfterCall; w.Status != "done" || w.Summary != "Asks for rye bread." || w.Outcome != "order" || w.Extracted.Item != "rye" || w.Attempts != 1 {
		t.Errorf("made of the call: %+v", w)
	}

	var ledger struct {
		Items []struct {
			Kind, Model string
			Turn        int
			Amount      int64
		}
	}
	e.request(t, "GET", "/v1/calls/"+call.ID+"/usage", nil, &ledger)
	entered := map[string]int64{}
	for _, u := range ledger.Items {
		entered[u.Kind] += u.Amount
	}
	asked := c.models.Requests()
	if len(asked) != 2 || !strings.Contains(string(asked[1].Body), "rye bread") {
		t.Errorf("the model was asked %d times", len(asked))
	}
	spoken := 0
	for _, r := range c.voice.Requests() {
		var in struct{ Input string }
		if err := json.Unmarshal(r.Body, &in); err != nil {
			t.Error(err)
		}
		spoken += len([]rune(in.Input))
	}
	for kind, counted := range map[string]int64{
		agent.UseInput:      10 * int64(len(asked)),
		agent.UseOutput:     int64(len(strings.Fields(goodbye))), // the form has no words
		agent.UseCharacters: int64(spoken),
		agent.UseHeard:      c.ears.AudioBytes() / (2 * 8), // of 16 bits at 8 kHz
	} {
		if entered[kind] != counted || counted == 0 {
			t.Errorf("the ledger has %d %s, the vendor counted %d: %+v", entered[kind], kind, counted, ledger.Items)
		}
	}
}

// until polls for what comes within half a minute.
func (e *endToEnd) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
