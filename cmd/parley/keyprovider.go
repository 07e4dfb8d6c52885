package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
	"parley/store/kms"
	"parley/store/postgres"
)

// The forms of PARLEY_KEY_PROVIDER.
const (
	transitScheme = "vault-transit://"
	kmsScheme     = "aws-kms://"
)

// A keyProviders returns providers of keys by their names, each made once.
type keyProviders struct {
	settings Settings
	ring     *control.Keyring
}

// provider returns the one of a name.
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

// transit returns the provider of a key of Vault's engine, MOUNT/KEY.
func (p keyProviders) transit(string) (control.KeyProvider, error) {
	return nil, errors.New("PARLEY_KEY_PROVIDER: Vault is not built in yet")
}

// newDataKeys returns the tenants' keys, in a store that seals with them from
// now on.
func newDataKeys(s Settings, ring *control.Keyring, db *postgres.Store, log *slog.Logger) (*control.DataKeys, error) {
	p := keyProviders{s, ring}
	current, err := p.provider(cmp.Or(s.KeyProvider, control.LocalProvider))
	if err != nil {
		return nil, err
	}
	keys := &control.DataKeys{Store: db, Provider: current, Providers: p.provider, Log: log}
	db.SealWith(keys)
	db.KeysChanged(keys.Forget)
	return keys, nil
}

// checkTime bounds how long the start waits to hear from the key provider.
const checkTime = 3 * time.Second

// checkKeys says at the start whether keys can be had.
func checkKeys(ctx context.Context, p control.KeyProvider, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	const place = "start"
	wrapped, err := p.Wrap(ctx, place, []byte("check"))
	if err == nil {
		_, err = p.Unwrap(ctx, place, wrapped)
	}
	if err != nil {
		log.Error("the key provider does not answer: calls are taken, but what they say waits in memory to be written, nothing is recorded, "+
			"and transcripts cannot be read until it does; check PARLEY_KEY_PROVIDER and what it may do", "provider", p.Name(), "error", err)
	}
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
func (g *gateway) buildKeys(ctx context.Context, ring *control.Keyring) (err error) {
	if g.keyring, err = newDataKeys(g.settings, ring, g.db, g.log); err != nil {
		return fmt.Errorf("data keys: %w", err)
	}
	g.keyring.Noted = newKeyMetrics(g.metrics)
	g.recordings = &control.SealedBlobs{Blobs: g.blobs, Keys: g.keyring}
	checkKeys(ctx, g.keyring.Provider, g.log)
	return nil
}
