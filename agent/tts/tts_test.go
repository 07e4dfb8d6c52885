package tts_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/providertest"
	"parley/agent/tts"
)

// slowly is how slow the stand-ins are where they are slow.
const slowly = 10 * time.Millisecond

// standIns gives each remote vendor's stand-in; a new vendor is a line here.
var standIns = map[string]func(*testing.T, providertest.Manner) string{
	"deepgram": func(t *testing.T, m providertest.Manner) string {
		s := providertest.NewDeepgramSpeak(providertest.DeepgramSpeakScript{Key: providertest.Canary, Manner: m, Delay: slowly})
		t.Cleanup(func() { s.Close(); s.Check(t) })
		return s.URL
	},
	"elevenlabs": func(t *testing.T, m providertest.Manner) string {
		s := providertest.NewElevenLabs(providertest.ElevenLabsScript{Key: providertest.Canary, Manner: m, Delay: slowly})
		t.Cleanup(s.Close)
		return s.URL
	},
	"openai": func(t *testing.T, m providertest.Manner) string {
		s := providertest.NewOpenAI(providertest.OpenAIScript{Key: providertest.Canary, Manner: m, Delay: slowly})
		t.Cleanup(func() { s.Close(); s.Check(t) })
		return s.URL
	},
}

func TestVendors(t *testing.T) {
	for name, v := range tts.Vendors {
		t.Run(name, func(t *testing.T) {
			if v.Name != name || !v.Local && standIns[name] == nil {
				t.Fatalf("vendor %q has name %q or no stand-in", name, v.Name)
			}
			providertest.TestTTS(t, providertest.TTSCase{
				Aligns: v.Aligns, Local: v.Local,
				Dial: func(t *testing.T, ctx context.Context, m providertest.Manner, limit time.Duration) (agent.TTS, error) {
					o := tts.Options{
						Key: providertest.Key, FirstByte: limit, Idle: limit,
						Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
					}
					if !v.Local {
						o.URL = standIns[name](t, m)
					}
					return v.Dial(ctx, o)
				},
			})
		})
	}
}
