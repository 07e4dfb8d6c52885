package postgres_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

// seedSignIn puts a row into every table of signing in.
func seedSignIn(t testing.TB, v tenancy, name string) {
	t.Helper()
	s, now := v.store, time.Now().UTC()
	for _, err := range []error{
		s.PutTOTP(v.ctx, v.user, []byte{1}),
		s.ReplaceCodes(v.ctx, v.user, [][]byte{{1}}),
		s.InsertPasskey(v.ctx, identity.Passkey{ID: uuid.New(), User: v.user, Name: "k", CreatedAt: now,
			Credential: webauthn.Credential{ID: []byte("credential of " + name)}}),
		s.InsertPending(v.ctx, []byte("pending of "+name), "ticket", []byte{1}, now.Add(time.Hour)),
		second(s.InsertProvider(v.ctx, identity.Provider{ID: uuid.New(), Name: "p", Secret: []byte{1}})),
		second(s.InsertTrustedIssuer(v.ctx, identity.TrustedIssuer{ID: uuid.New(), Issuer: "https://i.example", Audience: "a", Enabled: true})),
		s.Admit(v.ctx, identity.Admission{Link: uuid.New(), Provider: "p", Issuer: "https://i.example", Subject: name, User: identity.User{ID: v.user}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is half done shows to who holds its secret, once, and not for long.
func TestPending(t *testing.T) {
	s := seed(t, server.New(t), "a").store
	ctx := t.Context()
	put := func(hash string, life time.Duration) {
		t.Helper()
		if err := s.InsertPending(ctx, []byte(hash), "k", []byte("sealed"), time.Now().Add(life)); err != nil {
			t.Fatal(err)
		}
	}
	put("one", time.Minute)
	put("late", -time.Second)
	if got, err := s.Pending(ctx, []byte("one"), "k"); err != nil || !bytes.Equal(got, []byte("sealed")) {
		t.Errorf("%q, %v", got, err)
	}
	for hash, kind := range map[string]string{"one": "other", "late": "k", "none": "k"} {
		if _, err := s.TakePending(ctx, []byte(hash), kind); !errors.Is(err, control.ErrNotFound) {
			t.Errorf("%s of kind %s: %v, want ErrNotFound", hash, kind, err)
		}
	}
	var all sync.WaitGroup
	var got atomic.Int32
	for range 8 {
		all.Go(func() {
			if _, err := s.TakePending(ctx, []byte("one"), "k"); err == nil {
				got.Add(1)
			}
		})
	}
	all.Wait()
	if got.Load() != 1 {
		t.Errorf("taken %d times, want once", got.Load())
	}
	put("next", time.Minute) // sweeps
	put("late", time.Minute) // as if it had never been
}

// A code counts once and attempts are counted, however many come at once.
func TestFactorsAtOnce(t *testing.T) {
	a := seed(t, server.New(t), "a")
	s := a.store
	if err := s.ConfirmTOTP(a.ctx, a.user, []byte{1}, 5, time.Now()); err != nil {
		t.Fatal(err)
	}
	var steps, codes, low atomic.Int32
	var all sync.WaitGroup
	now := time.Now().UTC()
	for range 8 {
		all.Go(func() {
			if ok, err := s.UseStep(a.ctx, a.user, 6); ok && err == nil {
				steps.Add(1)
			}
			if _, err := s.UseCode(a.ctx, a.user, []byte{1}, now); err == nil {
				codes.Add(1)
			}
			if n, _, err := s.Try(a.ctx, a.user, now, time.Minute); n <= 5 && err == nil {
				low.Add(1)
			}
		})
	}
	all.Wait()
	if steps.Load() != 1 || codes.Load() != 1 || low.Load() != 5 {
		t.Errorf("a step was used %d times, a recovery code %d, and %d of 8 tries were within 5", steps.Load(), codes.Load(), low.Load())
	}
	if ok, err := s.UseStep(a.ctx, a.user, 5); ok || err != nil {
		t.Errorf("an older step: %v, %v", ok, err)
	}
	if n, _, err := s.Try(a.ctx, a.user, now.Add(time.Minute), time.Minute); n != 1 || err != nil {
		t.Errorf("in the next window: %d, %v", n, err)
	}
}
