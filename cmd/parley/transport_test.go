package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// What leaves the machine for the database is encrypted, on either connection,
// or the start is refused, without a word of the password.
func TestDatabaseWantsTLS(t *testing.T) {
	for address, want := range map[string]bool{
		"postgres://app@localhost/parley":                             true,
		"postgres://app@/parley?host=/run/postgresql":                 true,
		"postgres://app@db.example/parley?sslmode=require":            true,
		"postgres://app@db.example/parley?sslmode=verify-full":        true,
		"postgres://app:s3cret@db.example/parley":                     false,
		"postgres://app:s3cret@db.example/parley?sslmode=prefer":      false,
		"postgres://app:s3cret@db.example/parley?sslmode=disable":     false,
		"postgres://app:s3cret@localhost/parley?host=db.example":      false,
		"postgres://app:s3cret@localhost,db.example/parley":           false,
		"postgres://app:s3cret@localhost.db.example/parley?sslmode=x": false,
	} {
		for name, s := range map[string]Settings{"DATABASE_URL": {DatabaseURL: address}, "DATABASE_LISTEN_URL": {DatabaseListenURL: address}} {
			said := s.unsafe().Error() // of all else that is missing, too
			if refused := strings.Contains(said, "  "+name+" ") && strings.Contains(said, "sslmode"); refused == want || strings.Contains(said, "s3cret") {
				t.Errorf("%s %s: refused %v, want %v: %s", name, address, refused, !want, said)
			}
		}
	}
}

// So is what leaves it for Redis.
func TestRedisWantsTLS(t *testing.T) {
	for address, want := range map[string]bool{
		"redis://localhost:6379/0":                true,
		"redis://:s3cret@127.0.0.1:6379":          true,
		"redis://[::1]:6379":                      true,
		"unix:///run/redis/redis.sock":            true,
		"rediss://:s3cret@cache.example:6379":     true,
		"redis://:s3cret@cache.example:6379":      false,
		"redis://u:s3cret@192.0.2.7":              false,
		"rediss://cache.example?skip_verify=true": false,
		"redis://:s3cret@localhost.cache.example": false,
		"redis://:s3cret@[::/0":                   false,
	} {
		s := Settings{RedisURL: address}
		said := s.unsafe().Error() // of all else that is missing, too
		if refused := strings.Contains(said, "  REDIS_URL ") && strings.Contains(said, "rediss://"); refused == want || strings.Contains(said, "s3cret") {
			t.Errorf("%s: refused %v, want %v: %s", address, refused, !want, said)
		}
		for _, told := range s.transports() {
			if told.Name == "redis" && told.Safe != want {
				t.Errorf("%s: told as safe %v, want %v", address, told.Safe, want)
			}
		}
	}
}

// In production no listener takes plain requests from other machines, unless a
// proxy stands before it and is named; and no secret stands in clear.
func TestUnsafeSettings(t *testing.T) {
	const plain = "sk-plain0123456789"
	for name, tt := range map[string]struct {
		s       Settings
		setting string
		refused bool
	}{
		"plain":             {Settings{Listen: ":8080"}, "PARLEY_LISTEN", true},
		"plain-one-address": {Settings{Listen: "192.0.2.1:8080"}, "PARLEY_LISTEN", true},
		"plain-control":     {Settings{ControlListen: ":8082"}, "PARLEY_CONTROL_LISTEN", true},
		"plain-media":       {Settings{MediaListen: ":8083"}, "PARLEY_MEDIA_LISTEN", true},
		"loopback":          {Settings{Listen: "127.0.0.1:8080"}, "PARLEY_LISTEN", false},
		"tls":               {Settings{Listen: ":8080", TLSCert: "c.pem", TLSKey: "k.pem"}, "PARLEY_LISTEN", false},
		"proxy":             {Settings{Listen: ":8080", BehindProxy: true, TrustedProxies: []string{"192.0.2.7"}}, "PARLEY_LISTEN", false},
		"proxy-of-nobody":   {Settings{Listen: ":8080", BehindProxy: true}, "PARLEY_TRUSTED_PROXIES", true},
		"secret":            {Settings{OpenAIKey: plain}, "PARLEY_PLAIN_SECRETS", true},
		"vault-token":       {Settings{VaultToken: plain}, "PARLEY_PLAIN_SECRETS", true},
		"allowed":           {Settings{OpenAIKey: plain, PlainSecrets: "allow"}, "PARLEY_PLAIN_SECRETS", false},
		"reference":         {Settings{OpenAIKey: "vault://kv/parley#openai", VaultToken: "file:///run/vault"}, "PARLEY_PLAIN_SECRETS", false},
	} {
		said := tt.s.unsafe().Error() // of all else that is missing, too
		if strings.Contains(said, "\n  "+tt.setting+" ") != tt.refused || strings.Contains(said, plain) {
			t.Errorf("%s: want refused %v: %s", name, tt.refused, said)
		}
	}
}

// parley tokens rotate has tokens signed with another key, and takes the keys
// before as long as their tokens live, or not any more.
func TestTokensCommand(t *testing.T) {
	w := newWired(t)
	rotate := func(args ...string) (out struct {
		KID     string
		Keys    int
		Revoked bool
	}) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		args = append([]string{"tokens", "rotate", "--json", "--database-url", w.db.AppURL, "--key-file", file(t, strings.Repeat("k", 32))}, args...)
		if status := run(t.Context(), args, stdio{strings.NewReader(""), &stdout, &stderr}); status != exitOK {
			t.Fatalf("%d: %s", status, &stderr)
		}
		if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	first, second, last := rotate(), rotate(), rotate("--revoke")
	if first.KID == second.KID || second.KID == last.KID || first.KID == "" {
		t.Errorf("the same key again: %v, %v, %v", first, second, last)
	}
	if second.Keys <= first.Keys && second.Keys < 2 || last.Keys != 1 || !last.Revoked {
		t.Errorf("published: %v, %v, then revoked %v", first, second, last)
	}
	var set struct{ Keys []struct{ Kid string } }
	got := w.ask(sending{method: "GET", path: "/.well-known/jwks.json"})
	if err := json.Unmarshal([]byte(got.body), &set); err != nil || len(set.Keys) != 1 || set.Keys[0].Kid != last.KID {
		t.Errorf("the program publishes %d %s, want %s alone", got.status, got.body, last.KID)
	}
}
