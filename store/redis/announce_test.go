package redis

import (
	"context"
	"testing"
	"time"
)

// What one process announces another hears; it knows when it hears nothing, and
// hears again when Redis is back.
func TestAnnounce(t *testing.T) {
	here, m := open(t)
	there, err := openPatient("redis://"+m.Addr(), unhurried)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	heard, hears := make(chan string, 10), make(chan bool, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- there.Listen(ctx, "t", func(s string) { heard <- s }, func(b bool) { hears <- b })
	}()
	expect := func(want bool) {
		t.Helper()
		for deadline := time.After(time.Minute); ; {
			select {
			case got := <-hears:
				if got == want {
					return
				}
			case <-deadline:
				t.Fatalf("it is not said that it hears: %v", want)
			}
		}
	}
	told := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q is not heard", want)
		}
	}
	expect(true)
	if err := here.Announce(t.Context(), "t", "a"); err != nil {
		t.Fatal(err)
	}
	told("a")
	m.Close()
	expect(false)
	if err := here.Announce(t.Context(), "t", "b"); err == nil {
		t.Error("announced without Redis")
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	expect(true)
	if err := here.Announce(t.Context(), "t", "c"); err != nil {
		t.Fatal(err)
	}
	told("c")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
