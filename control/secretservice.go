package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
)

// SecretStore keeps what is known of tenants' secrets besides their values: each
// in its tenant, by key. The tenant is in ctx.
type SecretStore interface {
	// StoredSecret returns ErrNotFound where there is none.
	StoredSecret(ctx context.Context, key string) (SecretEntry, error)
	// StoredSecrets lists by key, from after one.
	StoredSecrets(ctx context.Context, after string, limit int) ([]SecretEntry, error)
	// PutStoredSecret writes e over the revision e.Revision, 0 for a new one.
	// ErrConflict: another stands there.
	PutStoredSecret(ctx context.Context, e SecretEntry) (SecretEntry, error)
	// DeleteStoredSecret deletes the revision. ErrNotFound, ErrConflict.
	DeleteStoredSecret(ctx context.Context, key string, revision int) error
	// NoteSecretUse notes when a secret was last used, if that is later.
	NoteSecretUse(ctx context.Context, key string, at time.Time) error
}

// An Announcer tells all processes, this one too, of what has changed.
type Announcer interface {
	// Announce may fail: then some hear nothing.
	Announce(ctx context.Context, topic, text string) error
	// Listen tells of announcements until ctx ends, and whenever it begins or
	// ceases to hear them.
	Listen(ctx context.Context, topic string, heard func(text string), hears func(bool)) error
}

// SecretsOptions is what [NewSecretService] works with.
type SecretsOptions struct {
	Store SecretStore
	// Keeper keeps what tenants put, below Place: the secret "crm" of a tenant
	// stands at PLACE/{tenant}/crm.
	Keeper SecretKeeper
	Place  SecretRef
	// Readers serve the program's own references, by scheme.
	Readers map[string]SecretReader
	// File has secrets that were put by hand on this machine; used where a
	// tenant has none of the key in rows. Nil: there are none.
	File effect.Secrets
	// Announcer reaches the other processes. Nil: there are none.
	Announcer Announcer
	Log       *slog.Logger
}

// SecretService keeps tenants' secrets, and has their values at hand. It
// implements [effect.Secrets]. It is safe for use by several goroutines.
type SecretService struct {
	o     SecretsOptions
	cache *secretCache
	used  secretUses
}

var _ effect.Secrets = (*SecretService)(nil)

// NewSecretService returns a service that does not hear of changes elsewhere
// until [SecretService.Run] does.
func NewSecretService(o SecretsOptions) *SecretService {
	s := &SecretService{o: o, cache: newSecretCache(o.Log)}
	s.cache.deaf = o.Announcer != nil
	return s
}

// Stats counts reads.
func (s *SecretService) Stats() SecretStats { return s.cache.counts() }

// Away tells whether a store of secrets did not answer within the last minute,
// and none has since.
func (s *SecretService) Away() bool { return s.cache.isAway(time.Now()) }

// Secret implements [effect.Secrets].
func (s *SecretService) Secret(ctx context.Context, key string, to *url.URL) (effect.Secret, error) {
	tenant, ok := TenantOf(ctx)
	if !ok {
		return "", effect.ErrNoSecret
	}
	v, err := s.cache.get(ctx, cacheKey(tenant, key), func(ctx context.Context) (cachedSecret, error) { return s.load(ctx, tenant, key) })
	switch {
	case errors.Is(err, ErrNotFound) && s.o.File != nil:
		return s.o.File.Secret(ctx, key, to)
	case errors.Is(err, ErrNotFound), err == nil && !bound(v.hosts, to):
		return "", effect.ErrNoSecret
	case err != nil:
		return "", fmt.Errorf("read a secret: %w", err)
	}
	s.used.note(tenant, key, time.Now())
	return v.value, nil
}

func cacheKey(tenant uuid.UUID, key string) string { return tenant.String() + "/" + key }

// load reads a tenant's secret from its row and its keeper. The row is held to
// the tenant's place: whoever writes rows reaches nothing else.
func (s *SecretService) load(ctx context.Context, tenant uuid.UUID, key string) (cachedSecret, error) {
	e, err := s.o.Store.StoredSecret(ctx, key)
	if err != nil {
		return cachedSecret{}, err
	}
	if !e.Ref.Within(s.place(tenant)) {
		s.o.Log.Error("a secret's reference leads out of its tenant's place; it is not followed", "tenant", tenant, "key", key)
		return cachedSecret{}, ErrNotFound
	}
	v, _, err := s.o.Keeper.ReadSecret(ctx, e.Ref)
	return cachedSecret{value: v, hosts: e.Hosts}, err
}

// place is where a tenant's values stand.
func (s *SecretService) place(tenant uuid.UUID) SecretRef { return s.o.Place.Join(tenant.String()) }

// A SecretChange is what somebody wants of a secret.
type SecretChange struct {
	Key string
	// Value replaces the value; or Reference, the place of one that stands in
	// the tenant's own place already. Neither: hosts alone are narrowed.
	Value     effect.Secret
	Reference string
	// Hosts that it may be sent to; nil: as before.
	Hosts []string
	// Revision that is changed; 0: whichever there is, or none.
	Revision int
}

var storedKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,127}$`)

// Put stores or replaces a secret of the tenant of ctx. A value counts from the
// moment on when all of it is done; until then, and when it fails, the one
// before does. Errors: [Invalid], ErrConflict, ErrNotFound for a revision of
// what there is not, ErrUnavailable.
func (s *SecretService) Put(ctx context.Context, c SecretChange) (SecretEntry, error) {
	tenant, ok := TenantOf(ctx)
	if !ok {
		return SecretEntry{}, ErrForbidden
	}
	old, err := s.before(ctx, c)
	if err != nil {
		return SecretEntry{}, err
	}
	e := old
	e.Key, e.UpdatedBy = c.Key, ActorOf(ctx)
	if c.Hosts != nil {
		e.Hosts = slices.Clone(c.Hosts)
	}
	if err := s.check(c, old, e.Hosts); err != nil {
		return SecretEntry{}, err
	}
	switch {
	case c.Value != "":
		if e.Ref, err = s.o.Keeper.WriteSecret(ctx, s.place(tenant).Join(c.Key), c.Value); err != nil {
			return SecretEntry{}, fmt.Errorf("put secret: %w", err)
		}
		e.Own = true
	case c.Reference != "":
		if e.Ref, err = s.refer(ctx, tenant, c.Reference); err != nil {
			return SecretEntry{}, err
		}
		e.Own = false
	}
	got, err := s.o.Store.PutStoredSecret(ctx, e)
	if err != nil {
		if c.Value != "" {
			s.retract(ctx, e.Ref)
		}
		return SecretEntry{}, fmt.Errorf("put secret: %w", err)
	}
	s.announce(ctx, tenant, c.Key, false)
	return got, nil
}

// before returns what a change is of; the zero value if there is none.
func (s *SecretService) before(ctx context.Context, c SecretChange) (SecretEntry, error) {
	if !storedKey.MatchString(c.Key) {
		return SecretEntry{}, Invalidf("key", "must begin with a letter or underscore, and go on with letters, digits, _ . and -")
	}
	if err := RefuseSecret("key", c.Key); err != nil {
		return SecretEntry{}, err
	}
	old, err := s.o.Store.StoredSecret(ctx, c.Key)
	switch {
	case errors.Is(err, ErrNotFound) && c.Revision == 0:
		return SecretEntry{}, nil
	case err != nil:
		return SecretEntry{}, fmt.Errorf("put secret: %w", err)
	case c.Revision != 0 && c.Revision != old.Revision:
		return SecretEntry{}, fmt.Errorf("put secret: %w", ErrConflict)
	}
	return old, nil
}

// check holds a change to the rules.
func (s *SecretService) check(c SecretChange, old SecretEntry, hosts []string) error {
	switch {
	case c.Value != "" && c.Reference != "":
		return Invalidf("reference", "send a value or a reference, not both")
	case len(c.Value) > maxSecretBytes:
		return Invalidf("value", "must hold 1 to %d bytes", maxSecretBytes)
	case IsSecretRef(string(c.Value)):
		return Invalidf("value", "is a reference: send it as reference")
	case strings.ContainsRune(string(c.Value), 0):
		return Invalidf("value", "must be text")
	}
	for i, h := range hosts {
		if err := RefuseSecret(fmt.Sprintf("hosts[%d]", i), h); err != nil {
			return err
		}
	}
	if err := checkSecretHosts(hosts); err != nil {
		return err
	}
	if c.Value != "" || c.Reference != "" {
		return nil
	}
	if old.Revision == 0 {
		return Invalidf("value", "is required for a new secret")
	}
	// Who may not read a value must not have it sent to themselves.
	for i, h := range hosts {
		if u, err := url.Parse(mustOrigin(h)); err != nil || !bound(old.Hosts, u) {
			return Invalidf(fmt.Sprintf("hosts[%d]", i), "is new: send the value again to have it sent to another host")
		}
	}
	return nil
}

func mustOrigin(host string) string {
	o, _ := parseSecretHost(host)
	return o
}

// refer takes a reference to what stands in the tenant's place already.
func (s *SecretService) refer(ctx context.Context, tenant uuid.UUID, text string) (SecretRef, error) {
	r, err := ParseSecretRef(text)
	if err != nil {
		return r, Invalidf("reference", "%s", err)
	}
	if !r.Within(s.place(tenant)) {
		return r, Invalidf("reference", "must lead to this tenant's own place, %s/", s.place(tenant))
	}
	if _, _, err := s.o.Keeper.ReadSecret(ctx, r); errors.Is(err, ErrNotFound) {
		return r, Invalidf("reference", "there is no value at it")
	} else if err != nil {
		return r, fmt.Errorf("put secret: %w", err)
	}
	return r, nil
}

// retract takes back a value that did not come to count.
func (s *SecretService) retract(ctx context.Context, r SecretRef) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), secretLoad)
	defer cancel()
	if err := s.o.Keeper.RetractSecret(ctx, r); err != nil {
		s.o.Log.Warn("a value that was not taken stays among the versions of a secret", "err", err)
	}
}

// Delete forgets a secret of the tenant of ctx, with the values that were put
// through us. Revision 0: whichever there is. Errors: ErrNotFound, ErrConflict.
func (s *SecretService) Delete(ctx context.Context, key string, revision int) error {
	tenant, ok := TenantOf(ctx)
	if !ok {
		return ErrForbidden
	}
	e, err := s.o.Store.StoredSecret(ctx, key)
	if err != nil {
		return fmt.Errorf("delete secret: %w", err)
	}
	if revision != 0 && revision != e.Revision {
		return fmt.Errorf("delete secret: %w", ErrConflict)
	}
	// The value first: a secret without a row could be deleted no more.
	own := e.Own && e.Ref.Within(s.place(tenant))
	if own {
		if err := s.o.Keeper.ForgetSecret(ctx, e.Ref.At("")); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("delete secret: %w", err)
		}
	}
	err = s.o.Store.DeleteStoredSecret(ctx, key, e.Revision)
	s.announce(ctx, tenant, key, true)
	if err != nil {
		return fmt.Errorf("delete secret: %w", err)
	}
	return nil
}

// Entry describes a secret, with the versions that its keeper knows of; without
// them while it is away.
func (s *SecretService) Entry(ctx context.Context, key string) (SecretEntry, []SecretVersion, error) {
	e, err := s.o.Store.StoredSecret(ctx, key)
	if err != nil {
		return e, nil, err
	}
	tenant, _ := TenantOf(ctx)
	if !e.Ref.Within(s.place(tenant)) {
		return e, nil, nil
	}
	list, err := s.o.Keeper.SecretVersions(ctx, e.Ref.At(""))
	if errors.Is(err, ErrUnavailable) {
		return e, nil, nil
	}
	return e, list, err
}

// Entries lists the tenant's secrets by key.
func (s *SecretService) Entries(ctx context.Context, after string, limit int) ([]SecretEntry, error) {
	return s.o.Store.StoredSecrets(ctx, after, limit)
}

// A SecretTest says whether a secret would be sent to an address.
type SecretTest struct {
	Bound    bool // its hosts allow the address
	Readable bool // its value can be had now
}

// Test tries a secret without using it.
func (s *SecretService) Test(ctx context.Context, key, address string) (SecretTest, error) {
	to, err := url.Parse(address)
	if err != nil || to.Host == "" || to.User != nil {
		return SecretTest{}, Invalidf("url", "must be an address such as https://api.example.com/v1")
	}
	tenant, _ := TenantOf(ctx)
	e, err := s.o.Store.StoredSecret(ctx, key)
	if err != nil {
		return SecretTest{}, err
	}
	_, err = s.load(ctx, tenant, key)
	return SecretTest{Bound: bound(e.Hosts, to), Readable: err == nil}, nil
}

// Setting returns how to get the secret that a setting of the program holds:
// the text itself, or what stands behind a reference whenever it is asked for,
// from memory for a while. It fails for what is no reference although it begins
// as one, and for one of a store that is not set up; the error repeats nothing.
func (s *SecretService) Setting(text string) (func(context.Context) (string, error), error) {
	if !IsSecretRef(text) {
		return func(context.Context) (string, error) { return text, nil }, nil
	}
	r, err := ParseSecretRef(text)
	if err != nil {
		return nil, err
	}
	reader := s.o.Readers[r.Scheme]
	if reader == nil {
		return nil, fmt.Errorf("refers to %s, which is not set up", r.Scheme)
	}
	life := time.Duration(0)
	if r.Scheme == SchemeFile || r.Scheme == SchemeEnv {
		life = secretLifeDeaf // near at hand, and nobody tells of changes
	}
	return func(ctx context.Context) (string, error) {
		v, err := s.cache.get(ctx, "setting "+text, func(ctx context.Context) (cachedSecret, error) {
			v, _, err := reader.ReadSecret(ctx, r)
			return cachedSecret{value: v, life: life}, err
		})
		if err != nil {
			return "", fmt.Errorf("read %s: %w", r, err)
		}
		return string(v.value), nil
	}, nil
}
