// Package llm holds the language models: a file and a line of [Vendors] each.
package llm

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"parley/agent"
)

// A Vendor is all that the gateway knows of a language model service. The API
// validates an agent's settings, the console draws its form and Vault names its
// secret from these fields, so nothing else mentions a vendor by name.
type Vendor struct {
	Name       string   // in the API, metric labels and Vault path
	Models     []string // first is the default; any other is passed on as it is
	DefaultURL string

	// Dial prepares a model. It returns an error wrapping one of agent's Err
	// values; requests are made by Reply.
	Dial func(context.Context, Options) (agent.LLM, error)
}

// Options configures a model. Zero fields take the vendor's first choice.
type Options struct {
	Key    agent.Credential // may be nil, or give "", for a local server
	Model  string
	URL    string       // overrides Vendor.DefaultURL: any compatible server
	Logger *slog.Logger // default: discards
	Client *http.Client // default http.DefaultClient; without a Timeout of its own

	FirstToken time.Duration // limit to the first delta; default 2.5 s
	Idle       time.Duration // limit from one delta to the next; default 5 s
}

// Vendors lists every vendor, by name. A new one is a file and a line here.
// It is read-only.
var Vendors = map[string]Vendor{
	"openai": openai,
}

// dialedBy returns v with a Dial that fills the options' defaults.
func (v Vendor) dialedBy(dial func(context.Context, Options) (agent.LLM, error)) Vendor {
	v.Dial = func(ctx context.Context, o Options) (agent.LLM, error) {
		return dial(ctx, o.withDefaults(v))
	}
	return v
}

func (o Options) withDefaults(v Vendor) Options {
	if o.Model == "" && len(v.Models) > 0 {
		o.Model = v.Models[0]
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
	o.FirstToken = cmp.Or(o.FirstToken, 2500*time.Millisecond)
	o.Idle = cmp.Or(o.Idle, 5*time.Second)
	return o
}
