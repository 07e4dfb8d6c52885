package main

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/url"
	"strings"
)

// A transport is one way in or out, and what protects it.
type transport struct {
	Name    string `json:"name"`    // "listen", "database"
	Address string `json:"address"` // without path or password
	TLS     string `json:"tls"`     // in a few words
	Safe    bool   `json:"safe"`    // encrypted, or within this machine
}

// transports lists every listener and every fixed way out with its TLS.
func (s Settings) transports() []transport {
	var list []transport
	for _, l := range []struct{ name, address string }{
		{"listen", s.Listen}, {"control-listen", s.ControlListen}, {"media-listen", s.MediaListen}, {"admin-listen", s.AdminListen},
	} {
		if l.address != "" {
			list = append(list, s.listens(l.name, l.address))
		}
	}
	list = append(list, transport{"webrtc", net.JoinHostPort(s.RTCBind, "udp"), "DTLS-SRTP", true})
	for _, out := range []struct{ name, address, usual string }{
		{"redis", s.RedisURL, ""}, {"vault", s.VaultAddr, ""}, {"internal", s.InternalURL, ""},
		{"twilio", s.TwilioBaseURL, "https://api.twilio.com"}, {"openai", s.OpenAIBaseURL, "https://api.openai.com"},
		{"deepgram", s.DeepgramBaseURL, "https://api.deepgram.com"}, {"elevenlabs", s.ElevenLabsBaseURL, "https://api.elevenlabs.io"},
	} {
		if address := cmp.Or(out.address, out.usual); address != "" {
			list = append(list, goesOut(out.name, address))
		}
	}
	for _, db := range []struct{ name, address string }{{"database", s.DatabaseURL}, {"database-listen", s.DatabaseListenURL}} {
		if db.address != "" {
			list = append(list, transport{db.name, hostOf(db.address), databaseTLS(db.address), safeDatabase(db.address)})
		}
	}
	return list
}

// listens says what protects a listener.
func (s Settings) listens(name, address string) transport {
	switch {
	case s.TLSCert != "" && name == "admin-listen" && s.AdminClientCA != "":
		return transport{name, address, "1.2 or later, with a client's certificate", true}
	case s.TLSCert != "":
		return transport{name, address, "1.2 or later", true}
	case loopback(address):
		return transport{name, address, "none; this machine alone", true}
	case s.BehindProxy && name != "admin-listen":
		return transport{name, address, "none; through trusted proxies alone", true}
	}
	return transport{name, address, "none", false}
}

// goesOut says what protects requests to an address.
func goesOut(name, address string) transport {
	t := transport{Name: name, Address: hostOf(address), TLS: "none"}
	u, err := url.Parse(address)
	switch {
	case err != nil:
	case u.Query().Has("skip_verify"):
		t.TLS = "certificate not verified"
	case u.Scheme == "https" || u.Scheme == "rediss" || u.Scheme == "wss":
		t.TLS, t.Safe = "1.2 or later, certificate verified", true
	case u.Scheme == "unix":
		t.Address, t.TLS, t.Safe = u.Path, "none; this machine alone", true
	case u.Hostname() == "localhost" || loopback(net.JoinHostPort(u.Hostname(), "0")):
		t.TLS, t.Safe = "none; this machine alone", true
	}
	return t
}

func databaseTLS(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "unknown"
	}
	switch mode := u.Query().Get("sslmode"); mode {
	case "verify-full", "verify-ca", "require":
		return mode
	case "":
		return "none asked for (sslmode)"
	default:
		return "sslmode " + mode
	}
}

// hostOf is an address's host and port alone.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "malformed"
	}
	if h := u.Query().Get("host"); u.Host == "" && h != "" {
		return h
	}
	return strings.TrimSuffix(u.Host, ":")
}

// reportTransports logs them at the start.
func (s Settings) reportTransports(ctx context.Context, log *slog.Logger) {
	for _, t := range s.transports() {
		level := slog.LevelInfo
		if !t.Safe {
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "transport", "name", t.Name, "address", t.Address, "tls", t.TLS, "safe", t.Safe)
	}
}
