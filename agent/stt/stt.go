// Package stt holds the recognizers: a file and a line of [Vendors] each.
package stt

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"parley/agent"
)

// A Vendor is all that the gateway knows of a speech-to-text service. The API
// validates an agent's settings, the console draws its form and Vault names its
// secret from these fields, so nothing else mentions a vendor by name.
type Vendor struct {
	Name       string   // in the API, metric labels and Vault path
	Models     []string // first is the default
	Rates      []int    // sample rates taken, in hertz, best first
	Interims   bool     // gives words before the utterance has ended
	Pace       float64  // times faster than life that it takes audio; 0: no more than Deepgram's 1.25
	Local      bool     // runs on this machine, needs no key, and has no models but those
	Languages  []string // that it knows, as in "en", of any region; none: any
	DefaultURL string   // service address; for a local vendor its model folder

	// FinalLag is how late its last words are taken to come after a pause until
	// enough was measured, see [agent.Lag].
	FinalLag time.Duration
	// EndsTurns says that it ends turns by what is said and how, and can say
	// when one is perhaps over: see Options.EagerThreshold.
	EndsTurns bool

	// Dial opens a stream. It returns an error wrapping one of agent's Err
	// values within 3 s. The stream lives until Close or until ctx ends, and
	// whoever dials must call Close, which waits for the stream's goroutines.
	Dial func(context.Context, Options) (agent.STT, error)
}

// Options configures one stream. Zero fields take the vendor's first choice.
type Options struct {
	Key      agent.Credential // may be nil for a local vendor
	Model    string           // one of Vendor.Models; others are passed on as they are
	Language string           // BCP 47; default "en-US"
	Rate     int              // samples per second; a member of Vendor.Rates
	URL      string           // overrides Vendor.DefaultURL
	Logger   *slog.Logger     // default: discards
	Limit    time.Duration    // for the vendor's answer to a dial or an utterance; default 3 s, and 10 s of what is remote
	Client   *http.Client     // for vendors over HTTP; default http.DefaultClient

	// Terms are words to be heard before others, and Boost how much they weigh,
	// up to 10, for vendors that are told as they are dialed.
	Terms []string
	Boost float64

	// For vendors that find the end of a turn by themselves: how sure they must
	// be, from 0 to 1, to end it and to call it perhaps over (Transcript.Eager).
	// 0 takes the vendor's own value, and no Eager.
	TurnThreshold, EagerThreshold float64
}

// Vendors lists every vendor, by name. A new one is a file and a line here.
// It is read-only.
var Vendors = map[string]Vendor{
	"deepgram":      deepgram,
	"deepgram-flux": flux,
	"openai":        openai,
	"pocketsphinx":  pocketsphinx,
}

// dialedBy returns v with a Dial that fills the options' defaults.
func (v Vendor) dialedBy(dial func(context.Context, Options) (agent.STT, error)) Vendor {
	v.Dial = func(ctx context.Context, o Options) (agent.STT, error) {
		o, err := o.withDefaults(v)
		if err != nil {
			return nil, err
		}
		return dial(ctx, o)
	}
	return v
}

// withDefaults fills o from v, or reports a rate that v does not take.
func (o Options) withDefaults(v Vendor) (Options, error) {
	if o.Rate == 0 {
		o.Rate = v.Rates[0]
	}
	if !slices.Contains(v.Rates, o.Rate) {
		return o, fmt.Errorf("%s: %w: rate %d Hz, want one of %v", v.Name, agent.ErrProtocol, o.Rate, v.Rates)
	}
	if o.Model == "" {
		o.Model = v.Models[0]
	}
	if o.Language == "" {
		o.Language = "en-US"
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
	return o, nil
}
