package main

import (
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A fickle vendor stands before a stand-in, and fails as real ones do: of 100
// requests it refuses three, is too busy for two, never answers two, and cuts
// eight off in the middle. The rest it passes on.
type fickle struct {
	proxy  *httputil.ReverseProxy
	failed atomic.Int64
	passed atomic.Int64
}

// beFickle returns the address of a fickle vendor before the one at address.
func beFickle(t *testing.T, address string) (string, *fickle) {
	t.Helper()
	u, err := url.Parse(strings.TrimSuffix(address, "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fickle{proxy: httputil.NewSingleHostReverseProxy(u)}
	f.proxy.FlushInterval = -1
	f.proxy.ErrorLog = log.New(io.Discard, "", 0)
	f.proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL + strings.TrimPrefix(address, u.String()), f
}

// ServeHTTP implements [http.Handler].
func (f *fickle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	luck := rand.IntN(100)
	if luck >= 15 {
		f.passed.Add(1)
		f.proxy.ServeHTTP(w, r)
		return
	}
	f.failed.Add(1)
	switch {
	case luck < 2:
		http.Error(w, `{"error":{"message":"the server had an error"}}`, http.StatusInternalServerError)
	case luck < 3:
		panic(http.ErrAbortHandler)
	case luck < 5:
		w.Header().Set("Retry-After", "1")
		http.Error(w, `{"error":{"message":"slow down"}}`, http.StatusTooManyRequests)
	case luck < 7:
		select { // for longer than anybody waits
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
		}
	default:
		ctx, cancel := context.WithTimeout(r.Context(), rand.N(400*time.Millisecond))
		defer cancel()
		f.proxy.ServeHTTP(w, r.WithContext(ctx))
	}
}
