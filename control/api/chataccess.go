package api

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"parley/control"
)

// ChatPath names a chat in a route, with all that may open it; exported for
// huma, which fills it.
type ChatPath struct {
	Token string `path:"token" doc:"The session token; the session's id where cookie or Bearer is sent."`

	Authorization string `header:"Authorization" doc:"Bearer: the session token, or an API key with the scope chat."`
	CSRF          string `header:"X-CSRF-Token" doc:"The cookie csrf_token, for changes without Bearer."`
	CSRFCookie    string `cookie:"csrf_token"`
	Cookie        string `cookie:"chat_session"`

	asked http.Request // what the check of the origin reads
}

// Resolve implements [huma.Resolver].
func (p *ChatPath) Resolve(ctx huma.Context) []error {
	p.asked = http.Request{Method: ctx.Method(), Host: ctx.Host(), Header: http.Header{}}
	for _, name := range []string{"Origin", "Sec-Fetch-Site"} {
		if v := ctx.Header(name); v != "" {
			p.asked.Header.Set(name, v)
		}
	}
	return nil
}

var _ huma.Resolver = (*ChatPath)(nil)

// chatPrincipal is a key's owner, or nobody: people who are signed in to the
// console have no say in chats by that.
func chatPrincipal(ctx context.Context) (context.Context, error) {
	p := control.PrincipalOf(ctx)
	if p.Kind != control.PrincipalKey {
		return control.WithPrincipal(ctx, control.Principal{}), nil
	}
	return ctx, control.Allow(p, control.Chat, control.Object{})
}

// perChat is how often one chat may be asked anything, by whoever.
var perChat = Limit{600, time.Minute}

// openChat finds the chat of a request and checks that the request may come to
// it: by Bearer, a key's or the chat's own, or else by the token in the path or
// cookie, with the double-submit token for a change. Whatever does not open the
// chat is the same ErrNotFound.
func (s *Server) openChat(ctx context.Context, in ChatPath, change bool) (context.Context, control.Conversation, error) {
	ctx, c, err := s.findChat(ctx, in, change)
	if err == nil {
		s.admitOrigin(ctx, c.Flow)
		if ok, wait := s.allowed(ctx, "chat "+c.ID.String(), perChat, 1); !ok {
			err = tooMany(wait)
		}
	}
	return ctx, c, err
}

func (s *Server) findChat(ctx context.Context, in ChatPath, change bool) (context.Context, control.Conversation, error) {
	ctx, err := chatPrincipal(ctx)
	if err != nil {
		return ctx, control.Conversation{}, err
	}
	if control.PrincipalOf(ctx).Kind == control.PrincipalKey {
		if id, err := uuid.Parse(in.Token); err == nil {
			return s.o.Chats.OpenID(ctx, id)
		}
		return s.o.Chats.Open(ctx, in.Token)
	}
	token, bearer := strings.CutPrefix(in.Authorization, "Bearer ")
	if !bearer {
		if token = in.Token; isUUID(in.Token) {
			token = in.Cookie
		}
	}
	if len(token) > 100 || token == "" {
		return ctx, control.Conversation{}, control.ErrNotFound
	}
	ctx, c, err := s.o.Chats.Open(ctx, token)
	if err == nil && in.Token != c.ID.String() && !same(in.Token, token) {
		err = control.ErrNotFound
	}
	if err == nil && change && !bearer {
		err = s.checkCSRF(c.ID, in)
	}
	return ctx, c, err
}

func isUUID(s string) bool { _, err := uuid.Parse(s); return err == nil }

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// checkCSRF wants the double-submit token: the header repeats the cookie, it
// was made for this chat, and the request comes from a page of ours.
func (s *Server) checkCSRF(chat uuid.UUID, in ChatPath) error {
	if in.CSRF == "" || !same(in.CSRF, in.CSRFCookie) || !s.o.Chats.CheckCSRF(chat, in.CSRF) {
		return newProblem(403, "csrf", "send the cookie csrf_token in the header X-CSRF-Token too")
	}
	if err := s.csrf.Check(&in.asked); err != nil {
		return newProblem(403, "cross_origin", "the request comes from another page")
	}
	return nil
}
