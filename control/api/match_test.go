package api_test

import (
	"strings"
	"testing"
)

// Who based a change on what stands, and chose a name that is taken, is told so:
// to read it again would be of no use. Who based it on what stood is told that.
func TestTakenIsNotChanged(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	made, m := p.do("POST", "/v1/agents", key, `{"name":"one","settings":{"kind":"prompt","prompt":"Help."}}`)
	if made.StatusCode != 201 {
		t.Fatalf("%d %v", made.StatusCode, m)
	}
	p.want(201, "POST", "/v1/agents", key, `{"name":"two","settings":{"kind":"prompt","prompt":"Help."}}`)
	path, tag := "/v1/agents/"+m["id"].(string), made.Header.Get("ETag")
	for _, header := range [][]string{nil, {"If-Match", tag}, {"If-Match", "*"}} {
		m := p.want(409, "PATCH", path, key, `{"name":"two"}`, header...)
		if detail, _ := m["detail"].(string); m["code"] != "conflict" || !strings.Contains(detail, "already") {
			t.Errorf("%v: %v", header, m)
		}
	}
	p.want(200, "PATCH", path, key, `{"name":"three"}`, "If-Match", tag)
	p.want(412, "PATCH", path, key, `{"name":"four"}`, "If-Match", tag)
}
