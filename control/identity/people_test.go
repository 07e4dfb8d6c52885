package identity_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// A world is the services of people on a database of their own.
type world struct {
	t           *testing.T
	store       *postgres.Store
	super       *pgx.Conn
	hasher      *identity.Hasher
	hash        string // of password
	users       *identity.Users
	tenants     *identity.Tenants
	members     *identity.Members
	invitations *identity.Invitations
}

const password = "violet tractor hums"

func newWorld(t *testing.T) *world {
	t.Helper()
	db := server.New(t)
	w := &world{t: t, hasher: identity.NewHasher(2)}
	var err error
	if w.store, err = postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 8}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	if w.super, err = pgx.Connect(t.Context(), db.SuperURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.super.Close(context.Background()) })
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	if w.hash, err = w.hasher.Hash(t.Context(), password); err != nil {
		t.Fatal(err)
	}
	links := identity.Links{Ring: ring}
	w.users = &identity.Users{Store: w.store, Sessions: w.store, Ring: ring, Hasher: w.hasher, Audit: w.store}
	w.invitations = &identity.Invitations{Store: w.store, Users: w.users, Links: links}
	w.tenants = &identity.Tenants{Store: w.store, Invitations: w.invitations}
	w.members = &identity.Members{Store: w.store, Users: w.users, Links: links}
	return w
}

// tenant makes a tenant with an owner.
func (w *world) tenant(name string) (tenant, owner uuid.UUID) {
	w.t.Helper()
	tenant, owner = control.NewID(), control.NewID()
	err := w.store.InsertTenant(w.t.Context(), identity.Tenant{ID: tenant, Name: name},
		identity.User{ID: owner, Email: name + "@example.com", PasswordHash: w.hash, Role: control.RoleOwner})
	if err != nil {
		w.t.Fatal(err)
	}
	return tenant, owner
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.super.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// person adds a member to a tenant.
func (w *world) person(tenant uuid.UUID, email string, role control.Role) uuid.UUID {
	w.t.Helper()
	id := control.NewID()
	w.exec(`INSERT INTO users (id, email, password_hash) VALUES ($1, $2, $3)`, id, email, w.hash)
	w.join(tenant, id, role)
	return id
}

func (w *world) join(tenant, user uuid.UUID, role control.Role) {
	w.t.Helper()
	// The trigger writes to the tenant's audit trail.
	w.exec(`INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, clock_timestamp())`, tenant, user, string(role))
}

func as(ctx context.Context, tenant, user uuid.UUID, role control.Role) context.Context {
	return control.WithPrincipal(ctx, control.Principal{Kind: control.PrincipalUser, ID: control.NewID(), Tenant: tenant, User: user, Role: role})
}

func (w *world) login(email, password string, c identity.Client) (identity.Opened, error) {
	if c.Address == "" {
		c.Address = uuid.NewString() // each from elsewhere
	}
	return w.users.Login(w.t.Context(), identity.Login{Email: email, Password: password, Client: c})
}

func (w *world) mustLogin(email string) identity.Opened {
	w.t.Helper()
	o, err := w.login(email, password, identity.Client{})
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// audited counts entries of a tenant.
func (w *world) audited(tenant uuid.UUID, action string) (n int) {
	w.t.Helper()
	if err := w.super.QueryRow(w.t.Context(), `SELECT count(*) FROM audit WHERE tenant_id = $1 AND action = $2`, tenant, action).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func wantInvalid(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.As(err, new(*control.Invalid)) {
		t.Errorf("%s: %v, want Invalid", what, err)
	}
}

// Every role, and keys, against every act on a member of every role.
func TestMembershipMatrix(t *testing.T) {
	w := newWorld(t)
	tenant, first := w.tenant("acme")
	w.person(tenant, "second@example.com", control.RoleOwner) // so that the last owner is another matter
	target := w.person(tenant, "target@example.com", control.RoleViewer)
	actors := map[string]control.Principal{}
	for _, r := range control.Roles() {
		actors[string(r)] = control.Principal{Kind: control.PrincipalUser, ID: control.NewID(), Tenant: tenant, User: first, Role: r}
	}
	key := control.Principal{Kind: control.PrincipalKey, ID: control.NewID(), Tenant: tenant}
	all, few := key, key
	all.Scopes, few.Scopes = control.Scopes(), []control.Permission{control.UsersManage, control.UsersRead}
	actors["key-all"], actors["key-users"] = all, few
	// may says who may give a role, or touch who has it.
	may := func(actor string, role control.Role) bool {
		switch actor {
		case "owner":
			return true
		case "admin", "key-all":
			return role != control.RoleOwner
		}
		return false
	}
	n := 0
	check := func(what string, err error, allowed bool) {
		t.Helper()
		n++
		if allowed && err != nil || !allowed && !errors.Is(err, control.ErrForbidden) {
			t.Errorf("%s: %v, allowed %v", what, err, allowed)
		}
	}
	for name, p := range actors {
		ctx := control.WithPrincipal(t.Context(), p)
		for _, from := range control.Roles() {
			for _, to := range control.Roles() {
				w.exec(`UPDATE memberships SET role = $2 WHERE user_id = $1`, target, string(from))
				m, err := w.members.ChangeRole(ctx, target, to, 0)
				check(fmt.Sprintf("%s makes a %s a %s", name, from, to), err, may(name, from) && may(name, to))
				if err == nil && m.Role != to {
					t.Errorf("the role is %s, want %s", m.Role, to)
				}
			}
			gone := w.person(tenant, uuid.NewString()+"@example.com", from)
			check(fmt.Sprintf("%s removes a %s", name, from), w.members.Remove(ctx, gone), may(name, from))
			_, err := w.invitations.Create(ctx, uuid.NewString()+"@example.com", from)
			check(fmt.Sprintf("%s invites a %s", name, from), err, may(name, from))
			w.exec(`UPDATE memberships SET role = $2 WHERE user_id = $1`, target, string(from))
			_, err = w.members.ResetLink(ctx, target)
			check(fmt.Sprintf("%s resets a %s", name, from), err, may(name, from))
		}
	}
	if want := 8 * 6 * (6 + 3); n != want {
		t.Errorf("%d acts tried, want %d", n, want)
	}
}

func TestNobodyRaisesThemself(t *testing.T) {
	w := newWorld(t)
	tenant, _ := w.tenant("acme")
	for _, role := range control.Roles()[1:] {
		me := w.person(tenant, string(role)+"@example.com", role)
		_, err := w.members.ChangeRole(as(t.Context(), tenant, me, role), me, control.RoleOwner, 0)
		wantErr(t, string(role)+" becomes an owner", err, control.ErrForbidden)
	}
}

func TestLastOwnerStays(t *testing.T) {
	w := newWorld(t)
	tenant, a := w.tenant("acme")
	ctx := as(t.Context(), tenant, a, control.RoleOwner)
	_, err := w.members.ChangeRole(ctx, a, control.RoleAdmin, 0)
	wantInvalid(t, "the last owner is demoted", err)
	wantInvalid(t, "the last owner is removed", w.members.Remove(ctx, a))
	// Two owners demote each other at once, again and again: one stays.
	b := w.person(tenant, "b@example.com", control.RoleOwner)
	for range 10 {
		w.exec(`UPDATE memberships SET role = 'owner' WHERE tenant_id = $1`, tenant)
		var both sync.WaitGroup
		for _, pair := range [][2]uuid.UUID{{a, b}, {b, a}} {
			both.Go(func() {
				_, _ = w.members.ChangeRole(as(t.Context(), tenant, pair[0], control.RoleOwner), pair[1], control.RoleViewer, 0)
			})
		}
		both.Wait()
		var owners int
		if err := w.super.QueryRow(t.Context(), `SELECT count(*) FROM memberships WHERE tenant_id = $1 AND role = 'owner'`, tenant).Scan(&owners); err != nil || owners != 1 {
			t.Fatalf("%d owners, %v, want 1", owners, err)
		}
	}
	if _, err := w.members.ChangeRole(as(t.Context(), tenant, a, control.RoleOwner), b, control.RoleViewer, 99); err == nil {
		t.Error("a change that is based on another revision is taken")
	}
}

// A removed person's sessions of the tenant end at once, those of another stay;
// who belongs nowhere any more is forgotten.
func TestRemove(t *testing.T) {
	w := newWorld(t)
	one, boss := w.tenant("one")
	two, _ := w.tenant("two")
	p := w.person(one, "p@example.com", control.RoleEditor)
	w.join(two, p, control.RoleViewer)
	here := w.mustLogin("p@example.com")
	there, err := w.users.Login(t.Context(), identity.Login{Email: "p@example.com", Password: password, Tenant: two, Client: identity.Client{Address: "x"}})
	if err != nil || here.Principal.Tenant != one || there.Principal.Tenant != two {
		t.Fatalf("signed in to %v and %v, %v", here.Principal.Tenant, there.Principal.Tenant, err)
	}
	if err := w.members.Remove(as(t.Context(), one, boss, control.RoleOwner), p); err != nil {
		t.Fatal(err)
	}
	_, err = w.users.Verify(t.Context(), here.Cookie)
	wantErr(t, "the session of the tenant", err, control.ErrCredentials)
	if _, err := w.users.Verify(t.Context(), there.Cookie); err != nil {
		t.Errorf("the session of another tenant: %v", err)
	}
	_, err = w.members.Store.Member(control.WithTenant(t.Context(), one), p)
	wantErr(t, "who was removed", err, control.ErrNotFound)
	w.exec(`UPDATE memberships SET role = 'viewer' WHERE tenant_id = $1 AND user_id = $2`, two, p)
	_, other := w.tenant("three")
	wantErr(t, "another tenant's person", w.members.Remove(as(t.Context(), one, boss, control.RoleOwner), other), control.ErrNotFound)
	if err := w.members.Remove(control.WithPrincipal(t.Context(), control.Principal{Kind: control.PrincipalKey, Tenant: two, Scopes: control.Scopes()}), p); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := w.super.QueryRow(t.Context(), `SELECT count(*) FROM users WHERE id = $1`, p).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows of who belongs nowhere, %v", left, err)
	}
	if w.audited(one, "member.remove") != 1 || w.audited(two, "member.remove") != 1 {
		t.Error("a removal is not in the trail")
	}
}

func TestRoleChangeEndsSessions(t *testing.T) {
	w := newWorld(t)
	tenant, boss := w.tenant("acme")
	p := w.person(tenant, "p@example.com", control.RoleViewer)
	o := w.mustLogin("p@example.com")
	if _, err := w.members.ChangeRole(as(t.Context(), tenant, boss, control.RoleOwner), p, control.RoleAdmin, 1); err != nil {
		t.Fatal(err)
	}
	_, err := w.users.Verify(t.Context(), o.Cookie)
	wantErr(t, "a session from before", err, control.ErrCredentials)
	if again := w.mustLogin("p@example.com"); again.Principal.Role != control.RoleAdmin {
		t.Errorf("signed in as %s", again.Principal.Role)
	}
	if w.audited(tenant, "role.change") != 1 || w.audited(tenant, "session.revoke") != 1 {
		t.Error("a role's change is not in the trail")
	}
}

func TestSuspend(t *testing.T) {
	w := newWorld(t)
	tenant, _ := w.tenant("acme")
	w.mustLogin("acme@example.com")
	if err := w.tenants.Standing(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if _, err := w.tenants.Suspend(t.Context(), tenant, true); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a suspended tenant", w.tenants.Standing(t.Context(), tenant), control.ErrSuspended)
	_, err := w.login("acme@example.com", password, identity.Client{})
	wantErr(t, "signing in to it", err, control.ErrSuspended)
	_, err = w.login("acme@example.com", "wrong", identity.Client{})
	wantErr(t, "with a wrong password", err, control.ErrCredentials)
	if _, err := w.tenants.Suspend(t.Context(), tenant, false); err != nil {
		t.Fatal(err)
	}
	if err := w.tenants.Standing(t.Context(), tenant); err != nil {
		t.Errorf("after it was resumed: %v", err)
	}
	w.mustLogin("acme@example.com")
	_, err = w.tenants.Suspend(t.Context(), uuid.New(), true)
	wantErr(t, "a tenant that there is not", err, control.ErrNotFound)
	wantErr(t, "its standing", w.tenants.Standing(t.Context(), uuid.New()), control.ErrCredentials)
	if w.audited(tenant, "tenant.suspend") != 1 || w.audited(tenant, "tenant.resume") != 1 || w.audited(tenant, "user.sign_in") != 2 {
		t.Error("it is not in the trail")
	}
}

// Nothing of a person stands in the audit trail but the id.
func TestAuditHoldsNoAddress(t *testing.T) {
	w := newWorld(t)
	tenant, boss := w.tenant("zq81canary")
	ctx := as(t.Context(), tenant, boss, control.RoleOwner)
	i, err := w.invitations.Create(ctx, "zq81canary.new@example.com", control.RoleAdmin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.invitations.Accept(t.Context(), i.Link.Token, password, "Zq81canary Name", identity.Client{}); err != nil {
		t.Fatal(err)
	}
	w.mustLogin("zq81canary.new@example.com")
	_, _ = w.login("zq81canary.new@example.com", "wrong", identity.Client{Address: "zq81canary"})
	var n, bad int
	if err := w.super.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE a::text ILIKE '%zq81canary%') FROM audit a`).Scan(&n, &bad); err != nil || n < 7 || bad != 0 {
		t.Errorf("%d of %d entries name somebody, %v", bad, n, err)
	}
}
