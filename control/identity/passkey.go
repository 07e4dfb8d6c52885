package identity

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"parley/control"
)

// A Passkey is a key pair in somebody's device that signs our challenges
// (WebAuthn Level 3). We have its public half.
type Passkey struct {
	ID         uuid.UUID
	User       uuid.UUID
	Credential webauthn.Credential
	Name       string // as its person calls it
	CreatedAt  time.Time
	LastUsedAt time.Time // zero: never
}

// PasskeyLife is how long a browser may take to answer a challenge.
const PasskeyLife = 5 * time.Minute

// maxPasskeys of one member.
const maxPasskeys = 20

// A Site is where passkeys are good: our public address.
type Site struct{ rp *webauthn.WebAuthn }

// NewSite returns the site of a public URL, "https://host". An address by
// number has no passkeys, by the browsers' rules: of a loopback one it is
// localhost that has them, of others it is an error.
func NewSite(publicURL string) (*Site, error) {
	u, err := url.Parse(publicURL)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("the public URL has no host")
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); ip != nil {
		if !ip.IsLoopback() {
			return nil, errors.New("passkeys need a public URL with a name; this one has a number")
		}
		host = "localhost"
	}
	origin := u.Scheme + "://" + host
	if u.Port() != "" {
		origin += ":" + u.Port()
	}
	rp, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: "Parley", RPOrigins: []string{origin}, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationPreferred},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	return &Site{rp}, nil
}

// A Ceremony is a challenge for a browser: what navigator.credentials takes,
// and the secret by which the answer finds it. It is good once, for five minutes.
type Ceremony struct {
	Secret  string
	Options any // of navigator.credentials.create or .get, in JSON
}

// An Assertion is a browser's answer to the challenge of a ceremony.
type Assertion struct {
	Ceremony   string
	Credential json.RawMessage // PublicKeyCredential.toJSON()
}

// ErrNoPasskeys says that this site has none.
var ErrNoPasskeys = errors.New("identity: this site has no passkeys")

// A holder is a member as WebAuthn sees one. Its handle is opaque, and another
// one in each tenant: a device keeps one passkey a handle.
type holder struct {
	handle      []byte
	name        string
	credentials []webauthn.Credential
}

func (h *holder) WebAuthnID() []byte                         { return h.handle }
func (h *holder) WebAuthnName() string                       { return h.name }
func (h *holder) WebAuthnDisplayName() string                { return h.name }
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.credentials }

func (s *Factors) holder(ctx context.Context, user uuid.UUID) (*holder, error) {
	tenant, _ := control.TenantOf(ctx)
	u, err := s.Users.User(ctx, user)
	if err != nil {
		return nil, err
	}
	held, err := s.Store.Factors(ctx, user)
	if err != nil {
		return nil, err
	}
	h := &holder{handle: s.Ring.MAC("passkey-handle", member(tenant, user)), name: u.Email}
	for _, k := range held.Passkeys {
		h.credentials = append(h.credentials, k.Credential)
	}
	return h, nil
}

// A challenge is what is kept of a ceremony.
type challenge struct {
	Data   webauthn.SessionData
	Tenant uuid.UUID // nil: of whoever answers
	User   uuid.UUID
}

// BeginPasskey asks the browser of p for a new passkey.
func (s *Factors) BeginPasskey(ctx context.Context, p control.Principal) (Ceremony, error) {
	if s.Passkeys == nil {
		return Ceremony{}, ErrNoPasskeys
	}
	if p.Kind != control.PrincipalUser {
		return Ceremony{}, control.ErrForbidden
	}
	h, err := s.holder(ctx, p.User)
	if err != nil {
		return Ceremony{}, err
	}
	if len(h.credentials) >= maxPasskeys {
		return Ceremony{}, control.Invalidf("passkeys", "there are %d already; remove one first", maxPasskeys)
	}
	var known []protocol.CredentialDescriptor
	for _, c := range h.credentials {
		known = append(known, c.Descriptor())
	}
	options, data, err := s.Passkeys.rp.BeginRegistration(h, webauthn.WithExclusions(known))
	if err != nil {
		return Ceremony{}, fmt.Errorf("begin a passkey: %w", err)
	}
	secret, err := s.Pending.put(ctx, pendingRegister, PasskeyLife, challenge{*data, p.Tenant, p.User})
	return Ceremony{secret, options}, err
}

// AddPasskey takes the browser's answer. It counts as the person's second
// factor now, and returns recovery codes if there were none. An answer that
// does not hold is [ErrFactor].
func (s *Factors) AddPasskey(ctx context.Context, p control.Principal, name string, a Assertion) (Passkey, []string, error) {
	name, err := passkeyName(name)
	if err != nil {
		return Passkey{}, nil, err
	}
	if s.Passkeys == nil {
		return Passkey{}, nil, ErrNoPasskeys
	}
	var c challenge
	if err := s.Pending.take(ctx, pendingRegister, a.Ceremony, &c); err != nil {
		return Passkey{}, nil, errors.Join(ErrFactor, err)
	}
	if p.Kind != control.PrincipalUser || c.Tenant != p.Tenant || c.User != p.User {
		return Passkey{}, nil, ErrFactor
	}
	h, err := s.holder(ctx, p.User)
	if err != nil {
		return Passkey{}, nil, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(a.Credential)
	if err != nil {
		return Passkey{}, nil, ErrFactor
	}
	credential, err := s.Passkeys.rp.CreateCredential(h, c.Data, parsed)
	if err != nil {
		return Passkey{}, nil, ErrFactor
	}
	before, err := s.Store.Factors(ctx, p.User)
	if err != nil {
		return Passkey{}, nil, err
	}
	// What the device says of its make is not looked at, so it is not kept.
	credential.Attestation = webauthn.CredentialAttestation{}
	k := Passkey{ID: control.NewID(), User: p.User, Credential: *credential, Name: name, CreatedAt: time.Now().UTC()}
	if err := s.Store.InsertPasskey(ctx, k); err != nil {
		return Passkey{}, nil, err
	}
	codes, err := s.enrolled(ctx, p, before)
	return k, codes, err
}

// RenamePasskey calls a passkey of the person of p otherwise.
func (s *Factors) RenamePasskey(ctx context.Context, p control.Principal, id uuid.UUID, name string) error {
	name, err := passkeyName(name)
	if err != nil {
		return err
	}
	return s.Store.RenamePasskey(ctx, p.User, id, name)
}

// RemovePasskey takes a passkey of the person of p.
func (s *Factors) RemovePasskey(ctx context.Context, p control.Principal, id uuid.UUID) error {
	return s.Store.RemovePasskey(ctx, p.User, id)
}

// Challenge asks a member's browser to sign with one of their passkeys: for the
// second step of signing in, and for a step-up. control.ErrNotFound: they have none.
func (s *Factors) Challenge(ctx context.Context, user uuid.UUID) (Ceremony, error) {
	if s.Passkeys == nil {
		return Ceremony{}, ErrNoPasskeys
	}
	h, err := s.holder(ctx, user)
	if err != nil {
		return Ceremony{}, err
	}
	if len(h.credentials) == 0 {
		return Ceremony{}, control.ErrNotFound
	}
	options, data, err := s.Passkeys.rp.BeginLogin(h)
	if err != nil {
		return Ceremony{}, fmt.Errorf("ask for a passkey: %w", err)
	}
	tenant, _ := control.TenantOf(ctx)
	secret, err := s.Pending.put(ctx, pendingAssert, PasskeyLife, challenge{*data, tenant, user})
	return Ceremony{secret, options}, err
}

// assertedBy checks an answer to a member's own challenge.
func (s *Factors) assertedBy(ctx context.Context, user uuid.UUID, a Assertion) error {
	tenant, _ := control.TenantOf(ctx)
	c, parsed, err := s.answer(ctx, a)
	if err != nil {
		return err
	}
	if c.Tenant != tenant || c.User != user {
		return ErrFactor
	}
	h, err := s.holder(ctx, user)
	if err != nil {
		return err
	}
	credential, err := s.Passkeys.rp.ValidateLogin(h, c.Data, parsed)
	if err != nil {
		return ErrFactor
	}
	return s.used(ctx, user, credential)
}

// Passwordless asks any browser to sign with a passkey that it knows of this
// site, by which its person is found. The device must make sure of them, by a
// PIN or a finger: it is both factors in one.
func (s *Factors) Passwordless(ctx context.Context) (Ceremony, error) {
	if s.Passkeys == nil {
		return Ceremony{}, ErrNoPasskeys
	}
	options, data, err := s.Passkeys.rp.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Ceremony{}, fmt.Errorf("ask for a passkey: %w", err)
	}
	secret, err := s.Pending.put(ctx, pendingAssert, PasskeyLife, challenge{Data: *data})
	return Ceremony{secret, options}, err
}

// Recognise returns whose passkey answered, and in which tenant: a first and
// second factor. Everything that does not hold is [ErrFactor].
func (s *Factors) Recognise(ctx context.Context, a Assertion) (control.Located, error) {
	if s.Passkeys == nil {
		return control.Located{}, ErrNoPasskeys
	}
	c, parsed, err := s.answer(ctx, a)
	if err != nil {
		return control.Located{}, err
	}
	if c.User != uuid.Nil {
		return control.Located{}, ErrFactor
	}
	at, err := s.Store.LocatePasskey(ctx, parsed.RawID)
	if err != nil {
		return control.Located{}, control.NotFoundIs(err, ErrFactor)
	}
	ctx = control.WithTenant(ctx, at.Tenant)
	k, err := s.Store.Passkey(ctx, at.ID)
	if err != nil {
		return control.Located{}, control.NotFoundIs(err, ErrFactor)
	}
	find := func(_, handle []byte) (webauthn.User, error) {
		h, err := s.holder(ctx, k.User)
		if err == nil && !bytes.Equal(h.handle, handle) {
			err = ErrFactor
		}
		return h, err
	}
	credential, err := s.Passkeys.rp.ValidateDiscoverableLogin(find, c.Data, parsed)
	if err != nil {
		return control.Located{}, ErrFactor
	}
	return control.Located{Tenant: at.Tenant, ID: k.User}, s.used(ctx, k.User, credential)
}

// answer takes the challenge that an answer is to, whether it holds or not.
func (s *Factors) answer(ctx context.Context, a Assertion) (challenge, *protocol.ParsedCredentialAssertionData, error) {
	var c challenge
	if s.Passkeys == nil {
		return c, nil, ErrNoPasskeys
	}
	if err := s.Pending.take(ctx, pendingAssert, a.Ceremony, &c); err != nil {
		if errors.Is(err, control.ErrCredentials) {
			err = ErrFactor
		}
		return c, nil, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(a.Credential)
	if err != nil {
		return c, nil, ErrFactor
	}
	return c, parsed, nil
}

// used keeps what changed. A counter that does not grow is a copy of the
// passkey (WebAuthn Level 3 §6.1.1): refused, and noted.
func (s *Factors) used(ctx context.Context, user uuid.UUID, credential *webauthn.Credential) error {
	held, err := s.Store.Factors(ctx, user)
	if err != nil {
		return err
	}
	for _, k := range held.Passkeys {
		if !bytes.Equal(k.Credential.ID, credential.ID) {
			continue
		}
		if credential.Authenticator.CloneWarning {
			detail, _ := json.Marshal(map[string]string{"passkey": k.ID.String()}) // strings: cannot fail
			return errors.Join(ErrFactor, s.Audit.Note(ctx, control.AuditEntry{
				Action: "factor.copied", Object: "user:" + user.String(), Detail: detail}))
		}
		before := k.Credential.Authenticator.SignCount
		k.Credential, k.LastUsedAt = *credential, time.Now().UTC()
		ok, err := s.Store.UsePasskey(ctx, k, before)
		if err == nil && !ok {
			err = ErrFactor
		}
		return err
	}
	return ErrFactor
}

func passkeyName(name string) (string, error) {
	if name = strings.TrimSpace(name); name == "" || len(name) > 100 {
		return "", control.Invalidf("name", "must be 1 to 100 bytes")
	}
	return name, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}
