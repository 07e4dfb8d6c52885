// Command service is the library that the book bot calls, on this machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"parley/examples/bookbot/library"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9100", "host:port to answer at")
	key := flag.String("key", ".parley/internal.key", "file of the key that is shared with the gateway")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, *key); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// serve answers until ctx ends.
func serve(ctx context.Context, listen, keyFile string) error {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("%w: start the gateway with PARLEY_INTERNAL_URL=http://%s first, which makes it", err, listen)
	}
	books, err := library.New(key, nil)
	if err != nil {
		return err
	}
	s := &http.Server{Addr: listen, Handler: logged(books.Handler()), ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- s.ListenAndServe() }()
	slog.Info("the library is open", "address", "http://"+listen)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err = s.Shutdown(ctx)
	<-ended // http.ErrServerClosed
	return err
}

// logged tells of each request: its route and how it was answered, nothing of
// what is in it.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(s, r)
		slog.Info("answered", "route", r.Pattern, "status", s.status)
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
