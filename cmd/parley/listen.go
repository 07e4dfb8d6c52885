package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"parley/control/api"
	"parley/control/ingress"
)

// A door is a listener with the part of the routes that it serves.
type door struct {
	plane    api.Plane
	listener net.Listener
	server   *http.Server
}

// listen takes the ports first: that another process has them should be said
// before anything is started for long.
func (g *gateway) listen(ctx context.Context) error {
	config, err := g.settings.tls(g.log)
	if err != nil {
		return err
	}
	for _, at := range []struct {
		plane         api.Plane
		address, flag string
	}{
		{api.PublicPlane, g.settings.Listen, "--listen"},
		{api.ControlPlane, g.settings.ControlListen, "--control-listen"},
		{api.MediaPlane, g.settings.MediaListen, "--media-listen"},
		{api.InternalPlane, g.settings.AdminListen, "--admin-listen"},
	} {
		if at.address == "" {
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", at.address)
		if err != nil {
			return fmt.Errorf("%s cannot be listened on (%w): stop what uses it, or choose another with %s", at.address, bare(err), at.flag)
		}
		l = ingress.Listener{Listener: l, Secure: strings.HasPrefix(g.settings.PublicURL, "https://")}
		if config != nil {
			with := config
			if at.plane == api.InternalPlane && g.settings.AdminClientCA != "" {
				with = config.Clone()
				if err := ingress.RequireClients(with, g.settings.AdminClientCA); err != nil {
					_ = l.Close()
					return err
				}
			}
			l = tls.NewListener(l, with)
		}
		g.doors = append(g.doors, &door{plane: at.plane, listener: l})
	}
	return nil
}

// address is where the public listener listens.
func (g *gateway) address() string { return g.doors[0].listener.Addr().String() }

// apart are the planes with a listener of their own.
func (g *gateway) apart() (list []api.Plane) {
	for _, d := range g.doors {
		list = append(list, d.plane)
	}
	return list
}

// bare is the reason alone of a network error, "address already in use".
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// tls is what all listeners speak; nil for none.
func (s Settings) tls(log *slog.Logger) (*tls.Config, error) {
	if s.TLSCert == "" {
		return nil, nil
	}
	cert, err := ingress.LoadCertificate(s.TLSCert, s.TLSKey, log)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_TLS_CERT and PARLEY_TLS_KEY: %w", err)
	}
	return cert.Config(), nil
}

// proxies are who may speak for clients.
func (s Settings) proxies() (ingress.Proxies, error) {
	trusted, err := ingress.ParsePrefixes(s.TrustedProxies)
	if err != nil {
		return ingress.Proxies{}, fmt.Errorf("PARLEY_TRUSTED_PROXIES: %w", err)
	}
	return ingress.Proxies{Trusted: trusted, Hops: s.ProxyHops, Header: s.ProxyHeader, Require: s.BehindProxy}, nil
}

// gate is what requests meet first.
func (g *gateway) gate(key []byte) (api.Gate, error) {
	proxies, err := g.settings.proxies()
	if err != nil {
		return api.Gate{}, err
	}
	internal, err := g.internalAuth()
	if err != nil {
		return api.Gate{}, err
	}
	g.pseudonyms = key
	g.blocks = &ingress.Blocks{List: g.redis, Exempt: proxies.Trusts, Log: g.log}
	gate := api.Gate{Proxies: proxies, Blocks: g.blocks, Metrics: ingress.NewMetrics(g.metrics), Key: key, Internal: internal, Apart: g.apart()}
	gate.Watch = &ingress.Watch{Seen: g.redis, Blocks: g.blocks, BlockFor: g.settings.BlockFor, Key: key, Raise: g.alert(key, gate.Metrics)}
	return gate, nil
}

// internalAuth checks who asks on the admin listener: by the token in a file,
// read anew for each request, or by a client's certificate, which the listener
// has verified. Under parley dev without either, anybody may; in production
// nobody.
func (g *gateway) internalAuth() (func(*http.Request) bool, error) {
	s := g.settings
	if s.AdminTokenFile == "" && s.AdminClientCA == "" && g.dev {
		return nil, nil
	}
	if s.AdminTokenFile != "" {
		if _, err := readToken(s.AdminTokenFile); err != nil {
			return nil, err
		}
	}
	return func(r *http.Request) bool {
		if s.AdminClientCA != "" && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			return true
		}
		bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || s.AdminTokenFile == "" {
			return false
		}
		want, err := readToken(s.AdminTokenFile)
		if err != nil {
			g.log.Error("nobody may ask on the admin listener", "err", err)
			return false
		}
		a, b := sha256.Sum256([]byte(bearer)), sha256.Sum256(want) // hides the length too
		return subtle.ConstantTimeCompare(a[:], b[:]) == 1
	}, nil
}

// readToken reads a bearer token of at least 32 characters.
func readToken(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_ADMIN_TOKEN_FILE: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) < 32 {
		return nil, errors.New("PARLEY_ADMIN_TOKEN_FILE: the token must have at least 32 characters, as made by: openssl rand -hex 32 > FILE")
	}
	return text, nil
}

// loopback reports whether a listen address is this machine's alone.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
