// Package library is a small service of the kind that flows call: a school's
// library that knows books and readers. The book bot asks it for
// recommendations, for the reading level of a quiz, and for a reader's profile.
//
// It shows what such a service should do with what a conversation sends: check
// who the conversation is with before it tells anything, check every value
// before it uses it, and answer with little.
package library

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// A Library answers the three routes of the book bot. Its books and readers are
// made up, and come with the program.
type Library struct {
	key     []byte
	now     func() time.Time
	books   []Book
	readers map[string]Profile
}

//go:embed books.json
var booksJSON []byte

//go:embed readers.json
var readersJSON []byte

// New returns a library that believes tokens signed with key, which it shares
// with the gateway. now is the clock; nil is the real one.
func New(key []byte, now func() time.Time) (*Library, error) {
	if len(key) < 32 {
		return nil, errors.New("the key must have at least 32 bytes")
	}
	if now == nil {
		now = time.Now
	}
	l := &Library{key: key, now: now, readers: map[string]Profile{}}
	if err := json.Unmarshal(booksJSON, &l.books); err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	var readers []Profile
	if err := json.Unmarshal(readersJSON, &readers); err != nil {
		return nil, fmt.Errorf("read the readers: %w", err)
	}
	for _, r := range readers {
		l.readers[r.UserID] = r
	}
	return l, nil
}

// Handler returns the routes. Each wants a token of the gateway's
// ("Authorization: Bearer"), and answers JSON; errors are
// application/problem+json (RFC 9457).
func (l *Library) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /chatbot/recommendations", l.known(l.recommendations))
	mux.Handle("POST /chatbot/assessment/reading-level", l.known(l.assessment))
	mux.Handle("GET /chatbot/users/{id}/profile", l.known(l.profile))
	return mux
}

// A handler answers a caller who is known, with a value for the body or an error.
type handler func(who caller, r *http.Request) (any, error)

// maxBody of a request, in bytes.
const maxBody = 64 << 10

func (l *Library) known(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := l.authenticate(r)
		var answer any
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			answer, err = h(who, r)
		}
		if err != nil {
			writeProblem(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // nobody is left to tell
	})
}

// A problem is an error with an answer of its own.
type problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Title  string `json:"title"`
	// Field is the value at fault, such as "assessment_data.age".
	Field string `json:"field,omitempty"`
}

func (p *problem) Error() string { return p.Title }

func invalid(field, format string, args ...any) error {
	return &problem{http.StatusUnprocessableEntity, "invalid", fmt.Sprintf(format, args...), field}
}

var errNotFound = &problem{http.StatusNotFound, "not_found", "there is nothing of that kind for you", ""}

func writeProblem(w http.ResponseWriter, err error) {
	p := &problem{http.StatusInternalServerError, "internal", "internal error", ""}
	errors.As(err, &p)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // nobody is left to tell
}

// read takes a JSON body into v, which must be all of it.
func read(r *http.Request, v any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return &problem{http.StatusUnsupportedMediaType, "media_type", "the body must be application/json", ""}
	}
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &problem{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body must be at most %d bytes", maxBody), ""}
	}
	var mistyped *json.UnmarshalTypeError
	switch err := json.Unmarshal(body, v); {
	case errors.As(err, &mistyped):
		return invalid(mistyped.Field, "must not be a %s", mistyped.Value)
	case err != nil:
		return &problem{http.StatusBadRequest, "json", "the body is not JSON", ""}
	}
	return nil
}

// own refuses a body that speaks for somebody else. Empty speaks for nobody.
func own(who caller, user string) error {
	if user != "" && user != who.user {
		return &problem{http.StatusForbidden, "forbidden", "that is another reader's", "user_id"}
	}
	return nil
}

// words checks a list of short texts.
func words(field string, list []string, most, longest int) error {
	if len(list) > most {
		return invalid(field, "must have at most %d entries", most)
	}
	for i, s := range list {
		if s == "" || len(s) > longest || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
			return invalid(fmt.Sprintf("%s.%d", field, i), "must be a text of 1 to %d bytes", longest)
		}
	}
	return nil
}

// checkAge checks a reader's age, where it is known.
func checkAge(field string, age *int) error {
	if age != nil && (*age < 2 || *age > 120) {
		return invalid(field, "must be 2 to 120")
	}
	return nil
}
