package main

import (
	"context"
	"encoding/json"
	"fmt"

	"parley/control/identity"
)

// tokensCommand looks after the keys that tokens are signed with.
type tokensCommand struct {
	Rotate tokensRotate `cmd:"" help:"Sign tokens with a new key from now on. Keys follow each other every 30 days without it."`
}

type tokensRotate struct {
	auditFlags
	Revoke bool `name:"revoke" help:"Refuse all keys before at once, and what they have signed: programs refresh their tokens. For when a key got out."`
	JSON   bool `name:"json" help:"Print one JSON object."`
}

// Help shows an example.
func (tokensRotate) Help() string {
	return "Example:\n  DATABASE_URL=postgres://parley_app@db/parley parley tokens rotate --key-file /run/secrets/parley --revoke"
}

// Run makes the key. Nodes that run find it by themselves.
func (c tokensRotate) Run(ctx context.Context, io stdio) error {
	store, rings, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	signer := &identity.Signer{Store: store, Ring: rings[len(rings)-1]}
	if err := signer.Rotate(ctx, c.Revoke); err != nil {
		return err
	}
	set, err := signer.JWKS(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(io.out).Encode(map[string]any{"kid": set.Keys[0].ID, "keys": len(set.Keys), "revoked": c.Revoke})
	}
	_, err = fmt.Fprintf(io.out, "tokens are signed with %s from now on; %d keys are published\n", set.Keys[0].ID, len(set.Keys))
	return err
}
