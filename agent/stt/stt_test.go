package stt

import (
	"context"
	"net/http"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/providertest"
)

const said = "Yes, that is right."

// slowly is how slow the stand-ins are where they are slow.
const slowly = 100 * time.Millisecond

// standIns gives each remote vendor's stand-in; a new vendor is a line here.
var standIns = map[string]func(*testing.T, providertest.Manner) string{
	"deepgram": func(t *testing.T, m providertest.Manner) string {
		s := providertest.NewDeepgram(providertest.DeepgramScript{Key: providertest.Canary, Utterances: []string{said}, Manner: m, Delay: slowly})
		t.Cleanup(func() { s.Close(); s.Check(t) })
		return s.URL
	},
	"deepgram-flux": func(t *testing.T, m providertest.Manner) string {
		s := providertest.NewFlux(providertest.FluxScript{Key: providertest.Canary, Utterances: []string{said}, Manner: m, Delay: slowly})
		t.Cleanup(s.Close)
		return s.URL
	},
	"openai": func(t *testing.T, m providertest.Manner) string {
		s := providertest.NewOpenAI(providertest.OpenAIScript{Key: providertest.Canary, Transcripts: []string{said}, Manner: m, Delay: slowly})
		t.Cleanup(func() { s.Close(); s.Check(t) })
		return s.URL
	},
}

func TestVendors(t *testing.T) {
	for name, v := range Vendors {
		for _, rate := range v.Rates {
			t.Run(name, func(t *testing.T) {
				if v.Name != name || !v.Local && standIns[name] == nil {
					t.Fatalf("vendor %q has name %q or no stand-in", name, v.Name)
				}
				c := providertest.STTCase{Rate: rate, Local: v.Local, Interims: v.Interims, Text: said}
				if v.Local {
					c.Speech, c.Text = speak(t, "Sales, please.", rate), "sales please"
					c.Expect = agent.Expectation{Kind: "choice", Phrases: []string{"Sales", "Support"}}
				}
				c.Dial = func(t *testing.T, ctx context.Context, m providertest.Manner, limit time.Duration) (agent.STT, error) {
					o := Options{Key: providertest.Key, Rate: rate, Limit: limit, Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
					if !v.Local {
						o.URL = standIns[name](t, m)
					}
					return v.Dial(ctx, o)
				}
				providertest.TestSTT(t, c)
			})
		}
	}
}
