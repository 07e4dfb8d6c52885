package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/effect"
	"parley/agent/flow"
	"parley/agent/llm"
	"parley/agent/stt"
	"parley/agent/tts"
	"parley/control"
)

// vendors turns an agent's choices into providers, with the program's keys.
type vendors struct {
	keys   map[string]string     // vendor → key of the program's own, or a reference to it
	urls   map[string]string     // vendor → address, where not its own
	lags   map[string]*agent.Lag // recognizer → how late its words come
	client *http.Client
	log    *slog.Logger

	secrets  *control.SecretService // of tenants, and behind references
	breakers agent.Breakers         // of all tenants, for all calls
}

func newVendors(s Settings, secrets *control.SecretService, log *slog.Logger) *vendors {
	lags := map[string]*agent.Lag{}
	for name, v := range stt.Vendors {
		lags[name] = &agent.Lag{Declared: v.FinalLag}
	}
	urls := map[string]string{"openai": s.OpenAIBaseURL, "deepgram": s.DeepgramBaseURL, "deepgram-flux": s.DeepgramBaseURL, "elevenlabs": s.ElevenLabsBaseURL}
	return &vendors{
		lags: lags,
		keys: map[string]string{"openai": s.OpenAIKey, "deepgram": s.DeepgramKey, "deepgram-flux": s.DeepgramKey, "elevenlabs": s.ElevenLabsKey},
		urls: urls, client: &http.Client{Transport: vendorTransport(urls, log)},
		log: log, secrets: secrets,
	}
}

// vendorTables are the vendors' own tables, as agents' settings are held to.
func vendorTables() control.VendorTables {
	t := control.VendorTables{STT: map[string]control.VendorTable{}, LLM: map[string]control.VendorTable{}, TTS: map[string]control.VendorTable{}}
	for name, v := range stt.Vendors {
		t.STT[name] = control.VendorTable{Models: v.Models, Languages: v.Languages, Closed: v.Local}
	}
	for name, v := range llm.Vendors {
		t.LLM[name] = control.VendorTable{Models: v.Models}
	}
	for name, v := range tts.Vendors {
		t.TTS[name] = control.VendorTable{Models: v.Models, Voices: v.Voices, Languages: v.Languages, Closed: v.Local}
	}
	return t
}

// has reports whether a remote vendor can be used: a key is set, or a server
// of one's own that needs none.
func (v *vendors) has(name string) bool { return v.keys[name] != "" || v.urls[name] != "" }

// key returns the key for a choice: the tenant's secret that it names, which must
// be bound to the vendor's address, else the program's own. What cannot be had
// is an error of the vendor, so that the call goes on with the next.
func (v *vendors) key(tenant string, c control.VendorChoice, address string) agent.Credential {
	if c.Credential == "" {
		get, err := v.secrets.Setting(v.keys[c.Vendor])
		return func(ctx context.Context) (string, error) {
			if err != nil {
				return "", fmt.Errorf("%w: the key of %s %w", agent.ErrCredentials, c.Vendor, err)
			}
			return vendorKey(get(ctx))
		}
	}
	id, err := uuid.Parse(tenant)
	to, bad := url.Parse(cmp.Or(v.urls[c.Vendor], address))
	return func(ctx context.Context) (string, error) {
		if err := errors.Join(err, bad); err != nil {
			return "", fmt.Errorf("%w: the secret %s belongs to no tenant", agent.ErrCredentials, c.Credential)
		}
		s, err := v.secrets.Secret(control.WithTenant(ctx, id), c.Credential, to)
		return vendorKey(string(s), err)
	}
}

// vendorKey maps why there is no key to what a vendor's error would be.
func vendorKey(key string, err error) (string, error) {
	switch {
	case errors.Is(err, effect.ErrNoSecret), errors.Is(err, control.ErrNotFound):
		return "", fmt.Errorf("%w: %w", agent.ErrCredentials, err)
	case err != nil:
		return "", fmt.Errorf("%w: %w", agent.ErrUnavailable, err)
	}
	return key, nil
}

// defaults picks vendors by the keys that are there: recognition by Deepgram,
// else OpenAI, else local; speech by OpenAI, then local.
func (v *vendors) defaults(kind string) []control.VendorChoice {
	var list []control.VendorChoice
	add := func(name string, ok bool) {
		if ok {
			list = append(list, control.VendorChoice{Vendor: name})
		}
	}
	switch kind {
	case "stt":
		add("deepgram", v.has("deepgram"))
		add("openai", v.keys["openai"] != "")
		add("pocketsphinx", installed("pocketsphinx_continuous"))
	case "llm":
		add("openai", v.has("openai"))
	case "tts":
		add("openai", v.keys["openai"] != "")
		add("flite", installed("flite"))
	}
	return list
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// eagerThreshold is how sure a recognizer must be that a turn is over for it to
// say that it may be: well under the 0.7 at which Deepgram's ends it. Whether a
// reply is begun then, the agent's settings say.
const eagerThreshold = 0.5

// recognizers are a call's. Who serves is kept from vendors that fail by the
// breakers of its tenant.
func (v *vendors) recognizers(tenant string, choices []control.VendorChoice, language string, log *slog.Logger) ([]agent.Recognizer, error) {
	if len(choices) == 0 {
		choices = v.defaults("stt")
	}
	var out []agent.Recognizer
	for i, c := range choices {
		vendor, ok := stt.Vendors[c.Vendor]
		if !ok {
			return nil, fmt.Errorf("there is no recognizer %q", c.Vendor)
		}
		o := stt.Options{Key: v.key(tenant, c, vendor.DefaultURL), Model: c.Model, Language: language, URL: v.urls[c.Vendor], Logger: log, Client: v.client}
		if vendor.EndsTurns {
			o.EagerThreshold = eagerThreshold
		}
		out = append(out, agent.Recognizer{Vendor: c.Vendor, Rates: vendor.Rates, Interims: vendor.Interims, Pace: vendor.Pace,
			EndsTurns: vendor.EndsTurns, Lag: v.lags[c.Vendor],
			Breaker: v.breakers.Of(tenant, "stt", c.Vendor, c.Model),
			Dial: func(ctx context.Context, h agent.Hearing) (agent.STT, error) {
				o := o
				o.Rate, o.Language, o.Boost = h.Rate, cmp.Or(h.Language, language), h.Boost
				o.Model = cmp.Or(meant(h.Model, c.Vendor, i == 0), c.Model)
				if h.Terms != "" {
					o.Terms = strings.Split(h.Terms, "\n")
				}
				return vendor.Dial(ctx, o)
			}})
	}
	return out, nil
}

func (v *vendors) models(ctx context.Context, tenant string, choices []control.VendorChoice, log *slog.Logger) ([]agent.Model, error) {
	return v.modelsOf(ctx, tenant, choices, "llm", 0, log)
}

// modelsOf are models whose breakers are of a kind of work; patience is how long
// they may be silent, 0 for a conversation's.
func (v *vendors) modelsOf(ctx context.Context, tenant string, choices []control.VendorChoice, kind string, patience time.Duration, log *slog.Logger) ([]agent.Model, error) {
	if len(choices) == 0 {
		choices = v.defaults("llm")
	}
	var out []agent.Model
	for _, c := range choices {
		vendor, ok := llm.Vendors[c.Vendor]
		if !ok {
			return nil, fmt.Errorf("there is no model vendor %q", c.Vendor)
		}
		m, err := vendor.Dial(ctx, llm.Options{Key: v.key(tenant, c, vendor.DefaultURL), Model: c.Model, URL: v.urls[c.Vendor], Logger: log, Client: v.client,
			FirstToken: patience, Idle: patience})
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", c.Vendor, err)
		}
		out = append(out, agent.Model{Vendor: c.Vendor, Model: firstOf(c.Model, vendor.Models), Breaker: v.breakers.Of(tenant, kind, c.Vendor, c.Model), LLM: m})
	}
	return out, nil
}

// synthesizers always end with the local voice where it is installed: an
// apology must come from somewhere.
func (v *vendors) synthesizers(tenant string, choices []control.VendorChoice, log *slog.Logger) ([]agent.Synthesizer, error) {
	if len(choices) == 0 {
		choices = v.defaults("tts")
	} else if !slices.ContainsFunc(choices, func(c control.VendorChoice) bool { return c.Vendor == "flite" }) && installed("flite") {
		choices = append(slices.Clone(choices), control.VendorChoice{Vendor: "flite"})
	}
	var out []agent.Synthesizer
	for i, c := range choices {
		vendor, ok := tts.Vendors[c.Vendor]
		if !ok {
			return nil, fmt.Errorf("there is no voice vendor %q", c.Vendor)
		}
		o := tts.Options{Key: v.key(tenant, c, vendor.DefaultURL), Model: c.Model, Voice: c.Voice, URL: v.urls[c.Vendor], Logger: log, Client: v.client}
		out = append(out, agent.Synthesizer{Vendor: c.Vendor, Model: firstOf(c.Model, vendor.Models), Voice: strings.Join([]string{c.Vendor, c.Model, c.Voice}, "/"),
			PerMinute: vendor.PerMinute, SSML: vendor.SSML, Breaker: v.breakers.Of(tenant, "tts", c.Vendor, c.Model),
			Dial: func(ctx context.Context, how agent.Delivery) (agent.TTS, error) {
				o := o
				o.Voice, o.Speed = cmp.Or(meant(how.Voice, c.Vendor, i == 0), c.Voice), how.Rate
				return vendor.Dial(ctx, o)
			}})
	}
	return out, nil
}

// firstOf is the model that is asked: the one named, else the vendor's first.
func firstOf(named string, models []string) string {
	if named == "" && len(models) > 0 {
		return models[0]
	}
	return named
}

// proposer has models answer for the nodes of one conversation's flow: those
// that the flow names, else those of own, else the program's default.
func (v *vendors) proposer(tenant string, own []control.VendorChoice, log *slog.Logger) *agent.Proposer {
	return &agent.Proposer{Log: log, Models: func(ctx context.Context, use []flow.ModelChoice) ([]agent.Model, error) {
		if len(own) == 0 {
			own = v.defaults("llm")
		}
		if len(own) == 0 && len(use) == 0 {
			return nil, nil
		}
		choices := own
		if len(use) > 0 {
			choices = nil
			for _, u := range use {
				if u.Vendor == "" && len(own) > 0 {
					u.Vendor = own[0].Vendor
				}
				c := control.VendorChoice{Vendor: u.Vendor, Model: u.Model}
				if i := slices.IndexFunc(own, func(c control.VendorChoice) bool { return c.Vendor == u.Vendor }); i >= 0 {
					c.Credential = own[i].Credential
				}
				choices = append(choices, c)
			}
		}
		return v.models(ctx, tenant, choices, log)
	}}
}

// meant returns what a flow names, a voice or a model, for a vendor: it is the
// first one's, or of the vendor that it names before a slash.
func meant(name, vendor string, first bool) string {
	if own, of := strings.CutPrefix(name, vendor+"/"); of {
		return own
	}
	if first && !strings.Contains(name, "/") {
		return name
	}
	return ""
}
