package agent_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"parley/agent"
)

// A key that is away is no key that was refused: the first comes back.
func TestCredentialRead(t *testing.T) {
	away := fmt.Errorf("%w: vault is sealed", agent.ErrUnavailable)
	for name, c := range map[string]struct {
		key  agent.Credential
		want string
		is   error
	}{
		"none":     {nil, "", nil},
		"there":    {func(context.Context) (string, error) { return "k", nil }, "k", nil},
		"away":     {func(context.Context) (string, error) { return "", away }, "", agent.ErrUnavailable},
		"unknown":  {func(context.Context) (string, error) { return "", errors.New("no such secret") }, "", agent.ErrCredentials},
		"withheld": {func(context.Context) (string, error) { return "k", agent.ErrCredentials }, "", agent.ErrCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.key.Read(t.Context())
			if got != c.want || (c.is == nil) != (err == nil) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%q, %v; want %q, %v", got, err, c.want, c.is)
			}
			if c.is == agent.ErrUnavailable && errors.Is(err, agent.ErrCredentials) {
				t.Error("what is away is taken for refused")
			}
		})
	}
}
