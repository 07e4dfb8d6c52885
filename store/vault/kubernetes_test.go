package vault

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"parley/control"
)

// A cluster is a Vault that lets service accounts of Kubernetes in: a stand-in,
// since the real method asks an API server. Its wire is
// https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login.
type cluster struct {
	mu     sync.Mutex
	login  string         // the path that is asked to sign in
	space  string         // X-Vault-Namespace that it wants
	jwt    string         // that it takes
	logins []string       // JWTs that came
	tokens map[string]int // granted → requests made by it
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	refuse := func(code int, why string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{why}})
	}
	switch {
	case r.Header.Get("X-Vault-Namespace") != c.space:
		refuse(http.StatusNotFound, "no handler for route")
	case r.URL.Path == c.login:
		var in struct{ Role, JWT string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		c.logins = append(c.logins, in.JWT)
		if in.JWT != c.jwt || in.Role != "parley" || r.Header.Get("X-Vault-Token") != "" {
			refuse(http.StatusForbidden, "permission denied")
			return
		}
		token := "hvs.of-" + in.JWT
		c.tokens[token] = 0
		_ = json.NewEncoder(w).Encode(map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 3600, "renewable": true}})
	default:
		token := r.Header.Get("X-Vault-Token")
		if _, ok := c.tokens[token]; !ok {
			refuse(http.StatusForbidden, "permission denied")
			return
		}
		c.tokens[token]++
		_, _ = io.WriteString(w, `{"data":{"current_version":3,"versions":{}}}`)
	}
}

// revoke forgets all tokens, and takes another service account's token.
func (c *cluster) revoke(jwt string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jwt, c.tokens = jwt, map[string]int{}
}

// By Kubernetes, a pod signs in with the token of its service account, which is
// read from its file again at each sign-in, over TLS by the CA that was named,
// in its namespace and at its mount; nowhere else, and with nothing else.
func TestKubernetes(t *testing.T) {
	dir := t.TempDir()
	account := filepath.Join(dir, "token")
	put := func(name string, b []byte) string {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tt := range []struct{ name, mount, space, login string }{
		{"usual", "", "", "/v1/auth/kubernetes/login"},
		{"namespace-and-mount", "k8s/east", "team/voice", "/v1/auth/k8s/east/login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &cluster{login: tt.login, space: tt.space, jwt: "first", tokens: map[string]int{}}
			server := httptest.NewUnstartedServer(k)
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // that a client does not trust it is meant
			server.StartTLS()
			defer server.Close()
			ca := put(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
			put(account, []byte("first\n"))
			o := Options{Address: server.URL, Namespace: tt.space, CAFile: ca, Auth: &Kubernetes{Role: "parley", TokenFile: account, Mount: tt.mount}}
			newest := func(o Options) error {
				c, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := c.signIn(t.Context()); err != nil {
					return err
				}
				n, err := (KV{c, "kv"}).Newest(t.Context(), "parley/x")
				if err == nil && n != 3 {
					t.Errorf("newest version %d, want 3", n)
				}
				if k.revoke("second"); err == nil { // the token is projected anew, and the old lease gone
					put(account, []byte("second"))
					_, err = (KV{c, "kv"}).Newest(t.Context(), "parley/x")
				}
				return err
			}
			if err := newest(o); err != nil {
				t.Error(err)
			}
			if want := []string{"first", "second"}; !slices.Equal(k.logins, want) {
				t.Errorf("signed in by %q, want %q", k.logins, want)
			}
			for name, change := range map[string]func(*Options){
				"unknown CA":        func(o *Options) { o.CAFile = "" },
				"another namespace": func(o *Options) { o.Namespace = "other" },
				"another mount":     func(o *Options) { o.Auth = &Kubernetes{Role: "parley", TokenFile: account, Mount: "other"} },
				"another role":      func(o *Options) { o.Auth = &Kubernetes{Role: "root", TokenFile: account, Mount: tt.mount} },
				"no token":          func(o *Options) { o.Auth = &Kubernetes{Role: "parley", TokenFile: account + "-not", Mount: tt.mount} },
			} {
				other := o
				change(&other)
				if err := newest(other); err == nil {
					t.Errorf("%s: signed in", name)
				}
			}
			if _, err := New(Options{Address: server.URL, CAFile: account, Auth: Token(Fixed("x"))}); err == nil {
				t.Error("a CA file that holds no certificate is taken")
			}
			if err := newest(Options{Address: "https://127.0.0.1:1", CAFile: ca, Auth: o.Auth}); !errors.Is(err, control.ErrUnavailable) {
				t.Errorf("nobody there: %v, want ErrUnavailable", err)
			}
		})
	}
}
