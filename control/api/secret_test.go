package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/agent/effect"
	"parley/control"
)

// A drawer keeps secrets' values in versions, as Vault does, and may be away.
type drawer struct {
	mu   sync.Mutex
	has  map[string][]effect.Secret
	away bool
}

var _ control.SecretKeeper = (*drawer)(nil)

func (d *drawer) leave(away bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = away
}

// open returns the versions of r, under the lock that done lets go of.
func (d *drawer) open(r control.SecretRef) (versions []effect.Secret, done func(), err error) {
	d.mu.Lock()
	if d.away {
		err = fmt.Errorf("drawer: %w", control.ErrUnavailable)
	}
	return d.has[r.Path], d.mu.Unlock, err
}

func (d *drawer) ReadSecret(_ context.Context, r control.SecretRef) (effect.Secret, control.SecretRef, error) {
	v, done, err := d.open(r)
	defer done()
	n := len(v)
	if r.Version != "" {
		_, _ = fmt.Sscan(r.Version, &n)
	}
	switch {
	case err != nil:
		return "", r, err
	case n < 1 || n > len(v) || v[n-1] == "":
		return "", r, control.ErrNotFound
	}
	return v[n-1], r.At(fmt.Sprint(n)), nil
}

func (d *drawer) WriteSecret(_ context.Context, r control.SecretRef, value effect.Secret) (control.SecretRef, error) {
	v, done, err := d.open(r)
	defer done()
	if err != nil {
		return r, err
	}
	if d.has == nil {
		d.has = map[string][]effect.Secret{}
	}
	d.has[r.Path] = append(v, value)
	return r.At(fmt.Sprint(len(v) + 1)), nil
}

func (d *drawer) SecretVersions(_ context.Context, r control.SecretRef) (list []control.SecretVersion, err error) {
	v, done, err := d.open(r)
	defer done()
	for i := len(v); i > 0; i-- {
		list = append(list, control.SecretVersion{Version: fmt.Sprint(i), Readable: v[i-1] != ""})
	}
	return list, err
}

func (d *drawer) RetractSecret(_ context.Context, r control.SecretRef) error {
	v, done, err := d.open(r)
	defer done()
	var n int
	if _, bad := fmt.Sscan(r.Version, &n); err == nil && bad == nil && n <= len(v) {
		v[n-1] = ""
	}
	return err
}

func (d *drawer) ForgetSecret(_ context.Context, r control.SecretRef) error {
	_, done, err := d.open(r)
	defer done()
	if err == nil {
		delete(d.has, r.Path)
	}
	return err
}

// person invites somebody of a role into the demo tenant, and returns their cookie.
func (p *plane) person(boss, role string) string {
	p.t.Helper()
	i := p.want(201, "POST", "/v1/invitations", "", `{"email":"`+role+`@example.com","role":"`+role+`"}`, "Cookie", boss)
	p.want(201, "POST", "/v1/auth/accept-invitation", "", `{"token":"`+i["token"].(string)+`","password":"seven amber gulls wade","name":"P"}`)
	cookie, _ := p.enter(role+"@example.com", "seven amber gulls wade")
	return cookie
}

const (
	firstValue, secondValue = "canary-first-value", "canary-second-value"
	crmSecret               = "/v1/secrets/crm"
)

// secretly asks by cookie, and looks for the values in the answer and its headers.
func (p *plane) secretly(method, path, cookie, body string, header ...string) (int, string, map[string]any) {
	p.t.Helper()
	resp, m := p.do(method, path, "", body, append(header, "Cookie", cookie)...)
	if all := fmt.Sprint(m, resp.Header); strings.Contains(all, firstValue) || strings.Contains(all, secondValue) {
		p.t.Errorf("%s %s shows the value: %s", method, path, all)
	}
	return resp.StatusCode, resp.Header.Get("ETag"), m
}

func TestSecretRoutes(t *testing.T) {
	p := newPlane(t)
	boss, _ := p.enter("admin@example.com", password)
	stranger := p.ensure("other@example.com", false).APIKey
	first, second := `{"value":"`+firstValue+`","hosts":["api.example.com"]}`, `{"value":"`+secondValue+`"}`

	for _, tt := range []struct {
		what, method, path, body string
		match                    string
		status                   int
		tag                      string
	}{
		{"of none", "GET", crmSecret, "", "", 404, ""},
		{"without hosts", "PUT", crmSecret, `{"value":"` + firstValue + `"}`, "", 422, ""},
		{"no host at all", "PUT", crmSecret, `{"value":"` + firstValue + `","hosts":[]}`, "", 422, ""},
		{"any host", "PUT", crmSecret, `{"value":"` + firstValue + `","hosts":["*"]}`, "", 422, ""},
		{"without a value", "PUT", crmSecret, `{"hosts":["api.example.com"]}`, "", 422, ""},
		{"an empty value", "PUT", crmSecret, `{"value":"","hosts":["api.example.com"]}`, "", 422, ""},
		{"over one that is not there", "PUT", crmSecret, first, `"1"`, 404, ""},
		{"new", "PUT", crmSecret, first, "", 201, `"1"`},
		{"described", "GET", crmSecret, "", "", 200, `"1"`},
		{"listed", "GET", "/v1/secrets", "", "", 200, ""},
		{"over another revision", "PUT", crmSecret, second, `"7"`, 412, ""},
		{"over no revision", "PUT", crmSecret, second, `"x"`, 412, ""},
		{"rotated", "PUT", crmSecret, second, `"1"`, 200, `"2"`},
		{"over the one before", "PUT", crmSecret, first, `"1"`, 412, ""},
		{"sent elsewhere without the value", "PUT", crmSecret, `{"hosts":["evil.example"]}`, "", 422, ""},
		{"tried", "POST", crmSecret + "/test", `{"url":"https://api.example.com/v1"}`, "", 200, ""},
		{"tried with no address", "POST", crmSecret + "/test", `{"url":"nowhere"}`, "", 422, ""},
		{"another's place", "PUT", crmSecret, `{"reference":"vault://secret/tenants/other/crm"}`, "", 422, ""},
		{"deleted of another revision", "DELETE", crmSecret, "", `"1"`, 412, ""},
	} {
		status, tag, got := p.secretly(tt.method, tt.path, boss, tt.body, "If-Match", tt.match)
		if status != tt.status || tag != tt.tag {
			t.Errorf("%s: %s %s: %d, ETag %s, %v; want %d, %s", tt.what, tt.method, tt.path, status, tag, got, tt.status, tt.tag)
		}
	}
	_, _, got := p.secretly("GET", crmSecret, boss, "")
	if want := fmt.Sprintf("vault://secret/tenants/%s/crm@2", p.demo.Tenant); got["reference"] != want || len(got["versions"].([]any)) != 2 {
		t.Errorf("described as %v, want reference %s", got, want)
	}
	for address, bound := range map[string]bool{"https://api.example.com/": true, "https://evil.example/": false, "http://api.example.com/": false} {
		if _, _, got := p.secretly("POST", crmSecret+"/test", boss, `{"url":"`+address+`"}`); got["bound"] != bound || got["readable"] != true {
			t.Errorf("%s: %v", address, got)
		}
	}

	// Others see nothing, and what they try is no different from what is not there.
	for _, r := range [][3]string{{"GET", crmSecret, ""}, {"POST", crmSecret + "/test", `{"url":"https://api.example.com/"}`}} {
		p.want(404, r[0], r[1], stranger, r[2])
	}
	if got := p.want(200, "GET", "/v1/secrets", stranger, ""); len(got["items"].([]any)) != 0 {
		t.Errorf("a stranger lists %v", got)
	}
	viewer := p.person(boss, "viewer")
	for _, r := range [][3]string{{"GET", crmSecret, ""}, {"GET", "/v1/secrets", ""}, {"POST", crmSecret + "/test", `{"url":"https://api.example.com/"}`},
		{"PUT", crmSecret, first}, {"DELETE", crmSecret, ""}} {
		if status, _, got := p.secretly(r[0], r[1], viewer, r[2]); status != 403 {
			t.Errorf("a viewer: %s %s: %d %v", r[0], r[1], status, got)
		}
	}

	if status, _, _ := p.secretly("DELETE", crmSecret, boss, "", "If-Match", `"2"`); status != 204 {
		t.Errorf("deleted: %d", status)
	}
	if status, _, _ := p.secretly("GET", crmSecret, boss, ""); status != 404 || len(p.keeper.has) != 0 {
		t.Errorf("after it was deleted: %d, and the keeper has %d", status, len(p.keeper.has))
	}
	if got, want := p.trail("action=secret"), []string{"secret.delete secret:crm", "secret.put secret:crm", "secret.put secret:crm"}; !slices.Equal(got, want) {
		t.Errorf("trail %v, want %v", got, want)
	}
	p.hides(firstValue, secondValue)
}

// While the store of secrets is away nothing changes, and who asks is told what
// to do.
func TestSecretsAway(t *testing.T) {
	p := newPlane(t)
	boss, _ := p.enter("admin@example.com", password)
	p.secretly("PUT", crmSecret, boss, `{"value":"`+firstValue+`","hosts":["api.example.com"]}`)
	p.keeper.leave(true)
	for _, r := range [][3]string{{"PUT", crmSecret, `{"value":"` + secondValue + `"}`}, {"PUT", "/v1/secrets/new", `{"value":"` + secondValue + `","hosts":["api.example.com"]}`}, {"DELETE", crmSecret, ""}} {
		status, _, got := p.secretly(r[0], r[1], boss, r[2])
		if detail := fmt.Sprint(got["detail"]); status != 503 || got["code"] != "secrets_unavailable" || !strings.Contains(detail, "Try again") || !strings.Contains(detail, "nothing was changed") {
			t.Errorf("%s %s: %d %v", r[0], r[1], status, got)
		}
	}
	if status, tag, got := p.secretly("GET", crmSecret, boss, ""); status != 200 || tag != `"1"` || got["versions"] != nil {
		t.Errorf("described while away: %d %s %v", status, tag, got)
	}
	if _, _, got := p.secretly("POST", crmSecret+"/test", boss, `{"url":"https://api.example.com/"}`); got["readable"] != false || got["bound"] != true {
		t.Errorf("tried while away: %v", got)
	}
	p.keeper.leave(false)
	if status, _, _ := p.secretly("PUT", crmSecret, boss, `{"value":"`+secondValue+`"}`, "If-Match", `"1"`); status != 200 {
		t.Errorf("put when it is there again: %d", status)
	}
	p.hides(firstValue, secondValue)
}
