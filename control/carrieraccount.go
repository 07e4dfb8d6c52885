package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
)

// CarrierTwilio is the one kind of carrier that takes accounts of tenants.
const CarrierTwilio = "twilio"

// A CarrierAccount is a tenant's own at a carrier. Numbers name theirs; those
// that name none are the operator's. Tokens are names of the tenant's secrets,
// bound to the carrier's address; never values.
type CarrierAccount struct {
	ID         uuid.UUID
	Tenant     uuid.UUID
	Name       string // unique in the tenant
	Kind       string // [CarrierTwilio]
	AccountSID string // "AC" and 32 hexadecimal digits

	Token    string // secret: the auth token, that webhooks are signed with
	OldToken string // secret: the one before, taken too while rotating; may be empty
	// APIKey asks by REST with the secret APIKeySecret; empty: the account
	// itself does, with Token.
	APIKey, APIKeySecret string
	Region, Edge         string // of the REST API: both or none

	Revision             int // counts from 1 with every change
	CreatedAt, UpdatedAt time.Time
}

// CarrierAccountStore keeps accounts, each in its tenant.
type CarrierAccountStore interface {
	// LocateCarrierAccounts returns accounts of that name at the carrier, over
	// all tenants: at most 5, first that which one of the numbers names.
	LocateCarrierAccounts(ctx context.Context, accountSID string, numbers ...string) ([]Located, error)

	CarrierAccount(ctx context.Context, id uuid.UUID) (CarrierAccount, error)
	CarrierAccounts(ctx context.Context, p Page) ([]CarrierAccount, error)
	// InsertCarrierAccount fails with ErrConflict if the name or the account is
	// there, and [*Invalid] beyond [MaxCarrierAccounts].
	InsertCarrierAccount(ctx context.Context, a CarrierAccount) error
	// UpdateCarrierAccount writes all but kind and account over a.Revision; else
	// ErrConflict.
	UpdateCarrierAccount(ctx context.Context, a CarrierAccount) (CarrierAccount, error)
	// DeleteCarrierAccount deletes one that nothing uses, of a revision, or 0.
	// ErrConflict, as a [*Refusal] where a number or an open call uses it.
	DeleteCarrierAccount(ctx context.Context, id uuid.UUID, revision int) error
}

// MaxCarrierAccounts is how many a tenant may have.
const MaxCarrierAccounts = 20

// CarrierAccounts is the service of tenants' accounts.
type CarrierAccounts struct {
	Store   CarrierAccountStore
	Secrets effect.Secrets
	Entries SecretStore // nil: whether a secret exists is not checked
	Address *url.URL    // of the carrier's REST API, which secrets must be bound to
	Own     string      // the operator's AccountSid, which no tenant may name; may be empty

	mu      sync.Mutex
	located map[string]locatedAccounts
}

// locatedAccounts is what a look-up came to, for a while.
type locatedAccounts struct {
	list  []CarrierAccount
	until time.Time
}

const (
	// locatedLife is how long a change of an account may take to be seen by
	// webhooks. Values of secrets are not kept here, but by who reads them.
	locatedLife = 10 * time.Second
	maxLocated  = 4096 // unknown accounts among them
)

// Create validates and stores a new account. Errors: [Invalid], ErrConflict.
func (s *CarrierAccounts) Create(ctx context.Context, a CarrierAccount) (CarrierAccount, error) {
	a.ID, a.Revision, a.Kind = NewID(), 1, cmp.Or(a.Kind, CarrierTwilio)
	a.CreatedAt = time.Now().UTC()
	a.UpdatedAt = a.CreatedAt
	if err := s.validate(ctx, a); err != nil {
		return a, err
	}
	if err := s.Store.InsertCarrierAccount(ctx, a); err != nil {
		return a, fmt.Errorf("create carrier account: %w", err)
	}
	s.forget()
	return a, nil
}

// Update validates and stores a over its revision.
func (s *CarrierAccounts) Update(ctx context.Context, a CarrierAccount) (CarrierAccount, error) {
	if err := s.validate(ctx, a); err != nil {
		return a, err
	}
	defer s.forget()
	return s.Store.UpdateCarrierAccount(ctx, a)
}

// Delete forgets an account that nothing uses.
func (s *CarrierAccounts) Delete(ctx context.Context, id uuid.UUID, revision int) error {
	defer s.forget()
	return s.Store.DeleteCarrierAccount(ctx, id, revision)
}

var (
	accountSID  = regexp.MustCompile(`^AC[0-9a-f]{32}$`)
	apiKeySID   = regexp.MustCompile(`^SK[0-9a-f]{32}$`)
	regionOrPOP = regexp.MustCompile(`^[a-z]{2,12}[0-9]{0,2}(-[a-z0-9]{1,12}){0,2}$`)
)

func (s *CarrierAccounts) validate(ctx context.Context, a CarrierAccount) error {
	if err := RefuseSecret("name", a.Name); err != nil {
		return err
	}
	switch {
	case !agentName.MatchString(a.Name):
		return Invalidf("name", "must be 1 to 63 lower-case letters, digits and inner hyphens")
	case a.Kind != CarrierTwilio:
		return Invalidf("kind", "must be %s", CarrierTwilio)
	case !accountSID.MatchString(a.AccountSID):
		return Invalidf("account_sid", "must be AC and 32 hexadecimal digits, as Twilio's console shows it")
	case a.AccountSID == s.Own:
		return Invalidf("account_sid", "is the operator's: leave carrier_account_id out of your numbers to use it")
	case a.APIKey != "" && !apiKeySID.MatchString(a.APIKey):
		return Invalidf("api_key_sid", "must be SK and 32 hexadecimal digits")
	case (a.APIKey == "") != (a.APIKeySecret == ""):
		return Invalidf("api_key_secret", "goes with api_key_sid: send both or neither")
	case (a.Region == "") != (a.Edge == ""):
		return Invalidf("region", "goes with edge: send both or neither")
	case a.Region != "" && (!regionOrPOP.MatchString(a.Region) || !regionOrPOP.MatchString(a.Edge)):
		return Invalidf("region", "and edge must be as Twilio writes them, such as ie1 and dublin")
	}
	return errors.Join(
		s.named(ctx, "token_secret", a.Token, true),
		s.named(ctx, "old_token_secret", a.OldToken, false),
		s.named(ctx, "api_key_secret", a.APIKeySecret, false))
}

// named wants the name of a secret that may be sent to the carrier.
func (s *CarrierAccounts) named(ctx context.Context, field, key string, required bool) error {
	if key == "" && !required {
		return nil
	}
	if err := RefuseSecret(field, key); err != nil {
		return err
	}
	if !storedKey.MatchString(key) {
		return Invalidf(field, "must be the name of a secret, as put by PUT /v1/secrets/{key}")
	}
	if s.Entries == nil {
		return nil
	}
	e, err := s.Entries.StoredSecret(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return Invalidf(field, "names no secret of yours: put it first, by PUT /v1/secrets/{key}")
	case err != nil:
		return err
	case !bound(e.Hosts, s.Address):
		return Invalidf(field, "names a secret that is not bound to %s: put it again with that host", s.Address.Host)
	}
	return nil
}

// A Signer is an account whose tokens may sign a webhook.
type Signer struct {
	Tenant, Account uuid.UUID // zero: the operator's
	Tokens          []string
}

// Signers returns whose tokens may sign a webhook that says it is of an account,
// about these numbers: none where nobody has such an account. What it returns
// proves nothing by itself.
func (s *CarrierAccounts) Signers(ctx context.Context, sid string, numbers ...string) ([]Signer, error) {
	if !accountSID.MatchString(sid) {
		return nil, nil
	}
	numbers = slices.DeleteFunc(slices.Clone(numbers), func(n string) bool { return !e164.MatchString(n) })
	accounts, err := s.locate(ctx, sid, numbers)
	if err != nil {
		return nil, err
	}
	var out []Signer
	for _, a := range accounts {
		tokens, err := s.tokens(ctx, a)
		if err != nil {
			return nil, err
		}
		if len(tokens) > 0 {
			out = append(out, Signer{a.Tenant, a.ID, tokens})
		}
	}
	return out, nil
}

// Tokens are those that webhooks of an account of the tenant of ctx may be
// signed with; none where it is gone.
func (s *CarrierAccounts) Tokens(ctx context.Context, account uuid.UUID) ([]string, error) {
	a, err := s.Store.CarrierAccount(ctx, account)
	if err != nil {
		return nil, NotFoundIs(err, nil)
	}
	return s.tokens(ctx, a)
}

func (s *CarrierAccounts) tokens(ctx context.Context, a CarrierAccount) (list []string, err error) {
	for _, key := range []string{a.Token, a.OldToken} {
		if key == "" {
			continue
		}
		token, err := s.Secrets.Secret(WithTenant(ctx, a.Tenant), key, s.Address)
		switch {
		case err == nil:
			list = append(list, string(token))
		case !errors.Is(err, effect.ErrNoSecret):
			return nil, fmt.Errorf("token of a carrier account: %w", err)
		}
	}
	return list, nil
}

// locate finds accounts, from memory where they were looked for just before.
func (s *CarrierAccounts) locate(ctx context.Context, sid string, numbers []string) ([]CarrierAccount, error) {
	key, now := sid+" "+strings.Join(numbers, " "), time.Now()
	s.mu.Lock()
	kept, ok := s.located[key]
	s.mu.Unlock()
	if ok && now.Before(kept.until) {
		return kept.list, nil
	}
	at, err := s.Store.LocateCarrierAccounts(ctx, sid, numbers...)
	if err != nil {
		return nil, fmt.Errorf("look for carrier accounts: %w", err)
	}
	var list []CarrierAccount
	for _, l := range at {
		a, err := s.Store.CarrierAccount(WithTenant(ctx, l.Tenant), l.ID)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.located == nil || len(s.located) >= maxLocated {
		s.located = map[string]locatedAccounts{}
	}
	s.located[key] = locatedAccounts{list, now.Add(locatedLife)}
	return list, nil
}

// forget has the next webhook see a change that was made here.
func (s *CarrierAccounts) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.located = nil
}

// RESTSecret returns how to read what an account asks with by REST: the secret
// of its API key, or its token.
func (s *CarrierAccounts) RESTSecret(a CarrierAccount) func(context.Context) (string, error) {
	key := cmp.Or(a.APIKeySecret, a.Token)
	return func(ctx context.Context) (string, error) {
		v, err := s.Secrets.Secret(WithTenant(ctx, a.Tenant), key, s.Address)
		return string(v), err
	}
}
