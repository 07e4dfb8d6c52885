package llm_test

import (
	"net/http"
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
			providertest.TestLLM(t, providertest.LLMCase{Dial: func(t *testing.T, m providertest.Manner) (agent.LLM, error) {
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				return v.Dial(t.Context(), llm.Options{
					Key: providertest.Key, URL: standIns[name](t, m), Client: client,
					FirstToken: 300 * time.Millisecond, Idle: 300 * time.Millisecond,
				})
			}})
		})
	}
}
