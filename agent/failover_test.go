package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// order plays attempts on three vendors, which all fail as told, and returns who
// was asked: "a", and "+a" for one asked after a pause.
func order(r *roster, rounds int, fail map[string]error) string {
	var asked []string
	try := r.attempt(rounds)
	for {
		i, pause, ok := try.next(time.Now())
		if !ok {
			return strings.Join(asked, " ")
		}
		name := r.list[i].vendor
		if pause > 0 {
			name = "+" + name
		}
		asked = append(asked, name)
		err := fail[r.list[i].vendor]
		if err == nil {
			try.served(i)
			return strings.Join(asked, " ")
		}
		try.failed(i, err, time.Now())
	}
}

func TestWhoIsAskedNext(t *testing.T) {
	refused := func(after time.Duration) error {
		return fmt.Errorf("dial: %w", &RefusedError{Status: 429, RetryAfter: after, Err: ErrBusy})
	}
	all := map[string]error{"a": ErrUnavailable, "b": ErrProtocol, "c": ErrUnavailable}
	for _, tt := range []struct {
		name  string
		setup func(r *roster)
		fail  map[string]error
		want  string
	}{
		{"the first", nil, nil, "a"},
		{"the next at once", nil, map[string]error{"a": ErrUnavailable}, "a b"},
		{"each again after a pause, then nobody", nil, all, "a b c +a +b +c"},
		{"a refused key never again", nil, map[string]error{"a": ErrUnavailable, "b": ErrCredentials, "c": ErrUnavailable}, "a b c +a +c"},
		{"busy for a moment", nil, map[string]error{"a": refused(time.Second), "b": ErrCredentials, "c": ErrCredentials}, "a b c +a"},
		{"busy for longer than a caller waits", nil, map[string]error{"a": refused(7 * time.Second), "b": ErrCredentials, "c": ErrCredentials}, "a b c"},
		{"who serves goes on", func(r *roster) { r.first = 1 }, nil, "b"},
		{"and the others follow it", func(r *roster) { r.first = 2 }, map[string]error{"c": ErrUnavailable}, "c a"},
		{"an open breaker is skipped", func(r *roster) { r.list[0].breaker.Report(ErrCredentials) }, nil, "b"},
		{"unless none else is left", func(r *roster) { r.list[0].breaker.Report(ErrCredentials) },
			map[string]error{"b": ErrUnavailable, "c": ErrUnavailable}, "b c a"},
		{"one that failed lately rests", func(r *roster) { order(r, 1, map[string]error{"a": ErrUnavailable}) }, nil, "b"},
		{"but not for ever", func(r *roster) {
			order(r, 1, map[string]error{"a": ErrUnavailable})
			time.Sleep(restFirst)
		}, nil, "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &roster{kind: "tts", log: slog.New(slog.DiscardHandler), list: []standing{
					{vendor: "a", breaker: &Breaker{}}, {vendor: "b", breaker: &Breaker{}}, {vendor: "c", breaker: &Breaker{}}}}
				if tt.setup != nil {
					tt.setup(r)
				}
				if got := order(r, 2, tt.fail); got != tt.want {
					t.Errorf("asked %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// A request that nobody is asked for says why, in words.
func TestAttemptWithoutAnybodyToAsk(t *testing.T) {
	r := &roster{kind: "llm", log: slog.New(slog.DiscardHandler), list: []standing{{vendor: "a", barred: true}}}
	try := r.attempt(2)
	if _, _, ok := try.next(time.Now()); ok {
		t.Fatal("somebody is asked")
	}
	if err := try.err(); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "%!") {
		t.Errorf("error %q", err)
	}
}
