package identity

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"

	"parley/control"
)

// A Visit is how a credential came.
type Visit struct {
	Origin  string // of the page that sent it ("https://host"); empty: no page did
	Network string // it came from, as [Network] says
	// Peek only looks: neither is it held to its origin, nor used up, nor marked
	// as used.
	Peek bool
	// Again is of one whom it has let in, and who stays: what is good once is
	// good for that.
	Again bool
	// Imported looks for what has none of our forms among imported keys.
	Imported bool
}

// Network is the network of an address, as it may be kept: "203.0.113.0/24",
// "2001:db8:1::/48". Of anything else it is empty.
func Network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		p, err := netip.ParsePrefix(address)
		if err != nil {
			return ""
		}
		a = p.Addr()
	}
	a = a.Unmap().WithZone("")
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// Bearers understands all that may come as a bearer, each by its form:
//
//	eyJ…             JWT: our access and service tokens, or of a trusted issuer
//	parley_call_…    call token
//	parley_temp_…    temporary token
//	parley_PREFIX_…  API key
//
// Anything else may be a key that was imported.
type Bearers struct {
	Keys      *Keys
	Calls     *CallTokens
	Grants    *Grants
	Temporary *TemporaryTokens
	Services  *ServiceTokens
	// Foreign checks JWTs of other issuers than ours; nil: none is trusted. It
	// returns control.ErrCredentials for an issuer that nobody trusts.
	Foreign func(ctx context.Context, issuer, token string) (control.Principal, error)
}

// A TokenStore keeps grants, temporary tokens and signing keys.
type TokenStore interface {
	GrantStore
	TemporaryStore
	SigningStore
}

// NewBearers returns Bearers that trust no foreign issuer. Issuer is our own
// name in tokens: the public address.
func NewBearers(store TokenStore, users *Users, keys *Keys, calls *CallTokens, issuer string, log *slog.Logger) *Bearers {
	issuer = cmp.Or(issuer, "parley") // an empty one would not be checked
	signer := &Signer{Store: store, Ring: keys.Ring}
	return &Bearers{
		Keys: keys, Calls: calls,
		Grants:    &Grants{Store: store, Users: users, Signer: signer, Ring: keys.Ring, Issuer: issuer, Log: log},
		Temporary: &TemporaryTokens{Store: store, Ring: keys.Ring},
		Services:  &ServiceTokens{Signer: signer, Issuer: issuer},
	}
}

// Verify returns the principal of a bearer. What is malformed, forged, unknown,
// expired, revoked, used up or from elsewhere is control.ErrCredentials.
func (b *Bearers) Verify(ctx context.Context, bearer string, v Visit) (control.Principal, error) {
	switch {
	case IsJWT(bearer):
		return b.jwt(ctx, bearer)
	case IsCallToken(bearer):
		return b.Calls.Verify(bearer, v)
	case IsTemporary(bearer):
		return b.Temporary.Verify(ctx, bearer, v)
	case IsRefreshToken(bearer):
		return control.Principal{}, control.Refuse(control.ErrCredentials, "a refresh token opens nothing by itself: trade it at /v1/auth/refresh")
	}
	return b.Keys.Verify(ctx, bearer, v)
}

// jwt lets the issuer's own verifier check a token, and no other.
func (b *Bearers) jwt(ctx context.Context, token string) (control.Principal, error) {
	switch issuer := IssuerOf(token); {
	case issuer == b.Grants.Issuer && typeOf(token) == typeService:
		return b.Services.Verify(ctx, token, AudienceAPI)
	case issuer == b.Grants.Issuer:
		return b.Grants.Verify(ctx, token)
	case issuer != "" && b.Foreign != nil:
		return b.Foreign(ctx, issuer, token)
	}
	return control.Principal{}, control.ErrCredentials
}

// Leaked reports whether text has the form of a secret of ours: what must not
// stand in an address, a name or a log.
func Leaked(text string) bool {
	return keyForm.MatchString(text) || IsCallToken(text) || IsTemporary(text) || IsRefreshToken(text) ||
		IsJWT(text) && IssuerOf(text) != ""
}
