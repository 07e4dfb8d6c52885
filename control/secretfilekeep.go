package control

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"parley/agent/effect"
)

// A SecretFile keeps what stands behind file://local/path too, in up to
// fileVersions versions, apart from the secrets that are put by hand.
var _ SecretKeeper = (*SecretFile)(nil)

// fileVersions is how many versions of a path are kept, as Vault does.
const fileVersions = 10

// keptAt is where a path's versions stand in the file: no tenant's id begins so.
func keptAt(r SecretRef) string { return "kept " + r.Path }

// ReadSecret implements [SecretKeeper].
func (f *SecretFile) ReadSecret(_ context.Context, r SecretRef) (effect.Secret, SecretRef, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return "", r, err
	}
	versions := f.values[keptAt(r)]
	if r.Version == "" {
		r.Version = strconv.Itoa(newestKept(versions))
	}
	if s, ok := versions[r.Version]; ok {
		return effect.Secret(s.Value), r, nil
	}
	return "", r, fmt.Errorf("read secret: there is no such version: %w", ErrNotFound)
}

// WriteSecret implements [SecretKeeper]. It never conflicts: who writes waits
// for who wrote before, in this process.
func (f *SecretFile) WriteSecret(_ context.Context, r SecretRef, value effect.Secret) (SecretRef, error) {
	err := f.change(func() error {
		at := keptAt(r)
		if f.values[at] == nil {
			f.values[at] = map[string]storedSecret{}
		}
		n := newestKept(f.values[at]) + 1
		r.Version = strconv.Itoa(n)
		f.values[at][r.Version] = storedSecret{Value: string(value), UpdatedAt: time.Now().UTC()}
		delete(f.values[at], strconv.Itoa(n-fileVersions))
		return nil
	})
	return r, err
}

func newestKept(versions map[string]storedSecret) int {
	newest := 0
	for v := range versions {
		n, _ := strconv.Atoi(v) // ours: a number
		newest = max(newest, n)
	}
	return newest
}

// SecretVersions implements [SecretKeeper].
func (f *SecretFile) SecretVersions(_ context.Context, r SecretRef) ([]SecretVersion, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return nil, err
	}
	var out []SecretVersion
	for v, s := range f.values[keptAt(r)] {
		out = append(out, SecretVersion{Version: v, CreatedAt: s.UpdatedAt, Readable: true})
	}
	slices.SortFunc(out, func(a, b SecretVersion) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return out, nil
}

// RetractSecret implements [SecretKeeper].
func (f *SecretFile) RetractSecret(_ context.Context, r SecretRef) error {
	return f.change(func() error {
		delete(f.values[keptAt(r)], r.Version)
		return nil
	})
}

// ForgetSecret implements [SecretKeeper].
func (f *SecretFile) ForgetSecret(_ context.Context, r SecretRef) error {
	return f.change(func() error {
		delete(f.values, keptAt(r))
		return nil
	})
}
