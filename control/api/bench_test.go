package api_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"parley/control/api"
)

// BenchmarkGuard measures what a request passes before its handler, which does
// nothing here.
func BenchmarkGuard(b *testing.B) {
	s, err := api.New(api.Options{Limits: always{}, Log: slog.New(slog.DiscardHandler),
		Ready: func(context.Context) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/livez", nil)
	h := s.Handler()
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(&sink{header: http.Header{}}, r)
	}
}

type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}
