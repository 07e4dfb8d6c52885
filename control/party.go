package control

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// A Party is whom a conversation is with: all that the tenant's own services
// may rely on when its flow calls them. Nothing of it can be written by the
// flow, or by the person it talks to.
type Party struct {
	Tenant       uuid.UUID
	Conversation uuid.UUID
	Flow         uuid.UUID
	Channel      string
	// User is who it is, as the owner of a key said at the start; empty: nobody
	// has vouched for anybody.
	User string
}

type partyKey struct{}

// WithParty returns ctx for work of a conversation with p.
func WithParty(ctx context.Context, p Party) context.Context {
	return context.WithValue(ctx, partyKey{}, p)
}

// PartyOf returns whom the conversation of ctx is with; false outside of one.
func PartyOf(ctx context.Context) (Party, bool) {
	p, ok := ctx.Value(partyKey{}).(Party)
	return p, ok
}

// partyTokenLife bounds how long a token that leaks is good for: longer than a
// call's tries may take, shorter than somebody needs to make use of it.
const partyTokenLife = 2 * time.Minute

// Token says who p is to the tenant's services: a JWT (RFC 7519) signed with
// key by HMAC-SHA-256, good for two minutes. Claims: iss "parley", aud
// "internal", iat, exp, tenant, session, channel, and sub, the user, which is
// missing where nobody is known.
func (p Party) Token(key []byte, at time.Time) string {
	claims, _ := json.Marshal(struct { // of plain fields: cannot fail
		Issuer   string    `json:"iss"`
		Audience string    `json:"aud"`
		User     string    `json:"sub,omitempty"`
		Tenant   uuid.UUID `json:"tenant"`
		Session  uuid.UUID `json:"session"`
		Channel  string    `json:"channel"`
		IssuedAt int64     `json:"iat"`
		Expires  int64     `json:"exp"`
	}{"parley", "internal", p.User, p.Tenant, p.Conversation, p.Channel, at.Unix(), at.Add(partyTokenLife).Unix()})
	const header = `{"alg":"HS256","typ":"JWT"}`
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// party is whom c, of a tenant, is with.
func (c Conversation) party(tenant uuid.UUID) Party {
	return Party{Tenant: tenant, Conversation: c.ID, Flow: c.Flow, Channel: c.Channel, User: c.User}
}

// Party is whom the call's conversation is with. A caller's number vouches for
// nobody: it can be made up.
func (v *Serving) Party() Party {
	return Party{Tenant: v.Call.Tenant, Conversation: v.Call.ID, Flow: v.Agent.Settings.FlowID, Channel: ChannelVoice}
}
