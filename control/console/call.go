// Package console holds the pages that people open in a browser, embedded in
// the program. It needs no build step and asks nothing of other hosts.
package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
)

var (
	// ErrNoAgent says that no such agent exists, or that it takes no calls
	// from browsers. The page answers 404 to both alike.
	ErrNoAgent = errors.New("console: no such agent")
	// ErrSignIn says that the agent is not public and the request carries no
	// valid sign-in. The page then shows its sign-in form.
	ErrSignIn = errors.New("console: sign-in needed")
	// ErrTooMany says that this address or tenant opens too many calls.
	ErrTooMany = errors.New("console: too many calls")
)

// A Page is what the call page shows of an agent.
type Page struct {
	Agent  string // id, as the page sends it to /webrtc/{agent}; required
	Name   string // shown to callers; empty: "Agent"
	Owner  string // the company's name; empty: not shown
	Intro  string // one sentence under the name; empty: a plain invitation
	Public bool   // calls need no sign-in
}

// A Token lets a page open one call.
type Token struct {
	Token      string      `json:"token"`
	ICEServers []ICEServer `json:"ice_servers"`
}

// An ICEServer is an RTCIceServer (W3C WebRTC §4.2.4).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// A CallPage serves the page on which people talk to an agent. Both functions
// are required and may be called from many goroutines.
type CallPage struct {
	// Lookup returns what to show for the agent in the address, or [ErrNoAgent].
	Lookup func(ctx context.Context, agent string) (Page, error)
	// MintToken returns a call token for the agent. The request comes from our
	// own page (other origins are refused before). Errors: [ErrNoAgent],
	// [ErrSignIn], [ErrTooMany]; any other is logged and shown as a fault.
	MintToken func(r *http.Request, agent string) (Token, error)
	// Log receives faults. Nil: slog.Default.
	Log *slog.Logger
}

// Handler returns the routes:
//
//	GET  /call/{agent}                    the page
//	POST /call/{agent}/token              a [Token]
//	GET  /call/assets/{version}/{file}    its style and scripts
//
// It fails only if the embedded files are broken.
func (c CallPage) Handler() (http.Handler, error) {
	files, err := loadAssets()
	if err != nil {
		return nil, err
	}
	tmpl, err := template.ParseFS(embedded, "call.html", "notice.html")
	if err != nil {
		return nil, fmt.Errorf("parse call page: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &callServer{CallPage: c, assets: files, tmpl: tmpl, origin: http.NewCrossOriginProtection()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /call/{agent}", s.page)
	mux.HandleFunc("POST /call/{agent}/token", s.token)
	mux.Handle("GET /call/assets/{version}/{file}", files)
	return secure(mux), nil
}

type callServer struct {
	CallPage
	assets *assets
	tmpl   *template.Template
	origin *http.CrossOriginProtection
}

// pageData is what the templates see. They put it into text and attributes
// only; there is no inline script or style.
type pageData struct {
	Page
	Base    string // folder of the assets, with version
	Heading string
	Text    string
}

func (s *callServer) page(w http.ResponseWriter, r *http.Request) {
	page, err := s.Lookup(r.Context(), r.PathValue("agent"))
	switch {
	case errors.Is(err, ErrNoAgent):
		s.notice(w, http.StatusNotFound, "Nobody answers here",
			"There is no agent at this address. Check the link, or ask whoever sent it to you for a new one.")
		return
	case err != nil:
		s.Log.ErrorContext(r.Context(), "call page", "err", err)
		s.notice(w, http.StatusInternalServerError, "Something went wrong on our side",
			"Please load the page again in a moment.")
		return
	}
	if page.Name == "" {
		page.Name = "Agent"
	}
	if page.Intro == "" {
		page.Intro = "Press Call and speak as you would on the phone. You may interrupt at any time."
	}
	s.render(w, http.StatusOK, "call.html", pageData{Page: page})
}

func (s *callServer) notice(w http.ResponseWriter, status int, heading, text string) {
	s.render(w, status, "notice.html", pageData{Heading: heading, Text: text})
}

func (s *callServer) render(w http.ResponseWriter, status int, name string, data pageData) {
	data.Base = s.assets.base
	var page bytes.Buffer
	if err := s.tmpl.ExecuteTemplate(&page, name, data); err != nil {
		s.Log.Error("render call page", "template", name, "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the reader may be gone
}

func (s *callServer) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := s.origin.Check(r); err != nil {
		problem(w, http.StatusForbidden, "cross_origin", "Calls start from our own page only.")
		return
	}
	token, err := s.MintToken(r, r.PathValue("agent"))
	switch {
	case errors.Is(err, ErrNoAgent):
		problem(w, http.StatusNotFound, "agent_not_found", "There is no such agent.")
	case errors.Is(err, ErrSignIn):
		problem(w, http.StatusUnauthorized, "sign_in_required", "Sign in to call this agent.")
	case errors.Is(err, ErrTooMany):
		w.Header().Set("Retry-After", "60")
		problem(w, http.StatusTooManyRequests, "too_many_calls", "Too many calls from here. Try again in a minute.")
	case err != nil:
		s.Log.ErrorContext(r.Context(), "mint call token", "err", err)
		problem(w, http.StatusInternalServerError, "internal", "Internal error.")
	default:
		if token.ICEServers == nil {
			token.ICEServers = []ICEServer{}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(token) // the reader may be gone
	}
}

// problem answers with application/problem+json (RFC 9457).
func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"title": http.StatusText(status), "status": status, "code": code, "detail": detail,
	})
}
