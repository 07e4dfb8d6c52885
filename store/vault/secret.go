package vault

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"parley/agent/effect"
	"parley/control"
)

// Secrets keeps secrets in Vault behind references vault://mount/path#field@version.
// It implements [control.SecretKeeper].
type Secrets struct{ Client *Client }

var _ control.SecretKeeper = (*Secrets)(nil)

// ReadSecret implements [control.SecretKeeper].
func (s *Secrets) ReadSecret(ctx context.Context, r control.SecretRef) (effect.Secret, control.SecretRef, error) {
	version, err := number(r.Version)
	if err != nil {
		return "", r, err
	}
	fields, version, err := s.kv(r).Get(ctx, r.Path, version)
	if err != nil {
		return "", r, err
	}
	v := fields[field(r)]
	if v == "" {
		return "", r, fmt.Errorf("vault: %s has no field %s: %w", r.Path, field(r), control.ErrNotFound)
	}
	return effect.Secret(v), r.At(strconv.Itoa(version)), nil
}

// WriteSecret implements [control.SecretKeeper]. Of two that write at once one
// gets ErrConflict: the version that follows is the one that was expected.
func (s *Secrets) WriteSecret(ctx context.Context, r control.SecretRef, value effect.Secret) (control.SecretRef, error) {
	kv := s.kv(r)
	newest, err := kv.Newest(ctx, r.Path)
	if err != nil {
		return r, err
	}
	n, err := kv.Put(ctx, r.Path, map[string]string{field(r): string(value)}, newest)
	return r.At(strconv.Itoa(n)), err
}

// SecretVersions implements [control.SecretKeeper].
func (s *Secrets) SecretVersions(ctx context.Context, r control.SecretRef) ([]control.SecretVersion, error) {
	list, err := s.kv(r).Versions(ctx, r.Path)
	if errors.Is(err, control.ErrNotFound) {
		return nil, nil
	}
	var out []control.SecretVersion
	for _, v := range list {
		out = append(out, control.SecretVersion{Version: strconv.Itoa(v.Number), CreatedAt: v.CreatedAt,
			Readable: !v.Destroyed && v.DeletedAt.IsZero()})
	}
	return out, err
}

// RetractSecret implements [control.SecretKeeper].
func (s *Secrets) RetractSecret(ctx context.Context, r control.SecretRef) error {
	n, err := number(r.Version)
	if err != nil || n == 0 {
		return errors.Join(err, errors.New("vault: no version to take back"))
	}
	return s.kv(r).Destroy(ctx, r.Path, n)
}

// ForgetSecret implements [control.SecretKeeper].
func (s *Secrets) ForgetSecret(ctx context.Context, r control.SecretRef) error {
	return s.kv(r).Forget(ctx, r.Path)
}

func (s *Secrets) kv(r control.SecretRef) KV { return KV{s.Client, r.Mount} }

func field(r control.SecretRef) string {
	if r.Field == "" {
		return control.VaultField
	}
	return r.Field
}

// number is a version; "" is 0, the newest.
func number(version string) (int, error) {
	if version == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(version)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("vault: the version is not a number from 1: %w", control.ErrNotFound)
	}
	return n, nil
}
