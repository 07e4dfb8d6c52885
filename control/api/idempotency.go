package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"parley/control"
)

// idempotencyHeader names a request, so that it takes effect once however
// often it is sent (draft-ietf-httpapi-idempotency-key-header-07 §2).
const idempotencyHeader = "Idempotency-Key"

// maxIdempotencyKey is the longest name, in bytes.
const maxIdempotencyKey = 255

// safeHeaders of an answer are given again with it. A cookie is not: who was
// signed in by the first answer has it.
var safeHeaders = []string{"Content-Type", "Location", "Etag", "Link"}

// unanswered statuses do not tell what the request came to: it may be made again
// under its name, once the reason is gone.
var unanswered = []int{401, 403, 408, 413, 415, 421, 425, 429}

// nameable reports whether requests to the route may name themselves: all that
// make something for a principal of a tenant.
func (r Route) nameable() bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.Pattern, "/v1/") &&
		(r.Class == Tenanted || r.Class == Admin) && !r.Long
}

// idempotencyKey returns the name of a request, "" if it has none. A string of
// structured fields (RFC 9651 §3.3.3) is its content.
func idempotencyKey(r *http.Request) (string, error) {
	sent := r.Header.Values(idempotencyHeader)
	if len(sent) == 0 {
		return "", nil
	}
	key := sent[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	odd := strings.ContainsFunc(key, func(c rune) bool { return c < 0x21 || c > 0x7e || c == '"' || c == '\\' })
	if len(sent) > 1 || key == "" || len(key) > maxIdempotencyKey || odd {
		return "", newProblem(400, "idempotency_key", "Idempotency-Key takes 1 to 255 printable characters without a space, once; a UUID is good")
	}
	return key, nil
}

// once serves a request of a principal, and if it names itself, no more than
// once in 24 hours: the same request again gets the first one's answer.
func (s *Server) once(route Route, h http.Handler, w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	key, err := idempotencyKey(r)
	if err != nil {
		s.problem(ctx, err).write(w)
		return
	}
	if key == "" || s.o.Idempotency == nil {
		h.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		unread(err).write(w)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	request := r.URL.EscapedPath() + "?" + r.URL.RawQuery + "\n" + r.Header.Get("Content-Type") + "\n" + r.Header.Get("If-Match") + "\n" + string(body)
	attempt, answer, err := s.o.Idempotency.Begin(ctx, route.key(), key, request)
	if err != nil {
		s.problem(ctx, err).write(w)
		return
	}
	if answer != nil {
		again(w, *answer)
		return
	}
	s.attempt(attempt, h, w, r)
}

// attempt makes the request, and keeps what it was answered before it is sent:
// who has an answer and asks again gets the same.
func (s *Server) attempt(a control.NamedRequest, h http.Handler, w http.ResponseWriter, r *http.Request) {
	// A client that goes away must not leave a name that is taken.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTime+5*time.Second)
	defer cancel()
	held := &heldAnswer{header: w.Header().Clone()}
	kept := false
	defer func() { // also when the handler panics
		if kept {
			return
		}
		if err := s.o.Idempotency.Forget(ctx, a); err != nil {
			s.o.Log.WarnContext(ctx, "a request cannot be made again for a while", "request", control.RequestOf(ctx), "error", err)
		}
	}()
	h.ServeHTTP(held, r)
	answer := control.KeptAnswer{Status: held.code(), Header: map[string]string{}, Body: held.body.Bytes()}
	if answer.Status < 500 && !slices.Contains(unanswered, answer.Status) {
		for _, name := range safeHeaders {
			if v := held.header.Get(name); v != "" {
				answer.Header[name] = v
			}
		}
		kept = true // or its claim lapses: what is done must not be forgotten at once
		if err := s.o.Idempotency.Answer(ctx, a, answer); err != nil {
			s.o.Log.WarnContext(ctx, "an answer is not kept", "request", control.RequestOf(ctx), "error", err)
		}
	}
	clear(w.Header())
	maps.Copy(w.Header(), held.header)
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // the client is gone, or it is not
}

// again sends an answer once more.
func again(w http.ResponseWriter, a control.KeptAnswer) {
	if a.Dropped {
		newProblem(409, "done", "this was done already; its answer is too long to be kept: read what it made").write(w)
		return
	}
	for name, v := range a.Header {
		w.Header().Set(name, v)
	}
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
}

// unread says why a body could not be read.
func unread(err error) *Problem {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return newProblem(413, codes[413], "the request is too long")
	}
	return newProblem(400, codes[400], "the request's body cannot be read")
}

// A heldAnswer is an answer that is not sent yet.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *heldAnswer) Header() http.Header { return w.header }

func (w *heldAnswer) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *heldAnswer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *heldAnswer) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
