package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/control/api"
	"parley/control/ingress"
)

// counter allows a twentieth of what it is told to, which is sooner tried out,
// and never lets go.
type counter map[string]int

func (c counter) Take(_ context.Context, asks ...ingress.Ask) ingress.Verdict {
	for i, a := range asks {
		if c[a.Key] += 20; c[a.Key] > a.N {
			return ingress.Verdict{Of: i, Wait: 90 * time.Second}
		}
	}
	return ingress.Verdict{OK: true}
}

// limited is a plane that counts, and a way to ask it from an address.
func limited(t *testing.T) (*plane, counter, func(from, method, path, key, body string) *httptest.ResponseRecorder) {
	t.Helper()
	p, seen := newPlane(t), counter{}
	p.o.Limits = seen
	s, err := api.New(p.o)
	if err != nil {
		t.Fatal(err)
	}
	return p, seen, func(from, method, path, key, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.RemoteAddr = from
		r.Header.Set("Content-Type", "application/json")
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
}

// until asks until it is refused, and returns how often it was not.
func until(t *testing.T, ask func(i int) *httptest.ResponseRecorder) int {
	t.Helper()
	for i := range 20_000 {
		if w := ask(i); w.Code == http.StatusTooManyRequests {
			if w.Header().Get("Retry-After") != "90" {
				t.Errorf("Retry-After is %q, want 90", w.Header().Get("Retry-After"))
			}
			return i
		}
	}
	t.Error("nothing is refused")
	return 0
}

// Chats are limited by address without a key, by key with one, each key's
// address too, and each chat by itself whoever asks.
func TestChatLimits(t *testing.T) {
	p, seen, ask := limited(t)
	id := p.publish("asking", asking, true)
	s := p.chat("", `{"flow_id":"`+id+`"}`)
	path := "/chat/sessions/" + s.token
	start := `{"flow_id":"` + strings.Repeat("0", 36) + `"}` // costs no conversation
	if n := until(t, func(int) *httptest.ResponseRecorder { return ask("192.0.2.1:1", "POST", "/chat/start", "", start) }); n != 120/20 {
		t.Errorf("%d starts from one address, want a twentieth of 120", n)
	}
	if n := until(t, func(int) *httptest.ResponseRecorder {
		return ask("192.0.2.2:1", "POST", "/chat/start", p.demo.APIKey, start)
	}); n != 1200/20 {
		t.Errorf("%d starts by a key, want a twentieth of 1200", n)
	}
	if w := ask("192.0.2.3:1", "POST", "/chat/start", p.demo.APIKey, start); w.Code != 429 {
		t.Errorf("the key from another address: %d, want 429", w.Code)
	}
	other := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"other","scopes":["chat"]}`)["secret"].(string)
	if w := ask("192.0.2.2:1", "POST", "/chat/start", other, start); w.Code != 429 {
		t.Errorf("another key from the address: %d, want 429", w.Code)
	}
	clear(seen)
	if n := until(t, func(i int) *httptest.ResponseRecorder {
		return ask("192.0.2."+strconv.Itoa(i%250)+":1", "GET", path, s.token, "")
	}); n != 600/20 {
		t.Errorf("%d requests for one chat from many addresses, want a twentieth of 600", n)
	}
	if w := ask("192.0.2.9:1", "POST", path+"/interact", p.demo.APIKey, `{"input":"ann"}`); w.Code != 429 {
		t.Errorf("the same chat by a key: %d, want 429", w.Code)
	}
	clear(seen)
	if n := until(t, func(i int) *httptest.ResponseRecorder {
		return ask("[2001:db8::"+strconv.Itoa(i%9000+1)+"]:1", "GET", "/chat/sessions/"+strings.Repeat("x", 43), strings.Repeat("x", 43), "")
	}); n != 1200/20 {
		t.Errorf("%d guesses of tokens from one network of IPv6, want a twentieth of 1200", n)
	}
}

// Wrong keys are few; good ones are not held to that.
func TestGuessesOfKeys(t *testing.T) {
	p, _, ask := limited(t)
	wrong := p.demo.APIKey[:len(p.demo.APIKey)-4] + "xxxx"
	if n := until(t, func(int) *httptest.ResponseRecorder { return ask("192.0.2.1:1", "GET", "/v1/flows", wrong, "") }); n != 60/20 {
		t.Errorf("%d guesses, want a twentieth of 60", n)
	}
	if w := ask("192.0.2.1:1", "GET", "/v1/flows", p.demo.APIKey, ""); w.Code != 200 {
		t.Errorf("the good key: %d", w.Code)
	}
}
