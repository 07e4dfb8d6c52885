package main

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/signaling/signalingtest"
)

// A gateway with room for one call refuses the next at once, telephone and
// browser alike, while the first goes on; when that has ended there is room
// again.
func TestFullGatewayRefusesCalls(t *testing.T) {
	g := startGateway(t, "--max-calls", "1")
	dial := func() *signalingtest.CarrierCall {
		t.Helper()
		c, err := signalingtest.Call(t.Context(), signalingtest.CarrierOptions{URL: g.URL, Agent: "front-desk"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rejected := func(c *signalingtest.CarrierCall) bool {
		return slices.ContainsFunc(c.Events(), func(e signalingtest.CarrierEvent) bool { return e.Kind == "reject" })
	}
	get := func(want string) {
		t.Helper()
		for range 200 { // a session takes a moment to be gone
			res, err := http.Get(g.URL + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode == http.StatusOK && strings.Contains(string(b), `"`+want+`"`) {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
		t.Fatalf("/readyz never says %q", want)
	}

	get("ok")
	first := dial()
	get("busy: rated")

	second := dial()
	_ = second.Wait() // how it ended, its events tell
	if !rejected(second) || !strings.Contains(events(second, "webhook"), `reason="busy"`) {
		t.Errorf("the second call was not rejected as busy: %v", second.Events())
	}

	var status *signalingtest.StatusError
	_, err := signalingtest.Dial(t.Context(), signalingtest.PeerOptions{URL: g.URL, Agent: "front-desk", Bearer: g.APIKey, Loopback: true})
	if !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable {
		t.Errorf("a browser's offer: %v, want status 503", err)
	}

	if slices.ContainsFunc(first.Events(), func(e signalingtest.CarrierEvent) bool { return e.Kind == "closed" }) {
		t.Errorf("the first call did not go on: %v", first.Events())
	}
	if err := first.HangUp(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	get("ok")
	third := dial()
	if rejected(third) {
		t.Error("there was no room after the first call")
	}
	_ = third.HangUp()
	_ = third.Wait()
}

func events(c *signalingtest.CarrierCall, kind string) string {
	var b strings.Builder
	for _, e := range c.Events() {
		if e.Kind == kind {
			b.WriteString(e.Text)
		}
	}
	return b.String()
}
