package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
	"parley/control/egress"
)

func TestParseAmount(t *testing.T) {
	for text, want := range map[string]egress.Amount{
		"":                              {},
		"calls=5":                       {Calls: 5},
		"seconds=2, bytes=100,calls=10": {Calls: 10, Bytes: 100, Time: 2 * time.Second},
	} {
		if got, err := parseAmount(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"calls", "calls=0", "calls=-1", "calls=many", "euros=5", "calls=9999999999999999999"} {
		if _, err := parseAmount(text); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}

// Processes share what a flow and a tenant may spend; over it, a call is not
// made, and the conversation is told why.
func TestBudgetsOfFlowAndTenant(t *testing.T) {
	address, host, _ := slots(t)
	log := slog.New(slog.DiscardHandler)
	meter := &egress.LocalMeter{}
	process := func() *outside {
		o, err := newOutside(reach{allow: []string{host}}, nil, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		if o.bounds, err = readBounds(Settings{BudgetFlow: "calls=2", BudgetTenant: "calls=3"}, meter); err != nil {
			t.Fatal(err)
		}
		return o
	}
	here, there := process(), process()
	tenant, a, b := uuid.New(), uuid.New(), uuid.New()
	call := flow.Call{ID: "c", Method: "GET", URL: []flow.Part{{Text: address}}, Timeout: 5 * time.Second, Retry: flow.Retry{Attempts: 1}}
	for n, tt := range []struct {
		o      *outside
		tenant uuid.UUID
		flow   uuid.UUID
		why    string
	}{
		{here, tenant, a, ""}, {there, tenant, a, ""}, {here, tenant, a, "flow.calls"},
		{there, tenant, b, ""}, {here, tenant, b, "tenant.calls"},
		{here, uuid.New(), uuid.New(), ""},
	} {
		ctx := control.WithParty(t.Context(), control.Party{Tenant: tt.tenant, Flow: tt.flow})
		r := tt.o.performer(tt.tenant, log)(ctx, call)
		want := "success"
		if tt.why != "" {
			want = flow.OverBudget
		}
		if r.Outcome != want || r.Error != tt.why {
			t.Errorf("call %d: %s (%s), want %s (%s)", n+1, r.Outcome, r.Error, want, tt.why)
		}
	}
}

type oneAddress struct{}

func (oneAddress) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.215.14")}, nil
}

// A server that takes the connection and never answers: the caller has the
// fallback within timeout times tries, and a tenth of a second.
func TestServerThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := egress.New(egress.Options{Resolver: oneAddress{}, Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { // reads, and says nothing
				b := make([]byte, 1024)
				for {
					if _, err := theirs.Read(b); err != nil {
						return
					}
				}
			}()
			return ours, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		f, err := flow.Parse([]byte(`{"nodes": [
			{"id": "call", "type": "webhook", "content": {"url": "http://deaf.example/", "timeout": 2000, "retry": {"attempts": 3},
			 "fallback_response": {"n": "none"}, "response_mapping": {"n": "$.n"}}, "connections": {"fallback": "tell"}},
			{"id": "tell", "type": "message", "content": {"text": "We have {n}."}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		var said string
		host := effect.TextHost{Flow: f, Perform: (&effect.Performer{HTTP: sender{client: client}}).Perform,
			Commit: func(_ context.Context, st effect.Step) error { said += flow.Text(st.Messages()); return nil }}
		begun := time.Now()
		s, err := host.Turn(t.Context(), flow.New(f, flow.Init{ID: "s"}), flow.Start{At: now()})
		if took := time.Since(begun); err != nil || said != "We have none." || took > 3*2*time.Second+100*time.Millisecond {
			t.Errorf("%q after %v: %v", said, took, err)
		}
		if s.System.Spent.Calls != 3 {
			t.Errorf("spent %+v", s.System.Spent)
		}
	})
}
