package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// All watchers of a tenant get what one of them has read, once in a beat; those
// of another tenant get theirs, and who leaves takes nobody's figures along.
func TestLiveFiguresAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n figuresNow
		var reads atomic.Int32
		read := func(ctx context.Context) ([]byte, error) {
			time.Sleep(100 * time.Millisecond)
			tenant, _ := control.TenantOf(ctx)
			return fmt.Appendf(nil, "%d of %v", reads.Add(1), tenant), ctx.Err()
		}
		a, b := uuid.UUID{1}, uuid.UUID{2}
		const watchers, beats = 20, 5
		first, leave := context.WithCancel(control.WithTenant(t.Context(), a))
		var work sync.WaitGroup
		work.Go(func() { _, _ = n.figures(first, read) })
		synctest.Wait()
		leave()
		for range watchers {
			for _, tenant := range []uuid.UUID{a, b} {
				work.Go(func() {
					ctx := control.WithTenant(t.Context(), tenant)
					for range beats {
						got, err := n.figures(ctx, read)
						if want := fmt.Sprint(" of ", tenant); err != nil || string(got[len(got)-len(want):]) != want {
							t.Errorf("%s, %v", got, err)
						}
						time.Sleep(liveBeat)
					}
				})
			}
		}
		work.Wait()
		if got := reads.Load(); got != 2*beats {
			t.Errorf("%d reads for %d watchers of 2 tenants in %d beats", got, 2*watchers, beats)
		}
		fails := errors.New("away")
		time.Sleep(liveBeat)
		if _, err := n.figures(control.WithTenant(t.Context(), a), func(context.Context) ([]byte, error) { return nil, fails }); !errors.Is(err, fails) {
			t.Errorf("a read that fails: %v", err)
		}
		time.Sleep(liveBeat)
		work.Go(func() {
			defer func() { _ = recover() }()
			_, _ = n.figures(control.WithTenant(t.Context(), a), func(context.Context) ([]byte, error) {
				time.Sleep(time.Millisecond)
				panic("in the store")
			})
		})
		synctest.Wait()
		if _, err := n.figures(control.WithTenant(t.Context(), a), read); err == nil {
			t.Error("who waits for a read that panics has no error")
		}
		work.Wait()
		time.Sleep(2 * time.Minute)
		if _, err := n.figures(control.WithTenant(t.Context(), a), read); err != nil || len(n.last) != 1 {
			t.Errorf("%v; %d tenants are remembered", err, len(n.last))
		}
	})
}
