package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"parley/control"
)

// stayCheck is how often it is asked again whether who follows a stream may: a
// key that was revoked, a session that has ended, a role that was taken away.
const stayCheck = 15 * time.Second

// errWithdrawn ends the stream of a client who may not follow it any more.
var errWithdrawn = errors.New("api: the permission was withdrawn")

type stayKey struct{}

// staying returns the context of a request to a stream, which can be asked by
// [Server.whileAllowed] whether its client may stay.
func (s *Server) staying(route Route, r *http.Request, p control.Principal) context.Context {
	asked := r // as it came, before anybody was found in it
	ask := func(ctx context.Context) error { return s.readmit(route, asked.WithContext(ctx), p) }
	return context.WithValue(r.Context(), stayKey{}, ask)
}

// readmit finds out whether who was let in as was would be let in now.
func (s *Server) readmit(route Route, r *http.Request, was control.Principal) error {
	p, err := s.identify(r, true)
	if err == nil && (p.Kind != was.Kind || p.ID != was.ID || p.Tenant != was.Tenant) {
		err = control.ErrCredentials
	}
	if err == nil {
		err = s.o.Tenants.Standing(r.Context(), p.Tenant)
	}
	if err != nil {
		return err
	}
	return s.permit(route, p)
}

// whileAllowed returns a context that ends with r, after life, and with
// [errWithdrawn] once its client may not follow any more. What cannot be found out
// now is asked again. leave ends it, and must be called.
func (s *Server) whileAllowed(r *http.Request, life time.Duration) (_ context.Context, leave func()) {
	ctx, cancel := context.WithTimeout(r.Context(), life)
	ask, ok := ctx.Value(stayKey{}).(func(context.Context) error)
	if !ok { // nobody was asked for anything
		return ctx, cancel
	}
	ctx, withdraw := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		every := s.o.StayCheck
		if every == 0 {
			every = stayCheck
		}
		check := time.NewTicker(every)
		defer check.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-check.C:
			}
			try, stop := context.WithTimeout(ctx, requestTime)
			err := ask(try)
			stop()
			if withdrawn(err) {
				withdraw(errWithdrawn)
				return
			}
		}
	}()
	return ctx, func() { withdraw(nil); cancel(); <-done }
}

// withdrawn tells a refusal from what may be otherwise in a moment.
func withdrawn(err error) bool {
	return errors.Is(err, control.ErrCredentials) || errors.Is(err, control.ErrForbidden) ||
		errors.Is(err, control.ErrSuspended) || errors.Is(err, control.ErrNotFound) || factorProblem(err) != nil
}
