package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// healthy are settings that nothing is wrong with but what only the world has:
// a public name and its certificate.
func healthy(t *testing.T) Settings {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, bytes.Repeat([]byte("k"), 32), 0o600); err != nil {
		t.Fatal(err)
	}
	up := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(up.Close)
	return Settings{Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:8081", PublicURL: "https://voice.invalid", Data: dir, KeyFile: key,
		DatabaseURL: databases.New(t).AppURL, RedisURL: "redis://" + miniredis.RunT(t).Addr(), RTCPort: 0,
		TwilioAccountSID: "AC" + strings.Repeat("0", 32), TwilioAuthToken: strings.Repeat("1", 32), TwilioBaseURL: up.URL,
		OpenAIKey: "anything", OpenAIBaseURL: up.URL, PlainSecrets: "allow"}
}

func (s Settings) found(t *testing.T) map[string]finding {
	t.Helper()
	all := map[string]finding{}
	for _, f := range examine(t.Context(), s.checks(), 3*time.Second) {
		if f.State != statePass && f.Cure == "" {
			t.Errorf("%s: %s %q without a cure", f.Check, f.State, f.Said)
		}
		all[f.Check] = f
	}
	return all
}

func TestDoctor(t *testing.T) {
	s := healthy(t)
	for name, f := range s.found(t) {
		want := statePass
		switch name {
		case "public-address": // .invalid leads nowhere
			want = stateFail
		case "media", "proxies", "data-folder": // by the machine
			continue
		}
		if f.State != want {
			t.Errorf("%s: %s %q, want %s", name, f.State, f.Said, want)
		}
	}
	var out, errs bytes.Buffer
	args := []string{"doctor", "--json", "--database-url", s.DatabaseURL, "--redis-url", s.RedisURL, "--key-file", s.KeyFile, "--data", s.Data,
		"--public-url", s.PublicURL, "--timeout", "3s"}
	if status := run(t.Context(), args, stdio{strings.NewReader(""), &out, &errs}); status != exitFailed {
		t.Errorf("exit status %d, want %d: the public address is not reached\n%s", status, exitFailed, errs.String())
	}
	var got struct {
		Checks     []finding
		Checklists []checklist
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got.Checks) < 15 || len(got.Checklists) != 3 {
		t.Errorf("%v, %d checks, %d checklists:\n%s", err, len(got.Checks), len(got.Checklists), out.String())
	}
	out.Reset()
	if run(t.Context(), append(args, "--json=false"), stdio{strings.NewReader(""), &out, &errs}); !strings.Contains(out.String(), "fail  public-address") ||
		!strings.Contains(out.String(), "Deployment") || !strings.Contains(out.String(), "[look]") {
		t.Errorf("printed:\n%s", out.String())
	}
	if status := run(t.Context(), []string{"doctor", "--made-up"}, stdio{strings.NewReader(""), &out, &errs}); status != exitUsage {
		t.Errorf("exit status of a wrong call: %d, want %d", status, exitUsage)
	}
}

// Each fault is found, named, and cured in words that hold no secret.
func TestDoctorFailures(t *testing.T) {
	db := databases.New(t)
	answers := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = deaf.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	media, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = media.Close() })
	const secret = "c4nary8d2f1e7"
	short, open := filepath.Join(t.TempDir(), "short"), filepath.Join(t.TempDir(), "open")
	if os.WriteFile(short, []byte("k"), 0o600) != nil || os.WriteFile(open, bytes.Repeat([]byte("k"), 32), 0o600) != nil || os.Chmod(open, 0o644) != nil {
		t.Fatal("write key files")
	}
	for _, tt := range []struct {
		name, check, state, said string
		spoil                    func(*Settings)
	}{
		{"incomplete", "settings", stateFail, "missing or unsafe", func(s *Settings) { s.DatabaseURL, s.PublicURL = "", "http://x.example" }},
		{"no-key-file", "key-file", stateFail, "no key file", func(s *Settings) { s.KeyFile = "" }},
		{"key-file-gone", "key-file", stateFail, "cannot be read", func(s *Settings) { s.KeyFile = "/nowhere/key" }},
		{"short-key", "key-file", stateFail, "32 bytes", func(s *Settings) { s.KeyFile = short }},
		{"open-key", "key-file", stateFail, "others of this machine", func(s *Settings) { s.KeyFile = open }},
		{"superuser", "database", stateFail, "superuser", func(s *Settings) { s.DatabaseURL = db.SuperURL }},
		{"owner", "database", stateFail, "owns tables", func(s *Settings) { s.DatabaseURL = db.MigrateURL }},
		{"database-gone", "database", stateFail, "does not answer", func(s *Settings) { s.DatabaseURL = "postgres://u:" + secret + "@" + gone.Addr().String() + "/x" }},
		{"database-malformed", "database", stateFail, "malformed", func(s *Settings) { s.DatabaseURL = "postgres://u:" + secret + "@[::/x" }},
		{"server-gone", "database-server", stateFail, "does not answer", func(s *Settings) { s.DatabaseURL = "postgres://u:" + secret + "@" + gone.Addr().String() + "/x" }},
		{"notifications-gone", "notifications", stateFail, "does not answer", func(s *Settings) {
			s.DatabaseListenURL = "postgres://u:" + secret + "@" + gone.Addr().String() + "/x"
		}},
		{"redis-gone", "redis", stateFail, "does not answer", func(s *Settings) { s.RedisURL = "redis://:" + secret + "@" + gone.Addr().String() }},
		{"redis-malformed", "redis", stateFail, "malformed", func(s *Settings) { s.RedisURL = "http://" + secret }},
		{"redis-none", "redis", stateFail, "no Redis", func(s *Settings) { s.RedisURL = "" }},
		{"vault-gone", "vault", stateFail, "does not answer", func(s *Settings) { s.VaultAddr = "http://" + gone.Addr().String() }},
		{"vault-deaf", "vault", stateFail, "no answer in time", func(s *Settings) { s.VaultAddr = "http://" + deaf.Addr().String() }},
		{"vault-sealed", "vault", stateFail, "sealed", func(s *Settings) { s.VaultAddr = answers(503) }},
		{"vault-new", "vault", stateFail, "not initialized", func(s *Settings) { s.VaultAddr = answers(501) }},
		{"vault-other", "vault", stateFail, "status 404", func(s *Settings) { s.VaultAddr = answers(404) }},
		{"vault-well", "vault", statePass, "unsealed", func(s *Settings) { s.VaultAddr = answers(200) }},
		{"public-none", "public-address", stateFail, "no public address", func(s *Settings) { s.PublicURL = "" }},
		{"public-certificate", "public-address", stateFail, "certificate", func(s *Settings) { s.PublicURL = untrusted.URL }},
		{"public-other", "public-address", stateFail, "status 404", func(s *Settings) { s.PublicURL = answers(404) }},
		{"public-plain", "public-address", stateFail, "not under TLS", func(s *Settings) { s.PublicURL = answers(200) }},
		{"listen-everywhere", "listeners", stateWarn, "everywhere", func(s *Settings) { s.Listen = ":8080" }},
		{"listen-tls", "listeners", statePass, "TLS", func(s *Settings) { s.Listen, s.TLSCert, s.TLSKey = ":8080", "c.pem", "k.pem" }},
		{"listen-behind-proxy", "listeners", statePass, "192.0.2.7", func(s *Settings) { s.Listen, s.BehindProxy, s.TrustedProxies = ":8080", true, []string{"192.0.2.7"} }},
		{"listen-malformed", "listeners", stateFail, "malformed", func(s *Settings) { s.Listen = "8080" }},
		{"admin-everywhere", "admin-listener", stateWarn, "all addresses", func(s *Settings) { s.AdminListen = ":8081" }},
		{"admin-same", "admin-listener", stateFail, "public listener", func(s *Settings) { s.AdminListen = s.Listen }},
		{"no-folder", "data-folder", stateFail, "cannot be looked at", func(s *Settings) { s.Data = "/nowhere" }},
		{"media-taken", "media", stateWarn, "cannot be had", func(s *Settings) { s.RTCPort = media.LocalAddr().(*net.UDPAddr).Port }},
		{"media-any", "media", stateWarn, "another one at each start", func(s *Settings) { s.RTCPort = 0 }},
		{"media-malformed", "media", stateFail, "malformed", func(s *Settings) { s.RTCPort, s.RTCAddr = 61234, "x" }},
		{"twilio-account", "twilio", stateFail, "ACCOUNT_SID", func(s *Settings) { s.TwilioAccountSID = secret }},
		{"twilio-token", "twilio", stateFail, "AUTH_TOKEN", func(s *Settings) { s.TwilioAuthToken = secret }},
		{"twilio-gone", "twilio", stateFail, "not reached", func(s *Settings) { s.TwilioBaseURL = "http://" + gone.Addr().String() }},
		{"openai-key", "openai", stateFail, "does not look like one", func(s *Settings) { s.OpenAIKey, s.OpenAIBaseURL = secret, "" }},
		{"openai-gone", "openai", stateFail, "not reached", func(s *Settings) { s.OpenAIKey, s.OpenAIBaseURL = secret, "http://"+gone.Addr().String() }},
		{"deepgram-key", "deepgram", stateFail, "does not look like one", func(s *Settings) { s.DeepgramKey = secret }},
		{"elevenlabs-certificate", "elevenlabs", stateFail, "not reached", func(s *Settings) { s.ElevenLabsKey, s.ElevenLabsBaseURL = secret, untrusted.URL }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := Settings{Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:8081", DatabaseURL: db.AppURL, TwilioAccountSID: "AC" + strings.Repeat("0", 32), TwilioAuthToken: strings.Repeat("1", 32)}
			tt.spoil(&s)
			for _, c := range s.checks() {
				if c.name != tt.check {
					continue
				}
				f := examine(t.Context(), []check{c}, time.Second)[0]
				if f.State != tt.state || !strings.Contains(f.Said, tt.said) || f.State != statePass && f.Cure == "" {
					t.Errorf("%s %q (%s), want %s and %q", f.State, f.Said, f.Cure, tt.state, tt.said)
				}
				if strings.Contains(f.Said+f.Cure, secret) {
					t.Errorf("the doctor tells a secret: %q %q", f.Said, f.Cure)
				}
			}
		})
	}
}
