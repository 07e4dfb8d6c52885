package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
	"parley/store/kms"
	"parley/store/postgres"
	"parley/store/vault"
)

// The forms of PARLEY_KEY_PROVIDER.
const (
	transitScheme = "vault-transit://"
	kmsScheme     = "aws-kms://"
)

// keyProviders return a provider of keys by its name.
type keyProviders struct {
	ring  *control.Keyring
	vault *vault.Client // nil: not set up
}

func (p keyProviders) provider(name string) (control.KeyProvider, error) {
	switch {
	case name == control.LocalProvider:
		return control.LocalKeys{Ring: p.ring}, nil
	case strings.HasPrefix(name, transitScheme):
		return p.transit(strings.TrimPrefix(name, transitScheme))
	case strings.HasPrefix(name, kmsScheme):
		return kms.Open(context.Background(), strings.TrimPrefix(name, kmsScheme), kms.Options{})
	}
	return nil, errors.New("PARLEY_KEY_PROVIDER must be local, vault-transit://MOUNT/KEY or aws-kms://KEY")
}

// transit returns the provider of a key of Vault's engine, MOUNT/KEY. A mount
// may have slashes of its own.
func (p keyProviders) transit(path string) (control.KeyProvider, error) {
	i := strings.LastIndexByte(path, '/')
	switch {
	case i < 1 || i == len(path)-1:
		return nil, errors.New("PARLEY_KEY_PROVIDER: name Vault's engine and its key, as vault-transit://transit/parley")
	case p.vault == nil:
		return nil, errors.New("PARLEY_KEY_PROVIDER: Vault is not set up: set VAULT_ADDR, and how to sign in")
	}
	return &vault.Transit{Client: p.vault, Mount: path[:i], Key: path[i+1:]}, nil
}

// newDataKeys returns the tenants' keys, in a store that seals with them from
// now on.
func newDataKeys(s Settings, p keyProviders, db *postgres.Store, log *slog.Logger) (*control.DataKeys, error) {
	current, err := p.provider(cmp.Or(s.KeyProvider, control.LocalProvider))
	if err != nil {
		return nil, err
	}
	keys := &control.DataKeys{Store: db, Provider: current, Providers: p.provider, Log: log}
	db.SealWith(keys)
	db.KeysChanged(keys.Forget)
	return keys, nil
}

// Times of the start's question to the key provider.
const (
	checkTime  = 5 * time.Second // Vault may have to sign us in first
	checkAgain = 100 * time.Millisecond
)

// tryKeys wraps and unwraps something, again until it holds or time is up.
func tryKeys(ctx context.Context, p control.KeyProvider) (err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	for {
		const place = "start"
		var wrapped []byte
		if wrapped, err = p.Wrap(ctx, place, []byte("check")); err == nil {
			_, err = p.Unwrap(ctx, place, wrapped)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(checkAgain):
		}
	}
}

// checkKeys says at the start whether keys can be had.
func (g *gateway) checkKeys(ctx context.Context) error {
	p := g.keyring.Provider
	if err := tryKeys(ctx, p); err != nil && ctx.Err() == nil {
		g.log.Error("the key provider does not answer: calls are taken, but what they say waits in memory to be written, nothing is recorded, "+
			"and transcripts cannot be read until it does; check PARLEY_KEY_PROVIDER and what it may do", "provider", p.Name(), "err", err)
	}
	return nil
}

// newKeyMetrics counts turns to the key provider.
func newKeyMetrics(reg prometheus.Registerer) func(outcome string) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_data_keys_total",
		Help: "Data keys asked of the key provider: ok, stale (it did not answer, and the key in memory serves), failed (there is none)."}, []string{"outcome"})
	for _, o := range []string{"ok", "stale", "failed"} {
		c.WithLabelValues(o)
	}
	reg.MustRegister(c)
	return func(outcome string) { c.WithLabelValues(outcome).Inc() }
}

// buildKeys seals what callers say.
func (g *gateway) buildKeys(ring *control.Keyring) (err error) {
	if g.keyring, err = newDataKeys(g.settings, keyProviders{ring, g.safe.vault}, g.db, g.log); err != nil {
		return err
	}
	g.keyring.Noted = newKeyMetrics(g.metrics)
	g.recordings = &control.SealedBlobs{Blobs: g.blobs, Keys: g.keyring}
	return nil
}
