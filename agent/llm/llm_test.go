package llm_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/llm"
	"parley/agent/providertest"
)

// standIns gives each vendor's stand-in; a new vendor is a line here.
var standIns = map[string]func(*testing.T, providertest.Manner) string{
	"openai": func(t *testing.T, m providertest.Manner) string {
		s := providertest.NewOpenAI(providertest.OpenAIScript{
			Key: providertest.Canary, Manner: m, Delay: 20 * time.Millisecond,
			Replies: []providertest.Reply{{Text: providertest.LLMText, Calls: providertest.LLMCalls()}},
		})
		t.Cleanup(func() { s.Close(); s.Check(t) })
		return s.URL
	},
}

func TestVendors(t *testing.T) {
	for name, v := range llm.Vendors {
		t.Run(name, func(t *testing.T) {
			if v.Name != name || standIns[name] == nil {
				t.Fatalf("vendor %q has name %q or no stand-in", name, v.Name)
			}
			providertest.TestLLM(t, providertest.LLMCase{Dial: func(t *testing.T, m providertest.Manner, limit time.Duration) (agent.LLM, error) {
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				return v.Dial(t.Context(), llm.Options{
					Key: providertest.Key, URL: standIns[name](t, m), Client: client,
					FirstToken: limit, Idle: limit,
				})
			}})
		})
	}
}

// A model that must call a tool is told so, where there is one.
func TestMustCall(t *testing.T) {
	s := providertest.NewOpenAI(providertest.OpenAIScript{Key: providertest.Canary, Replies: []providertest.Reply{{Text: "x"}}})
	t.Cleanup(s.Close)
	m, err := llm.Vendors["openai"].Dial(t.Context(), llm.Options{Key: providertest.Key, URL: s.URL, Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		t.Fatal(err)
	}
	tool := []agent.Tool{{Name: "note", Parameters: json.RawMessage(`{"type":"object","properties":{}}`)}}
	for _, p := range []agent.Prompt{{System: "s", MustCall: true, Tools: tool}, {System: "s", Tools: tool}, {System: "s", MustCall: true}} {
		for _, err := range m.Reply(t.Context(), p) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, r := range s.Requests() {
		if got, want := strings.Contains(string(r.Body), `"tool_choice":"required"`), i == 0; got != want {
			t.Errorf("request %d requires a call: %v, want %v: %s", i, got, want, r.Body)
		}
	}
}
