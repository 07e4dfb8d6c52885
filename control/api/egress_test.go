package api_test

import "testing"

func TestEgress(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	resp, none := p.do("GET", "/v1/egress", key, "")
	if etag := resp.Header.Get("ETag"); etag != `"0"` || len(none["hosts"].([]any)) != 0 || none["updated_at"] != nil {
		t.Errorf("before anything was said: %s %v", etag, none)
	}
	resp, got := p.do("PUT", "/v1/egress", key, `{"hosts":["API.example.com ","*.example.org:8443","api.example.com"],"calls":100}`, "If-Match", `"0"`)
	if hosts := got["hosts"].([]any); resp.StatusCode != 200 || resp.Header.Get("ETag") != `"1"` || len(hosts) != 2 || hosts[1] != "api.example.com" || got["calls"] != 100.0 {
		t.Errorf("put: %d %v", resp.StatusCode, got)
	}
	p.want(412, "PUT", "/v1/egress", key, `{"hosts":[]}`, "If-Match", `"0"`)
	p.want(200, "PUT", "/v1/egress", key, `{"hosts":[]}`, "If-Match", `"1"`)
	p.want(200, "PUT", "/v1/egress", key, `{"hosts":["10.0.0.1","localhost"]}`) // which does not make them public
	for _, bad := range []string{`{"hosts":["https://a.example"]}`, `{"hosts":["a.example/x"]}`, `{"hosts":["*"]}`, `{"hosts":["a b"]}`, `{"hosts":["a.example:0"]}`,
		`{"hosts":["*.*.example"]}`, `{"hosts":[""]}`, `{"hosts":["user@a.example"]}`, `{"hosts":[],"calls":-1}`} {
		p.want(422, "PUT", "/v1/egress", key, bad)
	}
	if got := p.trail("action=egress.change"); len(got) != 3 {
		t.Errorf("trail %q", got)
	}
	other := p.ensure("other@example.com", false)
	if got := p.want(200, "GET", "/v1/egress", other.APIKey, ""); len(got["hosts"].([]any)) != 0 {
		t.Errorf("another tenant's: %v", got)
	}
	reader := p.want(201, "POST", "/v1/keys", key, `{"name":"r","scopes":["tenant.read"]}`)["secret"].(string)
	p.want(200, "GET", "/v1/egress", reader, "")
	p.want(403, "PUT", "/v1/egress", reader, `{"hosts":[]}`)
}
