package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/hashicorp/vault/api"
)

// A lease is how long we are signed in.
type lease struct {
	number    int // counts sign-ins
	ttl       time.Duration
	until     time.Time // zero: for ever
	renewAt   time.Time
	renewable bool
}

// Pauses between attempts to sign in while Vault is away.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Run keeps the client signed in until ctx ends, and returns nil then. It never
// gives up: Vault may come and go, be sealed and unsealed.
func (c *Client) Run(ctx context.Context) error {
	pause := time.Duration(0)
	for {
		next, err := c.keep(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			pause = min(max(2*pause, firstPause), lastPause)
			// Not all at once, when Vault is back.
			next = time.Now().Add(pause/2 + rand.N(pause/2))
		default:
			pause = 0
		}
		wake := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-wake.C:
		case <-c.kick:
		}
		wake.Stop()
	}
}

// never is when a lease without an end is looked at again.
const never = 24 * time.Hour

// keep signs in if that is due, or renews, and returns when to come again.
func (c *Client) keep(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	if err := c.hold(ctx); err != nil {
		return time.Time{}, err
	}
	defer c.release()
	c.mu.Lock()
	have, in := c.lease, c.why == nil
	c.mu.Unlock()
	now := time.Now()
	switch {
	case !in, !have.until.IsZero() && !now.Before(have.until):
		return c.signIn(ctx)
	case have.until.IsZero():
		return now.Add(never), nil
	case now.Before(have.renewAt):
		return have.renewAt, nil
	case !have.renewable:
		return c.signIn(ctx)
	}
	return c.renew(ctx, have)
}

// renew prolongs the lease. One that can be prolonged no more, because its
// greatest age is near, is replaced in time.
func (c *Client) renew(ctx context.Context, have lease) (time.Time, error) {
	got, err := c.api.Auth().Token().RenewSelfWithContext(ctx, 0)
	switch code := status(err); {
	case err == nil && got.Auth != nil && time.Duration(got.Auth.LeaseDuration)*time.Second >= have.ttl*2/3:
		return c.leased(got.Auth, have.number, have.ttl), nil
	case err == nil, code == http.StatusForbidden, code == http.StatusBadRequest:
		next, again := c.signIn(ctx)
		if again == nil || !time.Now().Before(have.until) {
			return next, again
		}
		c.stay(have) // the token is good until its end
	}
	if !time.Now().Before(have.until) {
		return c.signIn(ctx)
	}
	c.o.Log.Warn("vault: the token could not be renewed; trying again", "left", time.Until(have.until).Round(time.Second), "err", problem(ctx, err))
	return time.Now().Add(max(time.Until(have.until)/4, firstPause)), nil
}

// signIn gets a new token. Whoever calls it holds the right to sign in.
func (c *Client) signIn(ctx context.Context) (time.Time, error) {
	got, err := c.auth.signIn(ctx, c.api)
	if err != nil {
		err = problem(ctx, err)
		c.lose(err)
		return time.Time{}, err
	}
	c.mu.Lock()
	number, before := c.lease.number+1, c.why
	c.mu.Unlock()
	c.api.SetToken(got.ClientToken)
	next := c.leased(got, number, 0)
	if before != nil {
		c.o.Log.Info("vault: signed in", "by", c.auth.name(), "lease", time.Duration(got.LeaseDuration)*time.Second)
	}
	return next, nil
}

// leased notes what Vault granted. ttl is what a lease of this sign-in lasted
// at first; zero: this is the first.
func (c *Client) leased(a *api.SecretAuth, number int, ttl time.Duration) time.Time {
	life := time.Duration(a.LeaseDuration) * time.Second
	l := lease{number: number, ttl: max(ttl, life), renewable: a.Renewable}
	now := time.Now()
	next := now.Add(never)
	if life > 0 {
		l.until, l.renewAt = now.Add(life), now.Add(life*2/3)
		next = l.renewAt
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease, c.why = l, nil
	return next
}

// stay goes back to a lease that still holds, after an attempt to replace it.
func (c *Client) stay(l lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease, c.why = l, nil
}

// lose notes that there is no lease, and says so once for each reason.
func (c *Client) lose(why error) {
	c.mu.Lock()
	news := c.why == nil || c.why.Error() != why.Error()
	c.why = why
	c.mu.Unlock()
	switch {
	case errors.Is(why, ErrIntercepted):
		c.o.Log.Error("vault: ALARM: somebody else unwrapped our secret id; revoke it, find out who did, and issue a new one", "err", why)
	case news:
		c.o.Log.Error("vault: not signed in; secrets that are not in memory cannot be read until it is", "by", c.auth.name(), "err", why)
	}
}

// revoked finds out whether a request was refused because the sign-in of that
// number is no longer good, and if so signs in again. It tells whether the
// request is worth another try.
func (c *Client) revoked(ctx context.Context, number int) bool {
	if c.hold(ctx) != nil {
		return false
	}
	defer c.release()
	c.mu.Lock()
	current := c.lease.number
	c.mu.Unlock()
	if current != number {
		return c.Ready() == nil // somebody else was quicker
	}
	_, err := c.api.Auth().Token().LookupSelfWithContext(ctx)
	if status(err) != http.StatusForbidden {
		return false // the token is good: the policy forbids it
	}
	if _, err := c.signIn(ctx); err != nil {
		c.wake() // Run goes on trying
		return false
	}
	c.wake() // the lease has another end
	return true
}

func (c *Client) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// hold waits for the right to sign in.
func (c *Client) hold(ctx context.Context) error {
	select {
	case <-c.signing:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another's sign-in: %w", ctx.Err())
	}
}

func (c *Client) release() { c.signing <- struct{}{} }
