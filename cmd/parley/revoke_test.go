package main

import (
	"bytes"
	"net/http"
	"strings"
	"time"
)

// setting is what the site's nodes are started with.
func (s *site) setting(name string) string {
	s.t.Helper()
	for i := len(s.env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(s.env[i], name+"="); ok {
			return v
		}
	}
	s.t.Fatalf("%s is not set", name)
	return ""
}

// lets returns what a node answers a bearer.
func (n *node) lets(s *site, bearer string) int {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", n.url+"/v1/agents", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// tokensAreRevoked revokes the keys that tokens are signed with, by the command,
// under nodes that know them: what was signed is refused by all of them at once,
// what is signed from then on is taken by all, and nobody has to restart.
func (s *site) tokensAreRevoked(nodes ...*node) {
	s.t.Helper()
	token := func(n *node) string {
		s.t.Helper()
		m := s.ask(n, "POST", "/v1/auth/token", "", `{"grant_type":"password","email":"`+siteOwner+`","password":"`+s.password+`"}`, 200)
		access, _ := m["access_token"].(string)
		return access
	}
	before := token(nodes[0])
	for _, n := range nodes {
		if got := n.lets(s, before); got != 200 {
			s.t.Fatalf("%s answers a token %d", n.name, got)
		}
	}
	var out, errs bytes.Buffer
	args := []string{"tokens", "rotate", "--revoke", "--database-url", s.setting("DATABASE_URL"), "--key-file", s.setting("PARLEY_KEY_FILE")}
	if status := run(s.t.Context(), args, stdio{strings.NewReader(""), &out, &errs}); status != exitOK {
		s.t.Fatalf("parley tokens rotate: %d %s", status, &errs)
	}
	began := time.Now()
	for _, n := range nodes { // each asked for the first time since
		s.await(10*time.Second, "the old token to be refused by "+n.name, func() bool { return n.lets(s, before) == 401 })
	}
	took := time.Since(began)
	for _, by := range nodes {
		after := token(by)
		for _, n := range nodes {
			if got := n.lets(s, after); got != 200 {
				s.t.Errorf("%s answers a token of the new key, given by %s, %d", n.name, by.name, got)
			}
		}
	}
	s.t.Logf("signing keys revoked: %d nodes refuse what they signed after %v", len(nodes), took.Round(time.Millisecond))
}
