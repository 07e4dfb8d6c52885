package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestKeyRotation(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	made := p.want(201, "POST", "/v1/keys", key, `{"name":"service","scopes":["agents.read"]}`)
	path, first := "/v1/keys/"+made["id"].(string), made["secret"].(string)
	m := p.want(200, "POST", path+"/rotate", key, "")
	second := m["secret"].(string)
	until, _ := time.Parse(time.RFC3339, m["previous_until"].(string))
	if d := time.Until(until); d < 23*time.Hour || d > 24*time.Hour {
		t.Errorf("the old secret lives for %s, want 24 h", d)
	}
	p.want(200, "GET", "/v1/agents", first, "")
	p.want(200, "GET", "/v1/agents", second, "")
	third := p.want(200, "POST", path+"/rotate", key, `{"previous_until":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"}`)["secret"].(string)
	p.want(401, "GET", "/v1/agents", first, "") // two live, never three
	p.want(200, "GET", "/v1/agents", second, "")
	p.want(200, "GET", "/v1/agents", third, "")
	p.want(200, "DELETE", path+"/previous", key, "")
	p.want(401, "GET", "/v1/agents", second, "")
	p.want(200, "GET", "/v1/agents", third, "")

	fourth := p.want(200, "POST", path+"/rotate", key, "")["secret"].(string)
	p.super(`UPDATE api_keys SET previous_until = now() - interval '1 second' WHERE previous_until IS NOT NULL`)
	p.want(401, "GET", "/v1/agents", third, "")
	if p.want(200, "GET", path, key, "")["previous_until"] != nil {
		t.Error("a secret that has ended is shown as live")
	}
	for _, until := range []time.Duration{-time.Minute, 31 * 24 * time.Hour} {
		p.want(422, "POST", path+"/rotate", key, `{"previous_until":"`+time.Now().Add(until).Format(time.RFC3339)+`"}`)
	}
	p.want(204, "DELETE", path, key, "")
	p.want(401, "GET", "/v1/agents", fourth, "")
	p.want(409, "POST", path+"/rotate", key, "")
	p.want(409, "PATCH", path, key, `{"name":"x"}`)
	want := []string{"key.revoke", "key.rotate", "key.drop_previous", "key.rotate", "key.rotate", "key.create"}
	if got := p.noted(strings.Replace(path, "/v1/keys/", "key:", 1)); !slices.Equal(got, want) {
		t.Errorf("audited: %v, want %v", got, want)
	}
}

func TestKeyChange(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	made := p.want(201, "POST", "/v1/keys", key, `{"name":"service","scopes":["agents.read","calls.read","keys.manage"]}`)
	path, secret := "/v1/keys/"+made["id"].(string), made["secret"].(string)
	resp, _ := p.do("GET", path, key, "")
	if resp.Header.Get("ETag") != `"1"` {
		t.Errorf("ETag %s, want 1", resp.Header.Get("ETag"))
	}
	p.want(200, "PATCH", path, key, `{"name":"reader","scopes":["agents.read","keys.manage"]}`, "If-Match", `"1"`)
	p.want(412, "PATCH", path, key, `{"name":"other"}`, "If-Match", `"1"`)
	p.want(403, "GET", "/v1/calls", secret, "")
	p.want(422, "PATCH", path, key, `{"scopes":["agents.read","calls.read"]}`) // wider again
	p.want(422, "PATCH", path, key, `{"name":""}`)
	p.want(422, "PATCH", path, key, `{"name":"`+secret+`"}`)
	p.want(422, "PATCH", path, key, `{"allowed_origins":["shop.example"]}`)
	p.want(422, "PATCH", path, key, `{"expires_at":"2001-01-01T00:00:00Z"}`)
	p.want(403, "PATCH", path, secret, `{"name":"myself"}`)
	m := p.want(200, "PATCH", path, key, `{"expires_at":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`)
	if m["expires_at"] == nil {
		t.Errorf("changed: %v", m)
	}
	// What it makes does not outlive it.
	p.want(422, "POST", "/v1/keys", secret, `{"name":"child","scopes":["agents.read"]}`)
	p.want(201, "POST", "/v1/keys", secret, `{"name":"child","scopes":["agents.read"],"expires_at":"`+time.Now().Add(time.Minute).UTC().Format(time.RFC3339)+`"}`)
	p.want(422, "POST", "/v1/keys", secret, `{"name":"child","scopes":["calls.read"]}`)

	p.want(200, "PATCH", path, key, `{"allowed_origins":["https://shop.example"]}`)
	p.want(200, "GET", "/v1/agents", secret, "", "Origin", "https://shop.example")
	p.want(401, "GET", "/v1/agents", secret, "", "Origin", "https://evil.example")
	if m := p.want(401, "GET", "/v1/agents", secret, ""); !strings.Contains(fmt.Sprint(m["detail"]), "origins") {
		t.Errorf("refused with %v", m)
	}
	p.want(200, "PATCH", path, key, `{"allowed_origins":[],"expires_at":"0001-01-01T00:00:00Z"}`)
	p.want(200, "GET", "/v1/agents", secret, "")
	used := p.want(200, "GET", path, key, "")
	if used["last_used_at"] == nil || used["last_used_from"] != "192.0.2.0/24" { // httptest's client
		t.Errorf("last used %v from %v", used["last_used_at"], used["last_used_from"])
	}
}

// A key of another program works as it is, and is kept as ours from its first use.
func TestKeyImport(t *testing.T) {
	p := newPlane(t)
	old := "sk_live_0123456789abcdef0123456789"
	sum := sha256.Sum256([]byte(old))
	made := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"old","scopes":["agents.read"],"sha256":"`+hex.EncodeToString(sum[:])+`"}`)
	path := "/v1/keys/" + made["id"].(string)
	if made["secret"] != nil || made["imported"] != true {
		t.Errorf("imported: %v", made)
	}
	p.want(401, "GET", "/v1/agents", old+"x", "")
	for range 2 {
		p.want(200, "GET", "/v1/agents", "", "", "X-API-Key", old)
		p.want(200, "GET", "/v1/agents", old, "")
	}
	if m := p.want(200, "GET", path, p.demo.APIKey, ""); m["imported"] != nil || strings.Contains(m["prefix"].(string), hex.EncodeToString(sum[:4])) {
		t.Errorf("used: %v", m)
	}
	if got := p.noted("key:" + made["id"].(string)); !slices.Equal(got, []string{"key.upgrade", "key.import"}) {
		t.Errorf("audited: %v", got)
	}
	p.want(422, "POST", "/v1/keys", p.demo.APIKey, `{"name":"old","scopes":["agents.read"],"sha256":"abc"}`)
	p.want(409, "POST", path+"/rotate", p.demo.APIKey, "")
	p.want(204, "DELETE", path, p.demo.APIKey, "")
	p.want(401, "GET", "/v1/agents", old, "")
}
