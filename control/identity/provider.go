package identity

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// Kinds of providers, by what of their tokens can be believed.
const (
	KindGoogle    = "google"
	KindMicrosoft = "microsoft" // Entra: oid and tid name a person, an e-mail address proves nothing
	KindCognito   = "cognito"
	KindGeneric   = "generic" // any OpenID Connect issuer
)

// ProviderSettings is how people sign in by an issuer.
type ProviderSettings struct {
	Kind     string `json:"kind" enum:"google,microsoft,cognito,generic"`
	Issuer   string `json:"issuer,omitempty" maxLength:"500" doc:"As its tokens have it, https://…. Of google it is known. For microsoft, .../organizations/v2.0 takes the directories that are listed."`
	ClientID string `json:"client_id" minLength:"1" maxLength:"500"`
	// Scopes asked for; default openid, email and profile.
	Scopes []string `json:"scopes,omitempty" maxItems:"20"`
	// Directories of microsoft whose people may come, by tid.
	Directories []string `json:"directories,omitempty" maxItems:"100" doc:"microsoft: ids of the directories whose people may come. Needed where the issuer is of many."`
	// Domains whose proven e-mail addresses are admitted without an invitation.
	Domains []string `json:"domains,omitempty" maxItems:"100" doc:"Proven e-mail addresses of these domains are admitted without an invitation, with the role."`
	// Role of who is admitted without an invitation, and of who is in no group
	// that is mapped; empty: they are not admitted.
	Role control.Role `json:"role,omitempty" doc:"Of who is admitted by domain, directory or group; where groups are mapped, of who is in none of them. Empty: they may not come."`
	// Groups says which groups have which role: the most able one counts, at
	// each sign-in anew.
	Groups map[string]control.Role `json:"groups,omitempty" doc:"Group → role, applied at each sign-in; of several the most able."`
	// GroupsClaim is where the groups stand. Default "groups"; of cognito "cognito:groups".
	GroupsClaim string `json:"groups_claim,omitempty" maxLength:"100"`
	// Owners lets the mapping make owners, and change who is one.
	Owners bool `json:"owners,omitempty" doc:"The mapping may make owners, and change who is one. Only owners may say so."`
	// TrustFactor takes the issuer's word (amr mfa, or an acr of the list) for a
	// second factor.
	TrustFactor bool     `json:"trust_second_factor,omitempty" doc:"Take the issuer's word for a second factor: amr mfa, or one of acr."`
	ACR         []string `json:"acr,omitempty" maxItems:"20"`
}

// A Provider is an issuer by which a tenant's people sign in.
type Provider struct {
	ID        uuid.UUID
	Name      string
	Settings  ProviderSettings
	Secret    []byte // the client's, sealed; nil: none
	Enabled   bool
	Revision  int
	CreatedAt time.Time
	UpdatedAt time.Time
}

// An OperatorProvider is one that the operator's settings name, for all tenants.
type OperatorProvider struct {
	Name     string
	Settings ProviderSettings
	Secret   string
	// Tenant that Domains, Directories and Groups admit to; nil: they admit
	// nobody, and invitations alone do.
	Tenant uuid.UUID
}

// A ProviderStore keeps providers and who signs in by them.
type ProviderStore interface {
	LocateProvider(ctx context.Context, id uuid.UUID) (control.Located, error)
	Provider(ctx context.Context, id uuid.UUID) (Provider, error)
	Providers(ctx context.Context, p control.Page) ([]Provider, error)
	InsertProvider(ctx context.Context, p Provider) (Provider, error)
	// UpdateProvider stores what changed of one of the revision, 0 for any;
	// control.ErrConflict if it is not that any more.
	UpdateProvider(ctx context.Context, p Provider, revision int) (Provider, error)
	DeleteProvider(ctx context.Context, id uuid.UUID) error

	// LocateIdentity returns the tenant and user of a link that an operator's
	// provider made, the oldest of several.
	LocateIdentity(ctx context.Context, provider, issuer, subject string) (control.Located, error)
	// Identity returns the user of a link in ctx's tenant.
	Identity(ctx context.Context, provider, issuer, subject string) (uuid.UUID, error)
	// LocateInvited returns tenants that have an open invitation to an address.
	LocateInvited(ctx context.Context, email string) ([]control.Located, error)
	// Admit links an identity to a user of ctx's tenant, in one transaction with
	// making the user a member, by an invitation or a rule, and the user itself.
	Admit(ctx context.Context, a Admission) error
	// TouchIdentity notes that a link was used.
	TouchIdentity(ctx context.Context, provider, issuer, subject string, at time.Time) error
}

// An Admission makes somebody a member who comes by an issuer.
type Admission struct {
	Link       uuid.UUID // id of the new link
	Provider   string
	Issuer     string
	Subject    string
	User       User
	NewUser    bool
	NewMember  bool
	Invitation uuid.UUID // nil: by the provider's rule, or a member already
}

// ProviderName tells whether a provider may be called so.
func ProviderName(name string) bool { return providerName.MatchString(name) }

var providerName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Check returns the settings with their defaults; the error is an
// [*control.Invalid].
func (s ProviderSettings) Check() (ProviderSettings, error) {
	if s.Kind == KindGoogle && s.Issuer == "" {
		s.Issuer = "https://accounts.google.com"
	}
	switch {
	case !slices.Contains([]string{KindGoogle, KindMicrosoft, KindCognito, KindGeneric}, s.Kind):
		return s, control.Invalidf("settings.kind", "must be google, microsoft, cognito or generic")
	case !secureURL(s.Issuer) || strings.ContainsAny(s.Issuer, "?"):
		return s, control.Invalidf("settings.issuer", "must be an address as https://login.example.com")
	case s.Kind == KindGoogle && s.Issuer != "https://accounts.google.com":
		return s, control.Invalidf("settings.issuer", "of google is https://accounts.google.com; for another one choose generic")
	case s.ClientID == "":
		return s, control.Invalidf("settings.client_id", "is needed; the issuer gives it")
	case s.Kind == KindMicrosoft && s.manyDirectories() && len(s.Directories) == 0:
		return s, control.Invalidf("settings.directories", "must list the directories that may come, since the issuer is of all")
	case s.Kind != KindMicrosoft && len(s.Directories) > 0:
		return s, control.Invalidf("settings.directories", "is for microsoft alone")
	case len(s.Domains) > 0 && s.Role == "" && len(s.Groups) == 0:
		return s, control.Invalidf("settings.role", "is needed with domains: what the admitted become")
	}
	return s, s.checkRoles()
}

func (s ProviderSettings) checkRoles() error {
	roles := append(slices.Collect(maps.Values(s.Groups)), s.Role)
	for _, r := range roles {
		if r != "" && !slices.Contains(control.Roles(), r) {
			return control.Invalidf("settings.groups", "must map to owner, admin, editor, agent, viewer or billing")
		}
		if r == control.RoleOwner && !s.Owners {
			return control.Invalidf("settings.owners", "must be true for a mapping that makes owners")
		}
	}
	for _, d := range s.Domains {
		if strings.ContainsAny(d, "@* /") || !strings.Contains(d, ".") {
			return control.Invalidf("settings.domains", "must be names as example.com")
		}
	}
	if s.TrustFactor && s.Kind == KindGoogle {
		return control.Invalidf("settings.trust_second_factor", "google does not say whether there was one")
	}
	return nil
}

// manyDirectories tells whether the issuer speaks for more than one directory.
func (s ProviderSettings) manyDirectories() bool {
	return strings.HasSuffix(s.Issuer, "/common/v2.0") || strings.HasSuffix(s.Issuer, "/organizations/v2.0")
}

// Providers is the service of a tenant's own providers.
type Providers struct {
	Store ProviderStore
	Ring  *control.Keyring
}

const providerPurpose = "oidc-client-secret"

// Create stores a provider of the tenant of ctx with its client's secret, which
// is never shown again.
func (s *Providers) Create(ctx context.Context, p Provider, secret string) (Provider, error) {
	p.ID = control.NewID()
	p, err := s.check(ctx, p, &secret)
	if err != nil {
		return p, err
	}
	return s.Store.InsertProvider(ctx, p)
}

// Update stores what changed; a nil secret stays as it is. Revision 0 is any.
func (s *Providers) Update(ctx context.Context, p Provider, secret *string, revision int) (Provider, error) {
	p, err := s.check(ctx, p, secret)
	if err != nil {
		return p, err
	}
	return s.Store.UpdateProvider(ctx, p, revision)
}

func (s *Providers) check(ctx context.Context, p Provider, secret *string) (Provider, error) {
	if !ProviderName(p.Name) {
		return p, control.Invalidf("name", "must be 1 to 63 of a-z, 0-9 and -, the first a letter")
	}
	settings, err := p.Settings.Check()
	if err != nil {
		return p, err
	}
	by := control.PrincipalOf(ctx)
	if settings.Owners && by.Kind != "" && (by.Kind != control.PrincipalUser || by.Role != control.RoleOwner) {
		return p, control.Invalidf("settings.owners", "may be said by an owner alone")
	}
	for _, r := range append(slices.Collect(maps.Values(settings.Groups)), settings.Role) {
		if r != "" && by.Kind != "" && !by.MayGive(r) {
			return p, control.Invalidf("settings.role", "and settings.groups give more than you may give")
		}
	}
	p.Settings = settings
	if secret != nil {
		if len(*secret) > 2000 {
			return p, control.Invalidf("client_secret", "must be at most 2000 bytes")
		}
		if p.Secret = nil; *secret != "" {
			p.Secret = s.Ring.Seal(providerPurpose, p.ID.String(), []byte(*secret))
		}
	}
	return p, nil
}

// secret opens a provider's secret.
func (s *Providers) secret(p Provider) (string, error) {
	if p.Secret == nil {
		return "", nil
	}
	text, err := s.Ring.Unseal(providerPurpose, p.ID.String(), p.Secret)
	if err != nil {
		return "", fmt.Errorf("client secret of provider %s: %w", p.ID, err)
	}
	return string(text), nil
}
