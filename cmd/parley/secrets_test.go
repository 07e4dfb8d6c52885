package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/agent/effect"
	"parley/control"
)

// A till is tenants' secrets in memory: rows and values in one, that may be away.
type till struct {
	control.SecretStore
	control.SecretKeeper

	mu     sync.Mutex
	rows   map[string]control.SecretEntry
	values map[string]effect.Secret
	away   bool
}

func newTill() *till {
	return &till{rows: map[string]control.SecretEntry{}, values: map[string]effect.Secret{}}
}

var tillPlace = control.SecretRef{Scheme: control.SchemeVault, Mount: "secret", Path: "tenants"}

func (s *till) service() *control.SecretService {
	return control.NewSecretService(control.SecretsOptions{Store: s, Keeper: s, Place: tillPlace, Log: slog.New(slog.DiscardHandler)})
}

func (s *till) leave(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *till) StoredSecret(ctx context.Context, key string) (control.SecretEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, _ := control.TenantOf(ctx)
	e, ok := s.rows[t.String()+"/"+key]
	if !ok {
		return e, control.ErrNotFound
	}
	return e, nil
}

func (s *till) PutStoredSecret(ctx context.Context, e control.SecretEntry) (control.SecretEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, _ := control.TenantOf(ctx)
	e.Revision++
	s.rows[t.String()+"/"+e.Key] = e
	return e, nil
}

func (s *till) WriteSecret(_ context.Context, r control.SecretRef, v effect.Secret) (control.SecretRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[r.Path] = v
	return r, nil
}

func (s *till) ReadSecret(_ context.Context, r control.SecretRef) (effect.Secret, control.SecretRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return "", r, control.ErrUnavailable
	}
	if v, ok := s.values[r.Path]; ok {
		return v, r, nil
	}
	return "", r, control.ErrNotFound
}

// The health of secrets is in one word and four counts.
func TestSecretsDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := newTill()
		s := safe{service: kept.service()}
		ctx := control.WithTenant(t.Context(), control.NewID())
		if _, err := s.service.Put(ctx, control.SecretChange{Key: "crm", Value: "v", Hosts: []string{"api.example.com"}}); err != nil {
			t.Fatal(err)
		}
		use := func() error {
			_, err := s.service.Secret(ctx, "crm", &url.URL{Scheme: "https", Host: "api.example.com"})
			return err
		}
		if kept.leave(true); !errors.Is(use(), control.ErrUnavailable) || s.degraded() != "secrets" {
			t.Errorf("away: %q", s.degraded())
		}
		time.Sleep(2 * time.Second)
		kept.leave(false)
		if err := errors.Join(use(), use()); err != nil || s.degraded() != "" {
			t.Errorf("there again: %q", s.degraded())
		}
		time.Sleep(10 * time.Minute) // past its time
		if kept.leave(true); use() != nil || s.degraded() != "secrets" {
			t.Errorf("away, and served from memory: %q", s.degraded())
		}
		if time.Sleep(2 * time.Minute); s.degraded() != "" {
			t.Errorf("nobody has asked for two minutes: %q", s.degraded())
		}
		reg, got := prometheus.NewRegistry(), map[string]float64{}
		reg.MustRegister(secretMetrics(s.service.Stats))
		families, err := reg.Gather()
		if err != nil || len(families) != 1 {
			t.Fatal(families, err)
		}
		for _, m := range families[0].GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
		if want := map[string]float64{"hit": 1, "load": 3, "stale": 1, "failed": 1}; !maps.Equal(got, want) {
			t.Errorf("counted %v, want %v", got, want)
		}
	})
}
