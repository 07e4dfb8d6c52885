package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"parley/agent/llm"
	"parley/agent/stt"
	"parley/agent/tts"
	"parley/control/egress"
)

// vendorAnswer is the largest answer of a vendor that is taken: an hour of
// speech is less.
const vendorAnswer = 256 << 20

// vendorTransport reaches the vendors that are configured, over TLS 1.2 or
// later, and nobody else: keys and voices go nowhere that a redirect or an
// answer names.
func vendorTransport(urls map[string]string, log *slog.Logger) http.RoundTripper {
	return &egress.Guard{
		// No timeout of the whole: streams live for a turn, and every request has
		// its own limits.
		Next: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64, MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 3 * time.Second, ResponseHeaderTimeout: 15 * time.Second,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		},
		Hosts: hostsOf(urls), MaxResponse: vendorAnswer,
		Refused: func(ctx context.Context, r *egress.Refusal) {
			log.WarnContext(ctx, "a vendor's request refused: its host is not configured", "host", r.Host)
		},
	}
}

// hostsOf lists the hosts of vendors, as set, or their own. Local vendors have
// none. Speech by websocket needs no list: its dialer follows no redirects.
func hostsOf(urls map[string]string) (hosts []string) {
	own := map[string]string{}
	for name, v := range stt.Vendors {
		own[name] = v.DefaultURL
	}
	for name, v := range tts.Vendors {
		own[name] = v.DefaultURL
	}
	for name, v := range llm.Vendors {
		own[name] = v.DefaultURL
	}
	for name, address := range own {
		u, err := url.Parse(cmp.Or(urls[name], address))
		if err != nil || u.Hostname() == "" {
			continue
		}
		host := u.Hostname()
		if u.Port() != "" {
			host = net.JoinHostPort(host, u.Port())
		}
		hosts = append(hosts, host)
	}
	return hosts
}
