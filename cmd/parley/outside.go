package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
	"parley/control/egress"
)

// outside is how flows reach the world: the way out, secrets, and what is
// remembered of servers.
type outside struct {
	client  *egress.Client
	secrets effect.Secrets
	memory  memory
	bounds  bounds
	rules   *control.EgressRules // of tenants; nil: there are none
	inside  *url.URL             // the internal API; nil: none
	key     []byte               // signs what the internal API is told; nil: nothing is
	vendors *vendors             // of language models; nil: flows do without
	log     *slog.Logger
	// contents is what flows say besides their own texts; nil: nothing.
	contents effect.Contents
}

// memory is what is remembered of servers.
type memory interface {
	effect.Circuits
	effect.Answers
}

// reach is what of the private network flows may call.
type reach struct {
	allow    []string // host:port
	internal string   // address of the internal API; empty: none
	proxy    string   // what public addresses are reached by; empty: directly
	key      []byte   // tells that API who calls; nil: nothing does
}

// newOutside opens the way out to public addresses and to what is within reach.
// What is refused is noted in audit, which may be nil.
func newOutside(r reach, secrets effect.Secrets, audit control.Audit, log *slog.Logger) (*outside, error) {
	o := &outside{secrets: secrets, memory: &effect.Memory{}, key: r.key, log: log}
	allow := r.allow
	if r.internal != "" {
		u, err := url.Parse(r.internal)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			return nil, fmt.Errorf("the internal API's address %q is not one such as http://127.0.0.1:9100", r.internal)
		}
		port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		o.inside, allow = u, append(slices.Clone(allow), net.JoinHostPort(u.Hostname(), port))
	}
	var err error
	o.client, err = newEgress(egress.Options{Allow: allow}, r.proxy, audit, log)
	return o, err
}

// newEgress opens a way out, by a proxy if there is one, that tells log and
// audit what it refuses.
func newEgress(o egress.Options, proxy string, audit control.Audit, log *slog.Logger) (*egress.Client, error) {
	if proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil { // which would repeat its password
			return nil, errors.New("PARLEY_EGRESS_PROXY is not a URL such as http://proxy:3128")
		}
		o.Proxy = u
	}
	o.Audit = refusals(audit, log)
	client, err := egress.New(o)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_EGRESS_ALLOW, PARLEY_EGRESS_PROXY: %w", err)
	}
	return client, nil
}

// sender sends for flows. The internal API is the operator's, whatever hosts a
// tenant lists.
func (o *outside) sender() sender {
	s := sender{client: o.client, rules: o.rules, meter: o.bounds.meter}
	if o.inside != nil {
		s.always = o.inside.Host
	}
	return s
}

// performer does the effects of one conversation of a tenant.
func (o *outside) performer(tenant uuid.UUID, log *slog.Logger) func(context.Context, flow.Effect) flow.Result {
	p := &effect.Performer{HTTP: o.sender(), Secrets: o.secrets, Circuits: o.memory, Answers: o.memory,
		Contents: o.contents, Tenant: tenant.String(), Internal: o.inside, Log: log}
	if o.vendors != nil {
		p.Models = o.vendors.proposer(tenant.String(), nil, log)
	}
	return o.budgeted(p, tenant)
}

// performerOf is performer with the program's own log: one turn of a chat.
func (o *outside) performerOf(tenant uuid.UUID) func(context.Context, flow.Effect) flow.Result {
	return o.performer(tenant, o.log)
}

func (o *outside) budgeted(p *effect.Performer, tenant uuid.UUID) func(context.Context, flow.Effect) flow.Result {
	return func(ctx context.Context, e flow.Effect) flow.Result {
		q := *p
		q.Bearer = o.bearer(ctx)
		return q.Perform(egress.WithBudgets(control.WithTenant(ctx, tenant), o.bounds.budgets(ctx, tenant)...), e)
	}
}

// bearer tells the internal API who the conversation of ctx is with.
func (o *outside) bearer(ctx context.Context) func(*url.URL) (effect.Secret, error) {
	party, ok := control.PartyOf(ctx)
	if !ok || len(o.key) == 0 {
		return nil
	}
	return func(*url.URL) (effect.Secret, error) { return effect.Secret(party.Token(o.key, time.Now())), nil }
}

// openSecrets opens the local file of secrets in the data folder.
func openSecrets(data string, ring *control.Keyring) (*control.SecretFile, error) {
	return control.OpenSecretFile(filepath.Join(data, "secrets"), ring)
}

// envSecrets are secrets of one run in a terminal, for every host that the
// person at the terminal lets the flow call.
type envSecrets func(name string) string

// Secret implements [effect.Secrets]: {secret:api_key} is PARLEY_SECRET_API_KEY.
func (s envSecrets) Secret(_ context.Context, key string, _ *url.URL) (effect.Secret, error) {
	if v := s("PARLEY_SECRET_" + envName(key)); v != "" {
		return effect.Secret(v), nil
	}
	return "", effect.ErrNoSecret
}

// envName is a key as names of the environment are written.
func envName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// readInternalKey reads the key that the internal API shares.
func readInternalKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the internal API's key cannot be read: %w", err)
	}
	if len(key) < 32 {
		return nil, fmt.Errorf("the internal API's key, %s, must hold at least 32 bytes", path)
	}
	return key, nil
}
