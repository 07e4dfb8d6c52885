package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"parley/control"
	"parley/control/identity"
	"parley/control/seal"
)

// A Problem is an error's answer (RFC 9457). It never repeats a value that was
// sent.
type Problem struct {
	Type   string         `json:"type" doc:"Always about:blank; code tells more."`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Code   string         `json:"code" doc:"Stable word for programs."`
	Detail string         `json:"detail,omitempty" doc:"For people."`
	Errors []ProblemField `json:"errors,omitempty"`
	Call   *callJSON      `json:"call,omitempty" doc:"With 409 to a command for a call: the call as it stands now."`

	retry time.Duration // when to come again; 0: not said
}

// A ProblemField is one thing that is wrong with what was sent.
type ProblemField struct {
	Location string `json:"location"`
	Message  string `json:"message"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Code }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	if p.Status == http.StatusUnauthorized { // RFC 9110 §11.6.1
		return http.Header{"Www-Authenticate": {"Bearer"}}
	}
	if p.retry <= 0 {
		return nil
	}
	return http.Header{"Retry-After": {strconv.Itoa(int((p.retry + time.Second - 1) / time.Second))}}
}

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// tooMany refuses what is over a limit for so long.
func tooMany(wait time.Duration) *Problem {
	p := newProblem(429, "too_many", "too many requests; wait a while")
	p.retry = max(wait, time.Second)
	return p
}

// problem turns the domain's errors into answers. What it does not know is a
// fault: "internal" outside, the detail in the log.
func (s *Server) problem(ctx context.Context, err error) *Problem {
	var field *control.Invalid
	var known *Problem
	var throttled *identity.Throttled
	switch {
	case errors.As(err, &known):
		return known
	case factorProblem(err) != nil:
		return factorProblem(err)
	case errors.As(err, &field):
		p := newProblem(422, "invalid", "a field is not as it should be")
		p.Errors = []ProblemField{{field.Field, field.Reason}}
		return p
	case errors.Is(err, control.ErrNotFound):
		return newProblem(404, "not_found", "there is no such thing here")
	case errors.Is(err, control.ErrEnded):
		return newProblem(409, "ended", "it has ended")
	case errors.Is(err, control.ErrQuarantined):
		return newProblem(409, "quarantined", "what was stored was altered; nothing goes on with it")
	case errors.Is(err, control.ErrOtherRequest):
		return newProblem(422, "idempotency_mismatch", "this Idempotency-Key was used for another request; send a new key")
	case errors.Is(err, control.ErrInProgress):
		p := newProblem(409, "in_progress", "the same request is in progress; ask again shortly")
		p.retry = time.Second
		return p
	case errors.Is(err, control.ErrErased):
		return newProblem(410, "erased", "its key was destroyed: nobody can read it any more")
	case errors.Is(err, seal.ErrDamaged):
		s.o.Log.ErrorContext(ctx, "what is sealed was altered, or its key is another's", "request", control.RequestOf(ctx), "error", err)
		return newProblem(500, "damaged", "what was stored was altered; it cannot be read")
	case errors.Is(err, control.ErrNotWaiting):
		return newProblem(409, "not_waiting", "it does not wait for an answer now; read it again")
	case errors.Is(err, control.ErrConflict):
		return newProblem(409, "conflict", told(err, "it is taken, or changed meanwhile: read it again"))
	case errors.Is(err, control.ErrCredentials):
		return newProblem(401, "unauthenticated", told(err, "sign in, or send a valid key"))
	case errors.Is(err, control.ErrForbidden):
		return newProblem(403, "forbidden", told(err, "this needs a permission that you do not have"))
	case errors.Is(err, control.ErrSuspended):
		return newProblem(403, "suspended", "this organisation is suspended here; ask whoever runs the service")
	case errors.As(err, &throttled):
		return tooMany(throttled.Wait)
	case errors.Is(err, control.ErrBusy):
		return newProblem(503, "busy", "no capacity left; try again shortly")
	case errors.Is(err, control.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		s.metrics.StorageAway()
		s.o.Log.ErrorContext(ctx, "storage is away", "request", control.RequestOf(ctx), "error", err)
		return newProblem(503, "unavailable", "try again shortly")
	}
	s.o.Log.ErrorContext(ctx, "fault", "request", control.RequestOf(ctx), "error", err)
	return newProblem(500, "internal", "internal error")
}

// told is the reason of a refusal, or else what is said of its kind.
func told(err error, otherwise string) string {
	var r *control.Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return otherwise
}

// write sends p outside of a typed handler.
func (p *Problem) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.GetHeaders())
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone, or it is not
}

// quiet rewrites the framework's own errors: the same form as ours, and
// without the values that were sent.
func (s *Server) quiet(c huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(m.Status, codes[m.Status], "")
	if p.Code == "" {
		p.Code = "error_" + strconv.Itoa(m.Status)
	}
	if m.Status >= 500 {
		return p, nil
	}
	p.Detail = "the request is not as it should be"
	for _, e := range m.Errors {
		// Messages of the JSON parser quote what they choke on.
		if e.Location == "body" && !strings.HasPrefix(e.Message, "expected ") {
			e.Message = "is not valid JSON"
		}
		// So would the name of a field that does not exist.
		if i := strings.LastIndexByte(e.Location, '.'); i > 0 && e.Message == "unexpected property" {
			e.Location, e.Message = e.Location[:i], "has a property that is not known"
		}
		p.Errors = append(p.Errors, ProblemField{s.named(c, e.Location), e.Message})
	}
	return p, nil
}

var codes = map[int]string{
	400: "malformed", 404: "not_found", 406: "not_acceptable", 408: "too_slow", 413: "too_large",
	415: "wrong_type", 422: "invalid", 500: "internal",
}

// problems documents the one form of errors.
func (s *Server) problems() map[string]*huma.Response {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	return map[string]*huma.Response{"default": {
		Description: "Error",
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
	}}
}

// tag groups routes by their noun.
func tag(pattern string) string {
	parts := strings.Split(strings.TrimPrefix(pattern, "/v1/"), "/")
	return strings.Trim(parts[0], "/")
}
