package control_test

import (
	"context"
	"net/url"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/effect"
	"parley/control"
)

var (
	endNetwork    = agent.Ending{Reason: "network"}
	twilioAddress = &url.URL{Scheme: "https", Host: "api.twilio.com"}
)

// tokensOf are secrets of one tenant.
type tokensOf struct {
	tenant uuid.UUID
	values map[string]string
}

func (s tokensOf) Secret(ctx context.Context, key string, _ *url.URL) (effect.Secret, error) {
	if t, ok := control.TenantOf(ctx); ok && t == s.tenant && s.values[key] != "" {
		return effect.Secret(s.values[key]), nil
	}
	return "", effect.ErrNoSecret
}

// have is for what a test could not go on without.
func have[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
