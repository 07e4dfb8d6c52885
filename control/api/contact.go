package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"parley/control"
)

// contactFor is how long what it says is told to hold; RFC 9116 §2.5.5 wants
// less than a year.
const contactFor = 90 * 24 * time.Hour

// contact answers /.well-known/security.txt: where holes are reported (RFC 9116).
func (s *Server) contact() error {
	return s.Handle(Route{Method: "GET", Pattern: "/.well-known/security.txt", Class: Public, Permission: control.Anyone,
		Limit: Limit{60, time.Minute}, Body: NoBody, Summary: "Where to report security holes", Media: "text/plain"},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			host := "localhost"
			if u, err := url.Parse(s.o.PublicURL); err == nil {
				host = cmp.Or(u.Hostname(), host)
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = fmt.Fprintf(w, "Contact: %s\nExpires: %s\nPreferred-Languages: en\n", // the client is gone, or it is not
				cmp.Or(s.o.SecurityContact, "mailto:security@"+host), time.Now().Add(contactFor).UTC().Format(time.RFC3339))
			if s.secure {
				_, _ = fmt.Fprintf(w, "Canonical: %s/.well-known/security.txt\n", s.o.PublicURL)
			}
		}))
}
