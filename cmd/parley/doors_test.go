package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/control/api"
)

// doors serves a wired program's listeners, and nothing else of it.
func (w *wired) doors() map[api.Plane]string {
	at := map[api.Plane]string{}
	for _, d := range w.gateway.doors {
		done := make(chan error, 1)
		go func() { done <- d.server.Serve(d.listener) }()
		w.t.Cleanup(func() {
			_ = d.server.Close()
			if err := <-done; !errors.Is(err, http.ErrServerClosed) {
				w.t.Error(err)
			}
		})
		at[d.plane] = d.listener.Addr().String()
	}
	return at
}

// An asker asks a port from an address of this machine.
type asker struct {
	from string // an address of this machine
	tls  *tls.Config
}

// get returns the status; 0 for no answer.
func (c asker) get(t *testing.T, address, path string, header ...string) int {
	t.Helper()
	scheme := "http://"
	if c.tls != nil {
		scheme = "https://"
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", scheme+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: from.DialContext, TLSClientConfig: c.tls, DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

const doorToken = "0123456789abcdef0123456789abcdef"

// Each plane is answered by its own port and by no other; behind a proxy, to
// nobody but the proxy, whatever else says who it is.
func TestDoorsBehindProxy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(doorToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWired(t, func(s *Settings) {
		s.ControlListen, s.AdminTokenFile = "127.0.0.1:0", file
		s.BehindProxy, s.TrustedProxies = true, []string{"127.0.0.2"}
	})
	at := w.doors()
	stranger, proxy := asker{from: "127.0.0.3"}, asker{from: "127.0.0.2"}
	forwarded := []string{"X-Forwarded-For", "192.0.2.1"}
	public, plane, admin := at[api.PublicPlane], at[api.ControlPlane], at[api.InternalPlane]
	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	for name, tt := range map[string]struct {
		who           asker
		address, path string
		header        []string
		want          int
	}{
		"public":               {proxy, public, "/.well-known/security.txt", forwarded, 200},
		"control":              {proxy, plane, "/v1/agents", forwarded, 401},
		"control-at-public":    {proxy, public, "/v1/agents", forwarded, 404},
		"docs-at-public":       {proxy, public, "/openapi.json", forwarded, 404},
		"public-at-control":    {proxy, plane, "/.well-known/security.txt", forwarded, 404},
		"unnamed":              {proxy, public, "/.well-known/security.txt", nil, 403},
		"malformed":            {proxy, public, "/.well-known/security.txt", []string{"X-Forwarded-For", "evil"}, 403},
		"other-header":         {proxy, public, "/.well-known/security.txt", []string{"Forwarded", "for=192.0.2.1"}, 403},
		"stranger":             {stranger, public, "/.well-known/security.txt", nil, 403},
		"stranger-forges":      {stranger, public, "/.well-known/security.txt", forwarded, 403},
		"stranger-at-control":  {stranger, plane, "/v1/agents", append(bearer("parley_x"), forwarded...), 403},
		"stranger-at-no-route": {stranger, public, "/nowhere", forwarded, 403},
		"probe":                {stranger, public, "/livez", nil, 200},
		"probe-of-control":     {stranger, plane, "/livez", nil, 200},
		"metrics-at-public":    {proxy, public, "/metrics", append(bearer(doorToken), forwarded...), 404},
		"metrics-at-control":   {proxy, plane, "/metrics", append(bearer(doorToken), forwarded...), 404},
		"profile-at-public":    {proxy, public, "/debug/pprof/", append(bearer(doorToken), forwarded...), 404},
		"metrics":              {stranger, admin, "/metrics", bearer(doorToken), 200},
		"metrics-for-nobody":   {stranger, admin, "/metrics", nil, 401},
		"metrics-wrong-token":  {stranger, admin, "/metrics", bearer(doorToken + "0"), 401},
		"metrics-no-token":     {stranger, admin, "/metrics", bearer(""), 401},
		"control-at-admin":     {stranger, admin, "/v1/agents", bearer(doorToken), 404},
	} {
		if got := tt.who.get(t, tt.address, tt.path, tt.header...); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
	next := strings.Repeat("f", 32)
	if err := os.WriteFile(file, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	if old, now := stranger.get(t, admin, "/metrics", bearer(doorToken)...), stranger.get(t, admin, "/metrics", bearer(next)...); old != 401 || now != 200 {
		t.Errorf("with the old token %d, with the new one %d", old, now)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := stranger.get(t, admin, "/metrics", bearer(next)...); got != 401 {
		t.Errorf("without the file: %d", got)
	}
}

// With TLS nothing is answered without it; the admin listener wants a
// certificate of its authority besides. Where no other port is named, the
// public one has the control plane.
func TestDoorsTLS(t *testing.T) {
	dir := t.TempDir()
	ours, foreign := newAuthority(t), newAuthority(t)
	server, client, strange := ours.issue(t), ours.issue(t), foreign.issue(t)
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate, key := pemOf(t, server)
	w := newWired(t, func(s *Settings) {
		s.TLSCert, s.TLSKey = write("cert.pem", certificate), write("key.pem", key)
		s.AdminClientCA = write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.Raw}))
	})
	at := w.doors()
	roots := x509.NewCertPool()
	roots.AddCert(ours.Certificate)
	with := func(c ...tls.Certificate) asker {
		return asker{"127.0.0.1", &tls.Config{RootCAs: roots, Certificates: c, MinVersion: tls.VersionTLS12}}
	}
	old := asker{"127.0.0.1", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}} // what must be refused
	for name, tt := range map[string]struct {
		who   asker
		plane api.Plane
		path  string
		want  int
	}{
		"public":          {with(), api.PublicPlane, "/v1/agents", 401},
		"plain":           {asker{from: "127.0.0.1"}, api.PublicPlane, "/v1/agents", 400},
		"old-tls":         {old, api.PublicPlane, "/v1/agents", 0},
		"metrics-public":  {with(client), api.PublicPlane, "/metrics", 404},
		"admin":           {with(client), api.InternalPlane, "/metrics", 200},
		"admin-nobody":    {with(), api.InternalPlane, "/metrics", 0},
		"admin-foreign":   {with(strange), api.InternalPlane, "/metrics", 0},
		"admin-not-probe": {with(), api.InternalPlane, "/livez", 0},
	} {
		if got := tt.who.get(t, at[tt.plane], tt.path); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
	second := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: with().tls, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+at[api.PublicPlane]+"/v1/agents", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := second.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("who offers HTTP/2 and TLS 1.3 gets %s and %s", resp.Proto, tls.VersionName(resp.TLS.Version))
	}
}

// Without a token or an authority, serve answers nobody on the admin listener.
func TestAdminListenerIsClosed(t *testing.T) {
	for _, tt := range []struct{ dev, open bool }{{true, true}, {false, false}} {
		check, err := (&gateway{dev: tt.dev}).internalAuth()
		r := (&http.Request{Header: http.Header{"Authorization": {"Bearer "}}}).WithContext(context.Background())
		if err != nil || (check == nil) != tt.open || check != nil && check(r) {
			t.Errorf("dev %v: open %v, %v", tt.dev, check == nil, err)
		}
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{short, short + "not"} {
		if _, err := (&gateway{settings: Settings{AdminTokenFile: file}}).internalAuth(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
}

// An authority issues certificates.
type authority struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, a, a, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	return authority{a, key}
}

// issue makes a certificate for this machine, as server and client.
func (a authority) issue(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}},
		a.Certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func pemOf(t *testing.T, c tls.Certificate) (certificate, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
