// Package providertest holds stand-ins for the vendors of speech and language,
// and the conformance suites that every adapter passes.
//
// A stand-in is a server on the loopback interface that speaks a vendor's
// protocol by a script, and can be made to misbehave. It is for tests, for
// demonstrations without keys, and for checking an installation.
package providertest

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"sync"
	"time"

	"parley/agent"
)

// A Manner is how a stand-in behaves.
type Manner string

// Manners.
const (
	Normal  Manner = ""
	Slow    Manner = "slow"    // answers, after Script.Delay
	Silent  Manner = "silent"  // takes the request and never answers
	Rude    Manner = "rude"    // cuts the connection in the middle of an answer
	Garbage Manner = "garbage" // answers what is not its protocol
	Wrong   Manner = "wrong"   // answers JSON with wrong types
	Deaf    Manner = "deaf"    // a recognizer that takes all audio and says nothing
	Refuses Manner = "refuses" // 401, and echoes the key in the body and headers
	Busy    Manner = "busy"    // 429 with Retry-After: 7
	Broken  Manner = "broken"  // 500
)

// Manners lists the ill ones that every vendor can have, for tables of tests.
func Manners() []Manner {
	return []Manner{Silent, Rude, Garbage, Wrong, Refuses, Busy, Broken}
}

// Want returns the Err value that a manner must come out as; nil for those
// that are no fault, context errors aside.
func (m Manner) Want() []error {
	switch m {
	case Silent:
		return []error{agent.ErrUnavailable}
	case Rude:
		return []error{agent.ErrUnavailable, agent.ErrProtocol}
	case Garbage, Wrong:
		return []error{agent.ErrProtocol}
	case Refuses:
		return []error{agent.ErrCredentials}
	case Busy:
		return []error{agent.ErrBusy}
	case Broken:
		return []error{agent.ErrUnavailable}
	}
	return nil
}

// Canary is the key that the suites dial with. No error may hold it.
const Canary = "sk-canary-4f9d1c77b2e84a6d"

// Key is a credential that gives [Canary].
func Key(context.Context) (string, error) { return Canary, nil }

// A Request is what a stand-in was asked, its credential left out.
type Request struct {
	Path   string
	Body   []byte            // JSON, if the request was
	Fields map[string]string // of a form
	File   []byte            // of a form
}

// Tone returns a plain tone that lasts about as long as the text would, for
// tests that need speech but not its words.
func Tone(text string, rate int) []int16 {
	length := time.Duration(len(text)) * 60 * time.Millisecond
	pcm := make([]int16, int64(length)*int64(rate)/int64(time.Second))
	for i := range pcm {
		pcm[i] = int16(6000 * math.Sin(2*math.Pi*220*float64(i)/float64(rate)))
	}
	return pcm
}

// manners holds what a stand-in can be told while it runs.
type manners struct {
	mu       sync.Mutex
	manner   Manner
	requests []Request
	answers  [][]byte      // JSON, as sent
	gone     chan struct{} // closed when the server closes
}

// Behave changes the stand-in's manner from the next request on.
func (m *manners) Behave(manner Manner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.manner = manner
}

// Requests returns what was asked so far, in order.
func (m *manners) Requests() []Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Request(nil), m.requests...)
}

// Answers returns the JSON messages that the stand-in has sent, in order, save
// those that are ill on purpose.
func (m *manners) Answers() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([][]byte(nil), m.answers...)
}

// answered notes a message that is sent as the vendor would.
func (m *manners) answered(message object) []byte {
	b, err := json.Marshal(message)
	if err != nil { // of strings, numbers and lists: there is none
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers = append(m.answers, b)
	return b
}

func (m *manners) note(r Request) (Manner, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, old := range m.requests {
		if old.Path == r.Path {
			n++
		}
	}
	m.requests = append(m.requests, r)
	return m.manner, n
}

// refuse answers the manners that are an HTTP status.
func (s *manners) refuse(w http.ResponseWriter, r *http.Request, m Manner) bool {
	key := r.Header.Get("Authorization")
	w.Header().Set("dg-request-id", "0f5a8c1e-64f1-4d3c-9c0e-1b7a54f0a001")
	var status int
	var code any
	var kind string
	switch m {
	case Refuses:
		w.Header().Set("dg-error", "Invalid credentials: "+key)
		status, kind, code = http.StatusUnauthorized, "invalid_request_error", "invalid_api_key"
	case Busy:
		w.Header().Set("Retry-After", "7")
		status, kind, code = http.StatusTooManyRequests, "requests", "rate_limit_exceeded"
	case Broken:
		status, kind = http.StatusInternalServerError, "server_error"
	default:
		return false
	}
	body := s.answered(object{"error": object{"message": "No, " + key, "type": kind, "param": nil, "code": code}})
	http.Error(w, string(body), status)
	return true
}

// stall waits until the client or the server is gone.
func (m *manners) stall(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-m.gone:
	}
}

// cut breaks the connection without a word.
func cut(http.ResponseWriter) { panic(http.ErrAbortHandler) }
