package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/signaling"
)

// restPatience bounds one request to a carrier's REST API.
const restPatience = 5 * time.Second

// carriers are the accounts that calls may be on: the operator's, of the
// settings, and those of tenants. It implements [control.Carrier] and
// [signaling.Signers].
type carriers struct {
	calls    *control.Calls
	accounts *control.CarrierAccounts
	own      *signaling.REST // of the operator's account; nil: there is none
	baseURL  string          // in place of Twilio's address; "" for that
	base     string          // by which Twilio calls us
	next     string          // our webhook, under it
}

var (
	_ control.Carrier    = (*carriers)(nil)
	_ control.Colleagues = (*carriers)(nil)
	_ signaling.Signers  = (*carriers)(nil)
)

// buildCarriers needs the calls and the safe.
func (g *gateway) buildCarriers() error {
	s := g.settings
	address, err := url.Parse(cmp.Or(s.TwilioBaseURL, "https://api.twilio.com"))
	if err != nil {
		return errors.New("TWILIO_BASE_URL: must be an address such as https://api.twilio.com")
	}
	g.carriers = &carriers{calls: g.calls, baseURL: s.TwilioBaseURL, base: s.PublicURL, next: signaling.NextWebhook(s.PublicURL),
		accounts: &control.CarrierAccounts{Store: g.db, Secrets: g.safe.service, Entries: g.db, Address: address, Own: s.TwilioAccountSID}}
	if s.TwilioAccountSID != "" && s.TwilioAuthToken != "" {
		g.carriers.own = &signaling.REST{AccountSID: s.TwilioAccountSID, Secret: g.safe.setting(s.TwilioAuthToken),
			Region: s.TwilioRegion, Edge: s.TwilioEdge, BaseURL: s.TwilioBaseURL, Timeout: restPatience}
	}
	return nil
}

// REST returns the client of an account: of a [control.Number]'s or a
// [control.Call]'s Account, the tenant of ctx being theirs; zero is the
// operator's. control.ErrNotFound: there is no such account (any more).
func (c *carriers) REST(ctx context.Context, account uuid.UUID) (*signaling.REST, error) {
	if account == uuid.Nil {
		if c.own == nil {
			return nil, control.Refuse(control.ErrNotFound, "no account at a carrier is set up: make one by POST /v1/carrier-accounts, or have the operator set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN")
		}
		return c.own, nil
	}
	a, err := c.accounts.Store.CarrierAccount(ctx, account)
	if err != nil {
		return nil, err
	}
	return c.client(a), nil
}

func (c *carriers) client(a control.CarrierAccount) *signaling.REST {
	return &signaling.REST{AccountSID: a.AccountSID, User: a.APIKey, Secret: c.accounts.RESTSecret(a),
		Region: a.Region, Edge: a.Edge, BaseURL: c.baseURL, Timeout: restPatience}
}

// Hangup implements [control.Carrier]. Where there is no account, there is no
// other end either.
func (c *carriers) Hangup(ctx context.Context, call control.Call, id string) error {
	if call.Carrier != control.CarrierTwilio || call.Account == uuid.Nil && c.own == nil {
		return nil // a browser's call has no other end
	}
	rest, err := c.REST(control.WithTenant(ctx, call.Tenant), call.Account)
	if err != nil {
		return err
	}
	if err := rest.HangUp(ctx, id); err != nil && !errors.Is(err, signaling.ErrEnded) {
		return carrierError(err)
	}
	return nil
}

// Reconnect implements [control.Carrier].
func (c *carriers) Reconnect(ctx context.Context, call control.Call) error {
	if call.Carrier != control.CarrierTwilio || call.Account == uuid.Nil && c.own == nil {
		return nil // a browser finds out by itself
	}
	rest, err := c.REST(control.WithTenant(ctx, call.Tenant), call.Account)
	if err != nil {
		return err
	}
	return carrierError(rest.Redirect(ctx, call.CarrierCallID, c.next))
}

// SignersOf implements [signaling.Signers].
func (c *carriers) SignersOf(ctx context.Context, accountSID string, numbers ...string) ([]signaling.Signer, error) {
	list, err := c.accounts.Signers(ctx, accountSID, numbers...)
	out := make([]signaling.Signer, len(list))
	for i, s := range list {
		out[i] = signaling.Signer{Account: s.Account.String(), Tokens: s.Tokens}
	}
	return out, err
}

// Owns implements [signaling.Signers].
func (c *carriers) Owns(ctx context.Context, account, carrierCallID string) (bool, error) {
	want, err := readAccount(account)
	if err != nil {
		return false, err
	}
	have, err := c.calls.AccountOf(ctx, control.CarrierTwilio, carrierCallID)
	if errors.Is(err, control.ErrNotFound) {
		return true, nil
	}
	return have == want, err
}

// SignerOf implements [signaling.Signers].
func (c *carriers) SignerOf(ctx context.Context, callID string) (signaling.Signer, bool, error) {
	call, err := c.calls.Find(ctx, callID)
	if err != nil || call.Account == uuid.Nil {
		return signaling.Signer{}, false, control.NotFoundIs(err, nil)
	}
	tokens, err := c.accounts.Tokens(control.WithTenant(ctx, call.Tenant), call.Account)
	return signaling.Signer{Account: call.Account.String(), Tokens: tokens}, true, err
}

// readAccount reads an account as signaling names it.
func readAccount(id string) (uuid.UUID, error) {
	if id == "" {
		return uuid.Nil, nil
	}
	account, err := uuid.Parse(id)
	if err != nil {
		return account, fmt.Errorf("carrier account: %w", err)
	}
	return account, nil
}

// check asks the carrier whether it takes an account's credentials: "" for yes,
// else what is wrong and what to do, for whoever set the account up.
func (c *carriers) check(ctx context.Context, a control.CarrierAccount) (wrong string, err error) {
	return c.client(a).Check(ctx)
}
