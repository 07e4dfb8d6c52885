package signaling

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The program limits bodies too, and its limit may be met first.
func TestBodyOverTheProgramsLimit(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/webrtc/a", strings.NewReader(strings.Repeat("a", 2000)))
	r.Header.Set("Content-Type", "application/sdp")
	r.Body = http.MaxBytesReader(w, r.Body, 1000)
	_, err := readBody(r, "application/sdp")
	var no *refusal
	if !errors.As(err, &no) || no.status != http.StatusRequestEntityTooLarge {
		t.Errorf("readBody of a body over the limit: %v, want status 413", err)
	}
}
