// Package tts holds the speech synthesizers: a file and a line of [Vendors]
// each.
package tts

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"parley/agent"
)

// A Vendor is all that the gateway knows of a text-to-speech service. The API
// validates an agent's settings, the console draws its form and Vault names its
// secret from these fields, so nothing else mentions a vendor by name.
type Vendor struct {
	Name       string   // in the API, metric labels and Vault path
	Models     []string // first is the default
	Voices     []string // first is the default
	Rate       int      // of the speech, in hertz
	Aligns     bool     // gives word times
	SSML       bool     // takes agent.Clause.SSML
	Local      bool     // runs on this machine, needs no key, and has no voices but those
	Languages  []string // that it speaks, as in "en", of any region; none: any
	MaxText    int      // characters of one clause; 0: no limit
	PerMinute  int      // clauses that it takes in a minute; 0: no limit
	DefaultURL string   // service address; empty for a local vendor

	// Dial prepares a voice, and returns at once: a socket is opened meanwhile,
	// and kept open. It returns an error wrapping one of agent's Err values.
	// Requests live within ctx and within the context of each Say. Whoever dials
	// must call Close.
	Dial func(context.Context, Options) (agent.TTS, error)
}

// Options configures one voice. Zero fields take the vendor's first choice.
type Options struct {
	Key          agent.Credential // may be nil for a local vendor
	Model        string           // others than Vendor.Models are passed on as they are
	Voice        string           // others than Vendor.Voices are passed on as they are
	Instructions string           // manner of speech, where the model takes it
	Speed        float64          // 0.5 to 2; 0 means 1
	Telephone    bool             // µ-law at 8 kHz, where the vendor has it: a quarter of the bytes
	URL          string           // overrides Vendor.DefaultURL
	Logger       *slog.Logger     // default: discards
	Client       *http.Client     // for vendors over HTTP; default http.DefaultClient

	FirstByte time.Duration // limit to the first speech; default 2.5 s
	Idle      time.Duration // limit from one piece to the next; default 5 s
}

// Vendors lists every vendor, by name. A new one is a file and a line here.
// It is read-only.
var Vendors = map[string]Vendor{
	"deepgram":   deepgram,
	"elevenlabs": elevenlabs,
	"flite":      flite,
	"openai":     openai,
}

// dialedBy returns v with a Dial that fills the options' defaults.
func (v Vendor) dialedBy(dial func(context.Context, Options) (agent.TTS, error)) Vendor {
	v.Dial = func(ctx context.Context, o Options) (agent.TTS, error) {
		return dial(ctx, o.withDefaults(v))
	}
	return v
}

func (o Options) withDefaults(v Vendor) Options {
	if o.Model == "" && len(v.Models) > 0 {
		o.Model = v.Models[0]
	}
	if o.Voice == "" && len(v.Voices) > 0 {
		o.Voice = v.Voices[0]
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.URL == "" {
		o.URL = v.DefaultURL
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	o.FirstByte = cmp.Or(o.FirstByte, 2500*time.Millisecond)
	o.Idle = cmp.Or(o.Idle, 5*time.Second)
	return o
}
