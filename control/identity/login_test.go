package identity_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"

	"parley/control"
	"parley/control/identity"
)

// Unknown person, wrong password, locked account and foreign tenant: the same
// answer after the same work.
func TestSignInTellsNothing(t *testing.T) {
	w := newWorld(t)
	w.tenant("acme")
	other, _ := w.tenant("other")
	locked, _ := w.tenant("locked")
	w.exec(`UPDATE users SET strikes = 9, locked_until = now() + interval '1 hour' WHERE email = 'locked@example.com'`)
	for name, l := range map[string]identity.Login{
		"unknown":        {Email: "nobody@example.com", Password: password},
		"wrong":          {Email: "acme@example.com", Password: "wrong horse battery"},
		"locked":         {Email: "locked@example.com", Password: password},
		"foreign-tenant": {Email: "acme@example.com", Password: password, Tenant: other},
		"no-tenant":      {Email: "acme@example.com", Password: password, Tenant: uuid.New()},
		"empty":          {},
	} {
		l.Client.Address = name
		before := w.hasher.Work()
		_, err := w.users.Login(t.Context(), l)
		if err != control.ErrCredentials {
			t.Errorf("%s: %v, want exactly ErrCredentials", name, err)
		}
		if n := w.hasher.Work() - before; n != 1 {
			t.Errorf("%s: %d computations, want 1", name, n)
		}
	}
	if n := w.audited(locked, "user.sign_in_failed"); n != 1 {
		t.Errorf("%d failed sign-ins in the trail, want 1", n)
	}
}

func TestAccountLock(t *testing.T) {
	w := newWorld(t)
	tenant, _ := w.tenant("acme")
	const email = "acme@example.com"
	home, err := w.login(email, password, identity.Client{})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		_, err := w.login(email, "wrong horse battery", identity.Client{})
		wantErr(t, "a wrong password", err, control.ErrCredentials)
	}
	_, err = w.login(email, password, identity.Client{})
	wantErr(t, "the right one, too late", err, control.ErrCredentials)
	// The browser that the person signed in with is let in all the same; one who
	// made such a cookie up is not.
	_, err = w.login(email, password, identity.Client{Known: home.Known + "x"})
	wantErr(t, "from a browser that says it is known", err, control.ErrCredentials)
	o, err := w.login(email, password, identity.Client{Known: home.Known})
	if err != nil || o.Failed != 7 {
		t.Errorf("from a known browser: %v, %d failed before, want 7", err, o.Failed)
	}
	if o = w.mustLogin(email); o.Failed != 0 {
		t.Errorf("%d failed before, want 0", o.Failed)
	}
	if n := w.audited(tenant, "user.sign_in_failed"); n != 7 {
		t.Errorf("%d in the trail, want 7", n)
	}
	// A known browser has a lock of its own.
	var throttled *identity.Throttled
	for range 6 {
		_, err = w.login(email, "wrong horse battery", identity.Client{Known: home.Known})
	}
	if !errors.As(err, &throttled) || throttled.Wait <= 0 || throttled.Wait > 15*time.Minute {
		t.Errorf("guesses from a known browser: %v", err)
	}
	// The lock goes by.
	w.exec(`UPDATE users SET locked_until = now() - interval '1 second' WHERE email = $1`, email)
	w.mustLogin(email)
}

// Many guesses at once gain nothing over one after the other.
func TestGuessesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.tenant("acme")
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			_, err := w.login("acme@example.com", "wrong horse battery", identity.Client{})
			wantErr(t, "a wrong password", err, control.ErrCredentials)
		})
	}
	all.Wait()
	var strikes, failures int
	if err := w.super.QueryRow(t.Context(), `SELECT strikes, failures FROM users WHERE email = 'acme@example.com'`).Scan(&strikes, &failures); err != nil || strikes != 5 || failures != 12 {
		t.Errorf("%d strikes and %d failures, %v; want 5 and 12", strikes, failures, err)
	}
}

func TestAddressLock(t *testing.T) {
	w := newWorld(t)
	w.tenant("acme")
	here := identity.Client{Address: "192.0.2.1"}
	for range 5 {
		_, err := w.login(uuid.NewString()+"@example.com", "wrong horse battery", here)
		wantErr(t, "stuffing", err, control.ErrCredentials)
	}
	before := w.hasher.Work()
	for _, email := range []string{"acme@example.com", "nobody@example.com"} {
		if _, err := w.login(email, password, here); !errors.As(err, new(*identity.Throttled)) {
			t.Errorf("%s from there: %v, want Throttled", email, err)
		}
	}
	if w.hasher.Work() != before {
		t.Error("passwords are worked on for an address that must wait")
	}
	w.mustLogin("acme@example.com")
}

func TestRehash(t *testing.T) {
	w := newWorld(t)
	tenant, owner := w.tenant("acme")
	old, err := bcrypt.GenerateFromPassword([]byte(password), 4)
	if err != nil {
		t.Fatal(err)
	}
	w.exec(`UPDATE users SET password_hash = $1`, string(old))
	w.mustLogin("acme@example.com")
	u, err := w.store.User(control.WithTenant(t.Context(), tenant), owner)
	if err != nil || !identity.Current(u.PasswordHash) {
		t.Errorf("after signing in: %.10s, %v", u.PasswordHash, err)
	}
	w.mustLogin("acme@example.com")
	if n := w.audited(tenant, "password.change"); n != 0 {
		t.Errorf("%d changes of the password in the trail", n)
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	tenant, _ := w.tenant("acme")
	const email = "acme@example.com"
	ends := func(what, sql string) {
		t.Helper()
		o := w.mustLogin(email)
		if _, err := w.users.Verify(t.Context(), o.Cookie); err != nil {
			t.Fatal(err)
		}
		w.exec(sql+` WHERE id = $1`, o.Session.ID)
		_, err := w.users.Verify(t.Context(), o.Cookie)
		wantErr(t, what, err, control.ErrCredentials)
	}
	ends("half an hour without a request", `UPDATE browser_sessions SET last_used_at = now() - interval '30 minutes'`)
	ends("twelve hours", `UPDATE browser_sessions SET expires_at = now()`)
	w.exec(`DELETE FROM browser_sessions`)

	first := w.mustLogin(email)
	w.exec(`UPDATE browser_sessions SET last_used_at = now() - interval '29 minutes'`)
	if _, err := w.users.Verify(t.Context(), first.Cookie); err != nil {
		t.Errorf("after 29 minutes: %v", err)
	}
	if list, err := w.users.List(t.Context(), first.Principal); err != nil || len(list) != 1 || time.Since(list[0].LastUsedAt) > time.Minute {
		t.Errorf("used just now: %+v, %v", list, err)
	}
	// Signing in again with the same browser ends the session before.
	second, err := w.login(email, password, identity.Client{Session: first.Cookie, Agent: "Mozilla/5.0 (X11; Linux) Firefox/140.0", Address: "203.0.113.9"})
	if err != nil || second.Cookie == first.Cookie {
		t.Fatal(err)
	}
	_, err = w.users.Verify(t.Context(), first.Cookie)
	wantErr(t, "the session before", err, control.ErrCredentials)
	rotated, err := w.users.Rotate(t.Context(), second.Principal)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.users.Verify(t.Context(), second.Cookie)
	wantErr(t, "the cookie before it was rotated", err, control.ErrCredentials)
	if p, err := w.users.Verify(t.Context(), rotated); err != nil || p.ID != second.Principal.ID {
		t.Errorf("rotated: %+v, %v", p, err)
	}

	third, fourth := w.mustLogin(email), w.mustLogin(email)
	list, err := w.users.List(t.Context(), second.Principal)
	if err != nil || len(list) != 3 || list[2].Agent != "Firefox on Linux" || list[2].Network != "203.0.113.0/24" || list[2].How != "password" {
		t.Errorf("sessions %+v, %v", list, err)
	}
	if err := w.users.Revoke(t.Context(), second.Principal, third.Session.ID); err != nil {
		t.Error(err)
	}
	wantErr(t, "revoked again", w.users.Revoke(t.Context(), second.Principal, third.Session.ID), control.ErrNotFound)
	_, stranger := w.tenant("other")
	theirs := w.mustLogin("other@example.com")
	wantErr(t, "a stranger's", w.users.Revoke(t.Context(), second.Principal, theirs.Session.ID), control.ErrNotFound)
	if err := w.users.RevokeOthers(t.Context(), second.Principal); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]string{"third": third.Cookie, "fourth": fourth.Cookie} {
		_, err := w.users.Verify(t.Context(), o)
		wantErr(t, name, err, control.ErrCredentials)
	}
	for name, o := range map[string]string{"own": rotated, "stranger's " + stranger.String(): theirs.Cookie} {
		if _, err := w.users.Verify(t.Context(), o); err != nil {
			t.Errorf("%s session: %v", name, err)
		}
	}
	if n := w.audited(tenant, "session.revoke"); n != 3 {
		t.Errorf("%d revocations in the trail, want 3", n)
	}
}

func TestSwitch(t *testing.T) {
	w := newWorld(t)
	one, _ := w.tenant("one")
	two, _ := w.tenant("two")
	three, _ := w.tenant("three")
	p := w.person(one, "p@example.com", control.RoleAdmin)
	w.join(two, p, control.RoleViewer)
	o := w.mustLogin("p@example.com")
	next, err := w.users.Switch(control.WithPrincipal(t.Context(), o.Principal), o.Principal, two, identity.Client{})
	if err != nil || next.Principal.Tenant != two || next.Principal.Role != control.RoleViewer || next.Session.ExpiresAt.Sub(o.Session.ExpiresAt).Abs() > time.Millisecond {
		t.Fatalf("switched to %+v, %v", next, err)
	}
	_, err = w.users.Verify(t.Context(), o.Cookie)
	wantErr(t, "the session before", err, control.ErrCredentials)
	_, err = w.users.Switch(control.WithPrincipal(t.Context(), next.Principal), next.Principal, three, identity.Client{})
	wantErr(t, "a stranger's tenant", err, control.ErrNotFound)
	if _, err := w.tenants.Suspend(t.Context(), one, true); err != nil {
		t.Fatal(err)
	}
	_, err = w.users.Switch(control.WithPrincipal(t.Context(), next.Principal), next.Principal, one, identity.Client{})
	wantErr(t, "a suspended tenant", err, control.ErrSuspended)
	if o := w.mustLogin("p@example.com"); o.Principal.Tenant != two {
		t.Error("signed in to a suspended tenant though there is another")
	}
}

func TestChangePassword(t *testing.T) {
	w := newWorld(t)
	tenant, _ := w.tenant("acme")
	other := w.mustLogin("acme@example.com")
	o := w.mustLogin("acme@example.com")
	ctx := control.WithPrincipal(t.Context(), o.Principal)
	const better = "seven amber gulls wade"
	wantErr(t, "without the old one", w.users.ChangePassword(ctx, o.Principal, "wrong", better, identity.Client{}), control.ErrCredentials)
	wantInvalid(t, "a short one", w.users.ChangePassword(ctx, o.Principal, password, "short", identity.Client{}))
	if err := w.users.ChangePassword(ctx, o.Principal, password, better, identity.Client{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.users.Verify(t.Context(), o.Cookie); err != nil {
		t.Errorf("the own session: %v", err)
	}
	_, err := w.users.Verify(t.Context(), other.Cookie)
	wantErr(t, "another session", err, control.ErrCredentials)
	_, err = w.login("acme@example.com", password, identity.Client{})
	wantErr(t, "the old password", err, control.ErrCredentials)
	if _, err = w.login("acme@example.com", better, identity.Client{}); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if w.audited(tenant, "password.change") != 1 {
		t.Error("it is not in the trail")
	}
}

func TestClean(t *testing.T) {
	w := newWorld(t)
	tenant, owner := w.tenant("acme")
	w.mustLogin("acme@example.com")
	if _, err := w.invitations.Create(as(t.Context(), tenant, owner, control.RoleOwner), "new@example.com", control.RoleViewer); err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		t.Helper()
		if err := w.super.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM browser_sessions) + (SELECT count(*) FROM invitations)`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := w.users.Clean(t.Context(), time.Now()); err != nil || left() != 2 {
		t.Errorf("%d left, %v, want 2", left(), err)
	}
	if err := w.users.Clean(t.Context(), time.Now().Add(8*24*time.Hour)); err != nil || left() != 0 {
		t.Errorf("%d left, %v, want 0", left(), err)
	}
}
