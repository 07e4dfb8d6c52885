package api_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/control"
	"parley/control/api"
)

// lists has the demo's tenant list an origin, and returns its id.
func (p *plane) lists(origin string) string {
	p.t.Helper()
	id, _ := p.want(201, "POST", "/v1/origins", p.demo.APIKey, fmt.Sprintf(`{"origin":%q}`, origin))["id"].(string)
	return id
}

// An admin keeps the list; a viewer reads it; another tenant sees nothing of it.
func TestOrigins(t *testing.T) {
	p := newPlane(t)
	other := p.ensure("other@example.com", false)
	colleague := func(role string) string {
		boss := p.cookie()
		made := p.want(201, "POST", "/v1/invitations", "", `{"email":"new.`+role+`@example.com","role":"`+role+`"}`, "Cookie", boss)
		p.want(201, "POST", "/v1/auth/accept-invitation", "", `{"token":"`+made["token"].(string)+`","password":"seven amber gulls wade","name":"X"}`)
		cookie, _ := p.enter("new."+role+"@example.com", "seven amber gulls wade")
		return cookie
	}
	admin, viewer := colleague("admin"), colleague("viewer")
	const body = `{"origin":"https://shop.example"}`
	made := p.want(201, "POST", "/v1/origins", "", body, "Cookie", admin)
	id, _ := made["id"].(string)
	if made["origin"] != "https://shop.example" || id == "" || made["created_at"] == nil {
		t.Fatalf("added: %v", made)
	}
	p.want(409, "POST", "/v1/origins", "", body, "Cookie", admin)
	for _, bad := range []string{"*", "null", "", "https://*.example", "https://Shop.example", "https://shop.example/", "https://u@shop.example", "https://shop.example:443"} {
		p.want(422, "POST", "/v1/origins", "", `{"origin":"`+bad+`"}`, "Cookie", admin)
	}
	p.want(401, "POST", "/v1/origins", "", body)
	p.want(401, "GET", "/v1/origins", "", "")
	p.want(403, "POST", "/v1/origins", "", `{"origin":"https://b.example"}`, "Cookie", viewer)
	p.want(403, "DELETE", "/v1/origins/"+id, "", "", "Cookie", viewer)
	if got := p.want(200, "GET", "/v1/origins", "", "", "Cookie", viewer)["items"].([]any); len(got) != 1 {
		t.Errorf("a viewer reads %v", got)
	}
	p.want(404, "DELETE", "/v1/origins/"+id, other.APIKey, "")
	if got := p.want(200, "GET", "/v1/origins", other.APIKey, "")["items"].([]any); len(got) != 0 {
		t.Errorf("another tenant reads %v", got)
	}
	p.want(201, "POST", "/v1/origins", other.APIKey, body) // each has its own list
	p.want(204, "DELETE", "/v1/origins/"+id, "", "", "Cookie", admin)
	p.want(404, "DELETE", "/v1/origins/"+id, "", "", "Cookie", admin)
	if got := p.want(200, "GET", "/v1/origins", other.APIKey, "")["items"].([]any); len(got) != 1 {
		t.Errorf("the other's own is gone too: %v", got)
	}
	if got := p.noted("origin:" + id); len(got) != 2 {
		t.Errorf("the audit trail has %v, want one entry for each change", got)
	}
}

// A call token is for a page of this server, one of a listed origin, or a program.
func TestCallTokenOrigins(t *testing.T) {
	p := newPlane(t)
	o := p.o
	o.PublicURL = "https://voice.example/base"
	server, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.Server = server
	other := p.ensure("other@example.com", false)
	p.want(201, "POST", "/v1/origins", other.APIKey, `{"origin":"https://theirs.example"}`)
	id := p.lists("https://shop.example")
	mint := func(status int, origin string) {
		t.Helper()
		p.want(status, "POST", "/v1/agents/front-desk/call-tokens", p.demo.APIKey, fmt.Sprintf(`{"origin":%q}`, origin))
	}
	for _, good := range []string{"", "https://voice.example", "https://shop.example"} {
		mint(201, good)
	}
	for _, bad := range []string{"https://theirs.example", "https://evil.example", "null", "*", "https://shop.example/", "https://Shop.example", "http://shop.example",
		"https://shop.example.evil.example", "https://voice.example/base", "https://voice.example:8443", "http://voice.example"} {
		mint(422, bad)
	}
	p.want(204, "DELETE", "/v1/origins/"+id, p.demo.APIKey, "")
	mint(422, "https://shop.example")
}

// nearOrigins are what resembles listed origins, or nothing at all.
func nearOrigins(r *rand.Rand, listed []string) []string {
	list := []string{"null", "*", "https://*", "https://*.example", "https://evil.example", "file://", "https://", "http://localhost", "\x7f", strings.Repeat("a", 5000)}
	for _, o := range listed {
		scheme, host, _ := strings.Cut(o, "://")
		name, _, _ := strings.Cut(host, ":")
		list = append(list, strings.ToUpper(o), scheme+"://"+strings.ToUpper(host), strings.ToUpper(scheme)+"://"+host, "http://"+name, "https://"+name, "ws://"+host, "//"+host, host, "null://"+host,
			o+":443", o+":80", o+":", o+":1", scheme+"://"+name+":9443", scheme+"://"+name+":443", o+".", o+"/", o+"?", o+"#", o+".evil.example", o+"evil", o+"@evil.example", o+"%00", o+"%2eevil.example",
			scheme+"://u@"+host, scheme+"://u:p@"+host, scheme+"://@"+host, scheme+"://*."+host, scheme+"://a."+host, scheme+"://evil"+host, scheme+"://evil.example/"+host,
			" "+o, o+" ", o+"\t", o+","+o, o+" https://evil.example", o+", https://evil.example", "https://evil.example,"+o, "null, "+o, o[:len(o)-1])
		for range 20 {
			b := []byte(o)
			for range 1 + r.IntN(2) {
				switch i := r.IntN(len(b)); r.IntN(3) {
				case 0:
					b[i] = byte(r.IntN(256))
				case 1:
					b = slices.Delete(b, i, i+1)
				default:
					b = slices.Insert(b, i, byte(r.IntN(256)))
				}
			}
			list = append(list, string(b))
		}
	}
	return list
}

// However an origin is written, no answer of any kind tells its page that it may
// read, unless exactly that origin is listed; no answer allows cookies or all.
func TestUnlistedOriginsAreNeverAllowed(t *testing.T) {
	p := newPlane(t)
	other := p.ensure("other@example.com", false)
	limit := api.Limit{N: 1, Per: time.Second}
	for _, method := range []string{"POST", "OPTIONS"} {
		if err := p.Handle(api.Route{Method: method, Pattern: "/webrtc/{agent}", Class: api.Session, Permission: control.Anyone, Limit: limit, Body: api.NoBody},
			http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })); err != nil {
			t.Fatal(err)
		}
	}
	ofTenant, ofFlow := []string{"https://shop.example", "http://localhost:3000"}, []string{"https://chat.example", "https://chat.example:8443"}
	for _, o := range ofTenant {
		p.lists(o)
	}
	flow := p.publish("listed", asking, true)
	p.want(200, "PATCH", "/v1/flows/"+flow, p.demo.APIKey, `{"origins":["`+strings.Join(ofFlow, `","`)+`"]}`)
	s := p.chat("", `{"flow_id":"`+flow+`"}`)
	key, session := p.demo.APIKey, "/chat/sessions/"+s.token
	routes := []struct {
		method, path, bearer, body string
		listed                     []string
	}{
		{"GET", "/v1/agents", key, "", ofTenant},
		{"GET", "/v1/agents", other.APIKey, "", nil}, // lists none itself
		{"GET", "/v1/agents", "", "", ofTenant},      // 401
		{"GET", "/v1/agents/nobody", key, "", ofTenant},
		{"POST", "/v1/agents", key, `{`, ofTenant},
		{"POST", "/v1/auth/login", "", `{}`, ofTenant},
		{"OPTIONS", "/v1/agents", "", "", ofTenant},
		{"OPTIONS", "/v1/no/such", "", "", ofTenant},
		{"DELETE", "/v1/agents", key, "", nil}, // 405, of no route
		{"GET", "/v1/no-such", key, "", nil},
		{"GET", "/v1/agents/..%2f", key, "", nil}, // kept out by the filter
		{"OPTIONS", "/webrtc/front-desk", "", "", ofTenant},
		{"POST", "/webrtc/front-desk", "", "", ofTenant},
		{"POST", "/webrtc/front-desk", other.APIKey, "", nil},
		{"POST", "/webrtc/front-desk", "nonsense", "{}", ofTenant}, // 413
		{"OPTIONS", "/chat/start", "", "", ofFlow},
		{"OPTIONS", session + "/interact", "", "", ofFlow},
		{"GET", session, s.token, "", ofFlow},
		{"GET", "/chat/sessions/nobody", "nobody", "", nil},
		{"POST", session + "/interact", s.token, `{"input":"x","expected_revision":77}`, ofFlow}, // 409
		{"POST", session + "/interact", s.token, `{`, nil},
		{"POST", "/chat/start", "", `{"flow_id":"nobody"}`, nil},
	}
	allListed := slices.Concat(ofTenant, ofFlow)
	origins := append(nearOrigins(rand.New(rand.NewPCG(1, 2)), allListed), allListed...)
	allowed := 0
	for n, r := range routes {
		for i, origin := range origins {
			if i < len(origins)-len(allListed) && i%3 != n%3 {
				continue // each route meets every third one
			}
			resp, _ := p.do(r.method, r.path, r.bearer, r.body, "Origin", origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization")
			got, want := resp.Header.Get("Access-Control-Allow-Origin"), ""
			if slices.Contains(r.listed, origin) {
				want = origin
				allowed++
			}
			if got != want {
				t.Errorf("%s %s (%d) from %q: allows %q, want %q", r.method, r.path, resp.StatusCode, origin, got, want)
			}
			if len(resp.Header.Values("Access-Control-Allow-Origin")) > 1 || resp.Header.Get("Access-Control-Allow-Credentials") != "" || got == "*" || resp.StatusCode >= 500 {
				t.Errorf("%s %s from %q: %d, %v", r.method, r.path, origin, resp.StatusCode, resp.Header)
			}
			if want != "" && !slices.Contains(resp.Header.Values("Vary"), "Origin") {
				t.Errorf("%s %s: a cache may give the answer of one page to another: Vary %q", r.method, r.path, resp.Header.Values("Vary"))
			}
		}
	}
	if allowed < 20 {
		t.Errorf("only %d answers were for listed origins: nothing was shown", allowed)
	}
}

// An answer that is told again is for whoever asks again, not for who asked first.
func TestReplayIsForItsOwnOrigin(t *testing.T) {
	p := newPlane(t)
	p.lists("https://shop.example")
	var replayed bool
	for _, origin := range []string{"https://shop.example", "https://evil.example", "https://shop.example"} {
		resp, _ := p.do("POST", "/v1/keys", p.demo.APIKey, `{"name":"reader","scopes":["agents.read"]}`, "Origin", origin, "Idempotency-Key", "the-same")
		want := ""
		if origin == "https://shop.example" {
			want = origin
		}
		if got := resp.Header.Values("Access-Control-Allow-Origin"); len(got) > 1 || resp.Header.Get("Access-Control-Allow-Origin") != want || resp.StatusCode != 201 {
			t.Errorf("from %s: %d, allows %q, want %q", origin, resp.StatusCode, got, want)
		}
		replayed = resp.Header.Get("Idempotency-Replayed") != ""
	}
	if !replayed {
		t.Error("nothing was told again")
	}
}
