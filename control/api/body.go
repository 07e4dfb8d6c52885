package api

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"parley/control/ingress"
)

// Types of bodies.
const (
	typeJSON = "application/json"
)

// strictJSON is how large a route's bodies may be for their objects' names to
// be looked over: those that decide who may do what are all smaller.
const strictJSON = 64 << 10

// body holds what a request brings to what its route takes: nothing, or so many
// bytes of one of its types. JSON is looked over before anything decodes it.
func (s *Server) body(route Route, r *http.Request, out *recorder) *Problem {
	switch limit := max(route.Body, 0); {
	case r.ContentLength == 0:
		return nil
	case r.ContentLength > limit && limit == 0:
		return s.blocked(r, out, &ingress.Refusal{Rule: "body-size", Status: 413, Code: "too_large", Detail: "this address takes no body"})
	case r.ContentLength > limit:
		return s.blocked(r, out, &ingress.Refusal{Rule: "body-size", Status: 413, Code: "too_large", Detail: "the body is larger than this address takes"})
	case limit == 0:
		return nil // of no stated length, and read by nobody
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !route.takes(kind) {
		return s.blocked(r, out, &ingress.Refusal{Rule: "body-type", Status: 415, Code: "wrong_type",
			Detail: "send the body as " + strings.Join(route.types(), " or ") + ", and say so in Content-Type"})
	}
	if r.Header.Get("Content-Encoding") != "" {
		return s.blocked(r, out, &ingress.Refusal{Rule: "body-encoding", Status: 415, Code: "wrong_type", Detail: "send the body without Content-Encoding"})
	}
	if route.Verifier != "" || !isJSON(kind) {
		return nil // what is signed is read by who checks it
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return unread(err)
	}
	if no := ingress.CheckJSON(text, route.Body <= strictJSON); no != nil {
		return s.blocked(r, out, no)
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	return nil
}

// types are what the route's body may be.
func (r Route) types() []string {
	if len(r.Types) > 0 {
		return r.Types
	}
	return []string{typeJSON}
}

func (r Route) takes(kind string) bool {
	types := r.types()
	return slices.Contains(types, kind) || isJSON(kind) && slices.Contains(types, typeJSON)
}

func isJSON(kind string) bool {
	return kind == typeJSON || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
}
