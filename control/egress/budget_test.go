package egress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBudget(t *testing.T) {
	w := newWorld()
	w.serve(t, "api.example", "93.184.215.14", "80", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/again" {
			http.Redirect(rw, r, "/", http.StatusFound)
			return
		}
		io.WriteString(rw, strings.Repeat("a", 100))
	})
	c := w.client(t, Options{})
	tests := []struct {
		name, path string
		most       Amount
		fit        int    // requests that are answered
		why        string // the next is refused
	}{
		{"calls", "/", Amount{Calls: 2}, 2, "tenant.calls"},
		{"redirects", "/again", Amount{Calls: 3}, 1, "tenant.calls"},
		{"bytes", "/", Amount{Bytes: 250}, 3, "tenant.bytes"}, // the third overdraws
		{"none", "/", Amount{}, 5, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			meter := &LocalMeter{}
			ctx := WithBudgets(t.Context(), Budget{"flow", "f", time.Hour, Amount{}, meter}, Budget{"tenant", "t", time.Hour, tt.most, meter})
			get := func() error {
				_, err := c.Do(request(t, "GET", "http://api.example"+tt.path, "").WithContext(ctx))
				return err
			}
			for n := range tt.fit {
				if err := get(); err != nil {
					t.Fatalf("request %d: %v", n+1, err)
				}
			}
			var refused *Refusal
			if err := get(); (tt.why != "") != errors.As(err, &refused) || refused != nil && (refused.Reason != ReasonBudget || refused.Budget != tt.why) {
				t.Errorf("one too many: %+v, want %q", err, tt.why)
			}
		})
	}
}

type brokenMeter struct{}

func (brokenMeter) Spend(context.Context, string, time.Duration, [3]int64) ([3]int64, error) {
	return [3]int64{}, errors.New("away")
}

func TestBudgetOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Budget{"flow", "f", time.Hour, Amount{Time: 3 * time.Second}, &LocalMeter{Shared: brokenMeter{}}}
		ctx := WithBudgets(t.Context(), b)
		for _, took := range []time.Duration{2 * time.Second, 1500 * time.Millisecond} {
			if err := spend(ctx, "h", 0); err != nil {
				t.Fatal(err)
			}
			settle(ctx, 0, took)
		}
		var refused *Refusal
		if err := spend(ctx, "h", 0); !errors.As(err, &refused) || refused.Budget != "flow.seconds" {
			t.Errorf("after 3.5 of 3 s: %v", err)
		}
		time.Sleep(time.Hour)
		if err := spend(ctx, "h", 0); err != nil {
			t.Errorf("in the next hour: %v", err)
		}
	})
}
