package agent

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A RefusedError is a vendor's refusal by an HTTP status. It wraps one of the
// Err values and never holds the vendor's own words, which may echo a key.
type RefusedError struct {
	Status     int
	Code       string        // the vendor's short word for it, "" if none
	RetryAfter time.Duration // 0 if the vendor does not say (RFC 9110 §10.2.3)
	Err        error         // ErrBusy, ErrCredentials, ErrUnavailable or ErrProtocol
}

// Refused returns the error for a status other than 2xx. code is kept only if
// it is a plain word.
func Refused(status int, h http.Header, code string) *RefusedError {
	e := &RefusedError{Status: status, Err: ErrProtocol}
	switch {
	case status == http.StatusTooManyRequests || status == 498: // 498: Groq, capacity exceeded
		e.Err = ErrBusy
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusPaymentRequired:
		e.Err = ErrCredentials
	case status >= 500 || status == http.StatusRequestTimeout:
		e.Err = ErrUnavailable
	}
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil && s > 0 && s <= 3600 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	if isWord(code) {
		e.Code = code
	}
	return e
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("%v: status %d", e.Err, e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.RetryAfter > 0 {
		s += fmt.Sprintf(", retry after %v", e.RetryAfter)
	}
	return s
}

// Unwrap returns the Err value.
func (e *RefusedError) Unwrap() error { return e.Err }

// isWord tells an error code, such as rate_limit_exceeded, from anything that
// might be a key: lower case, no digits, short.
func isWord(s string) bool {
	return len(s) <= 48 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}
