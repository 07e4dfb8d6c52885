package control_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

// A token is a JWT that any library reads: three parts, signed over the first two.
func TestPartyToken(t *testing.T) {
	key, at := []byte(strings.Repeat("k", 32)), time.Unix(1_700_000_000, 0)
	p := control.Party{Tenant: uuid.New(), Conversation: uuid.New(), Channel: "chat", User: "ada"}
	parts := strings.Split(p.Token(key, at), ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(parts[0] + "." + parts[1]))
	if base64.RawURLEncoding.EncodeToString(m.Sum(nil)) != parts[2] {
		t.Error("the signature is wrong")
	}
	read := func(part string) map[string]any {
		b, err := base64.RawURLEncoding.DecodeString(part)
		var v map[string]any
		if err != nil || json.Unmarshal(b, &v) != nil {
			t.Fatalf("%v in %s", err, b)
		}
		return v
	}
	if h := read(parts[0]); h["alg"] != "HS256" {
		t.Errorf("header %v", h)
	}
	want := map[string]any{"iss": "parley", "aud": "internal", "sub": "ada", "tenant": p.Tenant.String(),
		"session": p.Conversation.String(), "channel": "chat", "iat": 1.7e9, "exp": 1.7e9 + 120}
	if got := read(parts[1]); !maps.Equal(got, want) {
		t.Errorf("claims %v, want %v", got, want)
	}
	p.User = ""
	if _, ok := read(strings.Split(p.Token(key, at), ".")[1])["sub"]; ok {
		t.Error("nobody is somebody")
	}
}

// What a chat's effects are done with says who it is with, whatever the flow
// writes into the user's scope.
func TestChatTellsWhoItIsWith(t *testing.T) {
	w := newTown(t, `{"nodes":[
		{"id":"set","type":"action","content":{"actions":[{"type":"set_variable","variable":"user.id","value":"somebody else"}]},"connections":{"success":"call"}},
		{"id":"call","type":"webhook","content":{"url":"/who"},"connections":{"success":"end","error":"end"}},
		{"id":"end","type":"message","content":{"text":"Bye {user.id}."}}]}`)
	var got control.Party
	w.call = func(ctx context.Context, _ flow.Call) { got, _ = control.PartyOf(ctx) }
	ctx := control.WithPrincipal(w.ctx, control.Principal{Kind: control.PrincipalKey, Tenant: tenantOf(t, w.ctx)})
	r, _, err := w.process().Start(ctx, control.Beginning{Flow: w.flow.String(), User: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	want := control.Party{Tenant: tenantOf(t, w.ctx), Conversation: r.ID, Flow: w.flow, Channel: control.ChannelChat, User: "ada"}
	if got != want {
		t.Errorf("told %+v, want %+v", got, want)
	}
}

func tenantOf(t *testing.T, ctx context.Context) uuid.UUID {
	t.Helper()
	tenant, ok := control.TenantOf(ctx)
	if !ok {
		t.Fatal("no tenant")
	}
	return tenant
}
