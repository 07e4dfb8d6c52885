package api_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A line notes the deadlines that are set for reading it.
type line struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (l *line) SetReadDeadline(at time.Time) error {
	l.set = append(l.set, at)
	return nil
}

// A body that was read leaves no deadline behind: it would pass while a handler is
// at work, and net/http would take that for a client who is gone, for this request
// and for all that come by the same connection.
func TestBodyLeavesNoDeadline(t *testing.T) {
	p := newPlane(t)
	w := &line{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest("POST", "/v1/keys", strings.NewReader(`{"name":"k","scopes":["calls.read"]}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+p.ensure("a@b.c", false).APIKey)
	p.Handler().ServeHTTP(w, r)
	if w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, at := range w.set {
		if !at.IsZero() {
			t.Errorf("reading must end by %v, %v from now", at, time.Until(at))
		}
	}
}
