package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"parley/control"
	"parley/store/redis"
)

// eraseCommand forgets a person, as POST /v1/erasures does, and waits for it.
type eraseCommand struct {
	Tenant string `required:"" placeholder:"ID" help:"Whose caller it is."`
	Caller string `placeholder:"NUMBER" xor:"who" required:"" help:"All calls from and to a number."`
	User   string `name:"user-id" placeholder:"ID" xor:"who" required:"" help:"All sessions with a user, in the words of the tenant's own program."`
	Yes    bool   `required:"" help:"Confirms that this cannot be undone."`
	JSON   bool   `name:"json" help:"Print one JSON object."`
	keysFlags
}

// Help shows an example.
func (eraseCommand) Help() string {
	return "Example:\n  parley erase --tenant 0199f1c2-7d1e-7c3a-9f6e-0d3f5a2b1c4d --caller +15552223333 --yes\n\n" +
		"Calls, transcripts, recordings, messages, sessions, events and what was to be delivered of them go for ever;\n" +
		"proofs without a name stay. What a legal hold keeps is not erased. See docs/retention.md for what backups hold.\n" +
		"Exit status: 0 it is done, 1 something is in its way, or a call must end first and the gateway goes on with it, 2 it was called wrongly."
}

// erased is what is printed as JSON.
type erased struct {
	ID       uuid.UUID `json:"id"`
	Status   string    `json:"status"`
	Sessions int       `json:"sessions"`
	Rows     int64     `json:"rows"`
	Files    int       `json:"files"`
	Waiting  int       `json:"waiting"`
	Held     int       `json:"held"`
}

// Run erases.
func (c eraseCommand) Run(ctx context.Context, io stdio) error {
	tenant, err := parseTenant(c.Tenant)
	if err != nil {
		return err
	}
	o, err := c.open(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	ring, err := readKeyring(c.KeyFile)
	if err != nil {
		return usageError{err}
	}
	log := c.logger(io.err, "text")
	k := &control.Keeper{Store: o.db, Tenants: o.db, Files: o.blobs, Ring: ring, Log: log, Once: &control.Idempotency{Store: o.db, Ring: ring, Log: log}}
	if c.RedisURL != "" {
		shared, err := redis.Open(c.RedisURL)
		if err != nil {
			return usageError{err}
		}
		defer shared.Close()
		k.Shared = shared
	}
	ctx = control.WithTenant(ctx, tenant)
	e, err := k.RequestErasure(ctx, c.Caller, c.User)
	var refused *control.Refusal
	if errors.As(err, &refused) {
		return errors.New(refused.Reason)
	}
	if err == nil {
		err = k.EraseNow(ctx)
	}
	if err == nil {
		e, err = o.db.Erasure(ctx, e.ID)
	}
	if err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	say(io, c.JSON, erased{e.ID, e.Status, e.Sessions, e.Rows, e.Blobs, e.Waiting, e.Held},
		"erasure %s is %s: %d calls and sessions, %d rows, %d files\n", e.ID, e.Status, e.Sessions, e.Rows, e.Blobs)
	if e.Status != control.ErasureDone {
		return fmt.Errorf("%d calls must end first or have just ended, %d are kept by legal holds: the gateway goes on with the rest by itself", e.Waiting, e.Held)
	}
	return nil
}
