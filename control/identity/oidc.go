package identity

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/uuid"
	"golang.org/x/oauth2"

	"parley/control"
)

// OIDCLife is how long somebody may take at an issuer.
const OIDCLife = 10 * time.Minute

// OIDC is signing in by other issuers: the authorization code flow of OpenID
// Connect with PKCE (RFC 7636), a state that is bound to the browser and good
// once, a nonce, and a callback of our own address alone.
type OIDC struct {
	Providers *Providers
	Operator  []OperatorProvider
	Issuers   *Issuers
	Pending   Pending
	Users     *Users
	// Invitations and Members are the same tenants'.
	Invitations InvitationStore
	Members     MemberStore
	Audit       control.Audit
	Ring        *control.Keyring
	// PublicURL of the server: issuers send people back to it and nowhere else.
	PublicURL string
}

// ErrNotAdmitted is who proved who they are, and is nobody here.
var ErrNotAdmitted = errors.New("identity: nobody has admitted this account")

// ErrIssuer is an answer of an issuer that does not hold. The error's text says
// what is wrong with it, to whom runs the service and not to who signs in.
var ErrIssuer = errors.New("identity: the issuer's answer does not hold")

// A source is a provider with all that a sign-in needs.
type source struct {
	key      string    // its name, or of a tenant's own its id
	tenant   uuid.UUID // whose own it is; nil: the operator's
	admits   uuid.UUID // where its rules admit to
	settings ProviderSettings
	secret   string
}

// A journey is what is kept while somebody is at the issuer.
type journey struct {
	Provider string
	Verifier string // PKCE
	Nonce    string
	Browser  []byte // MAC of the browser's cookie
	ReturnTo string
	Tenant   uuid.UUID // with User: to link the identity to this member, who asked for it
	User     uuid.UUID
}

// find returns a provider by the operator's name, or a tenant's own by its id.
// One that is not there or not enabled is control.ErrNotFound.
func (s *OIDC) find(ctx context.Context, key string) (source, error) {
	for _, o := range s.Operator {
		if o.Name == key {
			return source{key: key, admits: o.Tenant, settings: o.Settings, secret: o.Secret}, nil
		}
	}
	id, err := uuid.Parse(key)
	if err != nil || id.String() != key {
		return source{}, control.ErrNotFound
	}
	at, err := s.Providers.Store.LocateProvider(ctx, id)
	if err != nil {
		return source{}, err
	}
	p, err := s.Providers.Store.Provider(control.WithTenant(ctx, at.Tenant), id)
	if err != nil {
		return source{}, err
	}
	if !p.Enabled {
		return source{}, control.ErrNotFound
	}
	secret, err := s.Providers.secret(p)
	return source{key: key, tenant: at.Tenant, admits: at.Tenant, settings: p.Settings, secret: secret}, err
}

// client returns the issuer and how we speak with it.
func (s *OIDC) client(ctx context.Context, src source) (*oidc.Provider, *oauth2.Config, error) {
	says := src.settings.Issuer
	if src.settings.Kind == KindMicrosoft && src.settings.manyDirectories() {
		says = entraIssuer(says, "{tenantid}") // as it names itself, word for word
	}
	p, err := s.Issuers.discover(ctx, src.settings.Issuer, says)
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s what it offers: %w", src.settings.Issuer, err)
	}
	end := p.Endpoint()
	if !secureURL(end.AuthURL) || !secureURL(end.TokenURL) {
		return nil, nil, fmt.Errorf("%w: its addresses are not https", ErrIssuer)
	}
	var offers struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := p.Claims(&offers); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	end.AuthStyle = oauth2.AuthStyleInHeader // the default of OpenID Connect Discovery 1.0
	for _, m := range offers.Methods {
		if m == "client_secret_post" {
			end.AuthStyle = oauth2.AuthStyleInParams
		}
	}
	scopes := src.settings.Scopes
	if len(scopes) == 0 {
		scopes = []string{"email", "profile"}
	}
	return p, &oauth2.Config{ClientID: src.settings.ClientID, ClientSecret: src.secret, Endpoint: end,
		RedirectURL: s.redirect(src.key), Scopes: append([]string{oidc.ScopeOpenID}, scopes...)}, nil
}

// redirect is where an issuer sends people back to.
func (s *OIDC) redirect(key string) string {
	return strings.TrimSuffix(s.PublicURL, "/") + "/v1/auth/oidc/" + key + "/callback"
}

// Start returns the issuer's address to send a browser to. The browser has a
// cookie, which is its alone; returnTo is a path of ours. With link, which has a
// person, the identity is linked to them: see [OIDC.Callback].
func (s *OIDC) Start(ctx context.Context, key, returnTo, browser string, link control.Principal) (string, error) {
	src, err := s.find(ctx, key)
	if err != nil {
		return "", err
	}
	if link.User != uuid.Nil && src.tenant != uuid.Nil && src.tenant != link.Tenant {
		return "", control.ErrNotFound
	}
	if returnTo, err = localPath(returnTo); err != nil {
		return "", err
	}
	_, client, err := s.client(ctx, src)
	if err != nil {
		return "", err
	}
	j := journey{Provider: key, Verifier: oauth2.GenerateVerifier(), Nonce: control.RandomText(32),
		Browser: s.browser(browser), ReturnTo: returnTo, Tenant: link.Tenant, User: link.User}
	state, err := s.Pending.put(ctx, pendingOIDC, OIDCLife, j)
	if err != nil {
		return "", err
	}
	return client.AuthCodeURL(state, oauth2.S256ChallengeOption(j.Verifier), oidc.Nonce(j.Nonce)), nil
}

func (s *OIDC) browser(cookie string) []byte { return s.Ring.MAC("oidc-browser", cookie) }

// localPath returns where to go after signing in; only to ourselves.
func localPath(p string) (string, error) {
	if p == "" {
		return "/", nil
	}
	u, err := url.Parse(p)
	plain := !strings.ContainsFunc(p, func(r rune) bool { return r < 0x21 || r == '\\' || r == 0x7f })
	if err != nil || !plain || len(p) > 1000 || u.IsAbs() || u.Host != "" || u.User != nil ||
		!strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.HasPrefix(u.Path, "//") {
		return "", control.Invalidf("return_to", "must be a path of this site, as /console")
	}
	return p, nil
}

// A Return is what an issuer sends a browser back with.
type Return struct {
	Code, State, Issuer, Error string
}

// Back is where a journey ended.
type Back struct {
	Opened
	ReturnTo string
	Linked   bool // to who was signed in already; no session has begun
}

// Callback ends a journey. What is not of this browser, not of this provider,
// used already or late is control.ErrCredentials; an answer that does not hold
// wraps [ErrIssuer]; [ErrNotAdmitted] is somebody whom nobody invited.
func (s *OIDC) Callback(ctx context.Context, key string, r Return, browser string, c Client) (Back, error) {
	var j journey
	if err := s.Pending.take(ctx, pendingOIDC, r.State, &j); err != nil {
		return Back{}, err
	}
	if j.Provider != key || !hmac.Equal(j.Browser, s.browser(browser)) {
		return Back{}, control.ErrCredentials
	}
	src, err := s.find(ctx, key)
	if err != nil {
		return Back{}, err
	}
	who, err := s.exchange(ctx, src, j, r)
	if err != nil {
		return Back{}, errors.Join(err, s.noteFailure(ctx, src, err))
	}
	back := Back{ReturnTo: j.ReturnTo}
	if j.User != uuid.Nil {
		back.Linked = true
		return back, s.link(ctx, src, who, j)
	}
	at, err := s.admit(ctx, src, who)
	if err != nil {
		return Back{}, errors.Join(err, s.noteFailure(ctx, src, err))
	}
	back.Opened, err = s.Users.SignIn(ctx, Entry{User: at.ID, Tenant: at.Tenant, How: "oidc", FactorAt: who.factorAt,
		Bound: src.tenant != uuid.Nil, Client: c})
	return back, err
}

// exchange gives the issuer its code back and checks whom it says that is.
func (s *OIDC) exchange(ctx context.Context, src source, j journey, r Return) (outsider, error) {
	p, client, err := s.client(ctx, src)
	if err != nil {
		return outsider{}, err
	}
	var offers struct {
		Names bool `json:"authorization_response_iss_parameter_supported"` // RFC 9207
	}
	if err := p.Claims(&offers); err != nil {
		return outsider{}, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	many := src.settings.Kind == KindMicrosoft && src.settings.manyDirectories()
	switch {
	case (r.Issuer != "" || offers.Names) && r.Issuer != src.settings.Issuer && !many:
		return outsider{}, fmt.Errorf("%w: it is another issuer's", ErrIssuer)
	case r.Error != "" || r.Code == "":
		return outsider{}, fmt.Errorf("%w: it refused", ErrIssuer) // its words are anybody's: the browser brought them
	}
	ctx = s.Issuers.context(ctx)
	token, err := client.Exchange(ctx, r.Code, oauth2.VerifierOption(j.Verifier))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) {
			return outsider{}, fmt.Errorf("%w: it did not take the code (%s)", ErrIssuer, cut(refused.ErrorCode, 40))
		}
		return outsider{}, fmt.Errorf("exchange a code: %w", errors.Join(control.ErrUnavailable, err))
	}
	who, err := src.settings.verifyID(ctx, p, token, j.Nonce)
	if err != nil {
		return outsider{}, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	return who, nil
}

// noteFailure writes a failed sign-in to the trail of the tenant that it was to.
func (s *OIDC) noteFailure(ctx context.Context, src source, why error) error {
	if src.admits == uuid.Nil {
		return nil
	}
	reason := "issuer"
	if errors.Is(why, ErrNotAdmitted) {
		reason = "not_admitted"
	}
	detail, err := json.Marshal(map[string]string{"reason": reason, "provider": src.key})
	if err != nil {
		return err
	}
	return s.Audit.Note(control.WithTenant(ctx, src.admits), control.AuditEntry{Action: "user.sign_in_failed", Object: "provider:" + src.key, Detail: detail})
}

// nowhere is an address for who has none that is proven: it reaches nobody, and
// no invitation or other issuer can mean it.
func (s *OIDC) nowhere(src source, who outsider) string {
	sum := s.Ring.MAC("oidc-address", src.key+" "+who.issuer+" "+who.subject)
	return strings.ToLower(base64.RawURLEncoding.EncodeToString(sum[:12])) + "@" + "oidc.invalid"
}
