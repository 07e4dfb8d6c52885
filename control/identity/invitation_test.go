package identity_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

func TestInvitation(t *testing.T) {
	w := newWorld(t)
	tenant, boss := w.tenant("acme")
	ctx := as(t.Context(), tenant, boss, control.RoleOwner)
	i, err := w.invitations.Create(ctx, "New@Example.com", control.RoleEditor)
	if err != nil || i.Email != "new@example.com" || i.InvitedBy != boss {
		t.Fatalf("%+v, %v", i, err)
	}
	_, err = w.invitations.Create(ctx, "new@example.com", control.RoleEditor)
	wantErr(t, "invited again", err, control.ErrConflict)
	_, err = w.invitations.Create(ctx, "acme@example.com", control.RoleEditor)
	wantInvalid(t, "a member is invited", err)
	for _, bad := range []string{"", "nobody", "a@b@c", "A B <a@b.example>", "a@b.example, c@d.example"} {
		_, err = w.invitations.Create(ctx, bad, control.RoleEditor)
		wantInvalid(t, bad, err)
	}
	accept := func(token string) error {
		_, err := w.invitations.Accept(t.Context(), token, password, "New", identity.Client{Address: uuid.NewString()})
		return err
	}
	again, err := w.invitations.Resend(ctx, i.ID)
	if err != nil {
		t.Fatal(err)
	}
	unknown := accept("parley_invite_" + strings.Repeat("A", 43))
	wantInvalid(t, "an unknown token", unknown)
	same := func(what string, err error) {
		t.Helper()
		if err == nil || err.Error() != unknown.Error() {
			t.Errorf("%s: %v, want %v", what, err, unknown)
		}
	}
	same("malformed", accept("x"))
	same("of another kind", accept(strings.Replace(again.Link.Token, "invite", "reset", 1)))
	same("rotated", accept(i.Link.Token))
	w.exec(`UPDATE invitations SET expires_at = now()`)
	same("expired", accept(again.Link.Token))
	w.exec(`UPDATE invitations SET expires_at = now() + interval '1 hour'`)
	_, err = w.invitations.Accept(t.Context(), again.Link.Token, "short", "", identity.Client{})
	wantInvalid(t, "a bad password", err)
	if err := accept(again.Link.Token); err != nil {
		t.Fatal(err)
	}
	same("used", accept(again.Link.Token))
	if o := w.mustLogin("new@example.com"); o.Principal.Role != control.RoleEditor || o.Principal.Platform {
		t.Errorf("joined as %+v", o.Principal)
	}
	gone, err := w.invitations.Create(ctx, "gone@example.com", control.RoleEditor)
	if err == nil {
		err = w.invitations.Revoke(ctx, gone.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	same("revoked", accept(gone.Link.Token))
	_, err = w.invitations.Resend(ctx, gone.ID)
	wantErr(t, "a revoked one is sent again", err, control.ErrNotFound)
	var dump string
	if err := w.super.QueryRow(t.Context(), `SELECT string_agg(i::text, ' ') FROM invitations i`).Scan(&dump); err != nil || strings.Contains(dump, "parley_") {
		t.Errorf("a token stands in the database: %v", err)
	}
	for action, n := range map[string]int{"invitation.create": 2, "invitation.resend": 1, "invitation.accept": 1, "invitation.revoke": 1, "member.add": 2} {
		if got := w.audited(tenant, action); got < n {
			t.Errorf("%d of %s in the trail, want %d", got, action, n)
		}
	}
}

// Who has an account already proves it, and keeps the password.
func TestInvitationOfSomebodyKnown(t *testing.T) {
	w := newWorld(t)
	one, boss := w.tenant("one")
	w.tenant("two")
	i, err := w.invitations.Create(as(t.Context(), one, boss, control.RoleOwner), "two@example.com", control.RoleViewer)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.invitations.Accept(t.Context(), i.Link.Token, "seven amber gulls wade", "Thief", identity.Client{Address: "a"})
	wantErr(t, "without the password", err, control.ErrCredentials)
	m, err := w.invitations.Accept(t.Context(), i.Link.Token, password, "Other Name", identity.Client{Address: "b"})
	if err != nil || m.Tenant.ID != one {
		t.Fatalf("%+v, %v", m, err)
	}
	if o := w.mustLogin("two@example.com"); o.Principal.Role != control.RoleOwner {
		t.Errorf("the first tenant is not theirs: %+v", o.Principal)
	}
	all, err := w.store.Memberships(t.Context(), w.mustLogin("two@example.com").Principal.User)
	if err != nil || len(all) != 2 || all[1].Tenant.Name != "one" || all[1].Role != control.RoleViewer {
		t.Errorf("memberships %+v, %v", all, err)
	}
}

func TestCreateTenant(t *testing.T) {
	w := newWorld(t)
	made, i, err := w.tenants.Create(t.Context(), " Acme ", "boss@example.com", true)
	if err != nil || made.Name != "Acme" {
		t.Fatalf("%+v, %v", made, err)
	}
	if _, err := w.invitations.Accept(t.Context(), i.Link.Token, password, "Boss", identity.Client{}); err != nil {
		t.Fatal(err)
	}
	if o := w.mustLogin("boss@example.com"); o.Principal.Tenant != made.ID || o.Principal.Role != control.RoleOwner || !o.Principal.Platform {
		t.Errorf("signed in as %+v", o.Principal)
	}
	w.tenant("other")
	if list, err := w.store.Tenants(t.Context(), control.Page{Limit: 10}); err != nil || len(list) != 2 || list[1].ID != made.ID {
		t.Errorf("tenants %+v, %v", list, err)
	}
	for _, bad := range [][2]string{{"", "a@b.example"}, {strings.Repeat("x", 201), "a@b.example"}, {"x", "nobody"}} {
		_, _, err := w.tenants.Create(t.Context(), bad[0], bad[1], false)
		wantInvalid(t, bad[1], err)
	}
}

func TestResetPassword(t *testing.T) {
	w := newWorld(t)
	tenant, boss := w.tenant("acme")
	p := w.person(tenant, "p@example.com", control.RoleEditor)
	o := w.mustLogin("p@example.com")
	ctx := as(t.Context(), tenant, boss, control.RoleOwner)
	old, err := w.members.ResetLink(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	link, err := w.members.ResetLink(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	const better = "seven amber gulls wade"
	unknown := w.members.ResetPassword(t.Context(), "parley_reset_"+strings.Repeat("A", 43), better)
	wantInvalid(t, "an unknown token", unknown)
	same := func(what string, err error) {
		t.Helper()
		if err == nil || err.Error() != unknown.Error() {
			t.Errorf("%s: %v, want %v", what, err, unknown)
		}
	}
	same("replaced", w.members.ResetPassword(t.Context(), old.Token, better))
	w.exec(`UPDATE password_resets SET expires_at = now()`)
	same("expired", w.members.ResetPassword(t.Context(), link.Token, better))
	if link, err = w.members.ResetLink(ctx, p); err != nil {
		t.Fatal(err)
	}
	wantInvalid(t, "a bad password", w.members.ResetPassword(t.Context(), link.Token, "short"))
	w.exec(`UPDATE users SET strikes = 9, locked_until = now() + interval '1 hour' WHERE id = $1`, p)
	if err := w.members.ResetPassword(t.Context(), link.Token, better); err != nil {
		t.Fatal(err)
	}
	same("used", w.members.ResetPassword(t.Context(), link.Token, better))
	_, err = w.users.Verify(t.Context(), o.Cookie)
	wantErr(t, "a session from before", err, control.ErrCredentials)
	if _, err := w.login("p@example.com", better, identity.Client{}); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	if w.audited(tenant, "password.link") != 4 || w.audited(tenant, "password.change") != 1 {
		t.Error("it is not in the trail")
	}
}

// A tenant's administrator could else come into another tenant, or over all of
// them.
func TestResetReachesNoOtherTenant(t *testing.T) {
	w := newWorld(t)
	one, boss := w.tenant("one")
	two, _ := w.tenant("two")
	p := w.person(one, "p@example.com", control.RoleEditor)
	ctx := as(t.Context(), one, boss, control.RoleOwner)
	link, err := w.members.ResetLink(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	w.join(two, p, control.RoleOwner)
	wantInvalid(t, "a link from before", w.members.ResetPassword(t.Context(), link.Token, "seven amber gulls wade"))
	_, err = w.members.ResetLink(ctx, p)
	wantInvalid(t, "a member of two", err)
	_, err = w.members.ResetLink(ctx, boss)
	wantInvalid(t, "oneself", err)
	chief := w.person(one, "chief@example.com", control.RoleViewer)
	w.exec(`UPDATE users SET platform = true WHERE id = $1`, chief)
	_, err = w.members.ResetLink(ctx, chief)
	wantErr(t, "a platform administrator", err, control.ErrForbidden)
	_, err = w.members.ResetLink(ctx, control.NewID())
	wantErr(t, "nobody", err, control.ErrNotFound)
}
