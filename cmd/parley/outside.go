package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
	"parley/control/egress"
)

// What one conversation may call for in all.
const (
	conversationRequests = 1000
	conversationBytes    = 64 << 20
)

// outside is how flows reach the world: the way out, secrets, and what is
// remembered of servers.
type outside struct {
	client  *egress.Client
	secrets effect.Secrets
	memory  *effect.Memory
	log     *slog.Logger
}

// newOutside opens the way out to public addresses and to those of allow.
func newOutside(allow []string, secrets effect.Secrets, log *slog.Logger) (*outside, error) {
	client, err := newEgress(egress.Options{Allow: allow}, log)
	if err != nil {
		return nil, err
	}
	return &outside{client: client, secrets: secrets, memory: &effect.Memory{}, log: log}, nil
}

// newEgress opens a way out that tells the log what it refuses.
func newEgress(o egress.Options, log *slog.Logger) (*egress.Client, error) {
	o.Audit = func(ctx context.Context, r *egress.Refusal) {
		log.Warn("outbound request refused", "reason", r.Reason, "host", effect.Redact(ctx, r.Host), "address", r.Addr)
	}
	client, err := egress.New(o)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_EGRESS_ALLOW: %w", err)
	}
	return client, nil
}

// performer does the effects of one conversation of a tenant.
func (o *outside) performer(tenant uuid.UUID, log *slog.Logger) func(context.Context, flow.Effect) flow.Result {
	p := &effect.Performer{HTTP: sender{o.client}, Secrets: o.secrets, Circuits: o.memory, Answers: o.memory,
		Tenant: tenant.String(), Log: log}
	return o.budgeted(p, tenant)
}

// performerOf is performer with the program's own log: one turn of a chat.
func (o *outside) performerOf(tenant uuid.UUID) func(context.Context, flow.Effect) flow.Result {
	return o.performer(tenant, o.log)
}

func (o *outside) budgeted(p *effect.Performer, tenant uuid.UUID) func(context.Context, flow.Effect) flow.Result {
	budget := egress.NewBudget(conversationRequests, conversationBytes)
	return func(ctx context.Context, e flow.Effect) flow.Result {
		return p.Perform(egress.WithBudget(control.WithTenant(ctx, tenant), budget), e)
	}
}

// openSecrets opens the local file of secrets in the data folder.
func openSecrets(data string, ring *control.Keyring) (*control.SecretFile, error) {
	return control.OpenSecretFile(filepath.Join(data, "secrets"), ring)
}

// sender sends effects' requests by the one way out. It implements [effect.HTTP].
type sender struct{ client *egress.Client }

func (s sender) Send(ctx context.Context, r effect.Request) (effect.Response, error) {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	req := (&http.Request{Method: r.Method, URL: r.URL, Header: r.Header, Host: r.URL.Host,
		Body: io.NopCloser(bytes.NewReader(r.Body))}).WithContext(ctx)
	res, err := s.client.Do(req)
	var refused *egress.Refusal
	switch {
	case errors.As(err, &refused):
		return effect.Response{}, fmt.Errorf("%w: %s", effect.ErrRefused, refused.Reason)
	case err != nil:
		return effect.Response{}, err
	}
	body, err := io.ReadAll(res.Body)
	return effect.Response{Status: res.StatusCode, Header: res.Header, Body: body}, err
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
