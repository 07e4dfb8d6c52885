package postgrestest

import (
	"net/url"
	"path/filepath"
	"testing"

	"parley/store/linetest"
)

// A Proxy is a line to a database that can be lost.
type Proxy struct {
	*linetest.Line
	AppURL string // the database's, through the line
}

// Proxy starts one, which ends with the test.
func (d Database) Proxy(t testing.TB) *Proxy {
	t.Helper()
	u, err := url.Parse(d.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	l := linetest.Start(t, "unix", filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port")))
	return &Proxy{l, (&url.URL{Scheme: "postgres", User: u.User, Host: l.Addr, Path: u.Path, RawQuery: "sslmode=disable"}).String()}
}
