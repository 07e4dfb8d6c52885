package control_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/control"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

// behind opens the desk's calls on a database that can be lost.
func behind(t *testing.T) (*desk, *control.Calls, *postgrestest.Proxy) {
	t.Helper()
	db := server.New(t)
	d := deskOn(t, db)
	proxy := db.Proxy(t)
	store, err := postgres.Open(t.Context(), proxy.AppURL, postgres.Options{MaxConns: 4, Connect: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return d, newCalls(store), proxy
}

// converse has a session leave n turns and commits behind, from the given ones.
func converse(ctx context.Context, v *control.Serving, from, n int) {
	for i := from; i < from+n; i++ {
		v.Journal.Turn(ctx, agent.Turn{Index: i, Speaker: "agent", Heard: fmt.Sprint("turn ", i)})
		v.Journal.Commit(ctx, agent.Commit{Revision: i + 1, Node: "n", Status: "active", State: []byte(`{}`), Hash: someHash})
	}
}

// check compares what is stored of a call with what its session left.
func (d *desk) check(c control.Call, turns int, reason string) {
	d.t.Helper()
	got, err := d.store.Turns(d.ctx, c.ID, -1, 200)
	if err != nil || len(got) != turns {
		d.t.Fatalf("%d turns, %v, want %d", len(got), err, turns)
	}
	for i, n := range got {
		if n.Index != i || n.Heard != fmt.Sprint("turn ", i) {
			d.t.Errorf("turn %d is %+v", i, n)
		}
	}
	conv, err := d.store.Conversation(d.ctx, c.ID)
	if err != nil || conv.Revision != turns {
		d.t.Errorf("revision %d, %v, want %d", conv.Revision, err, turns)
	}
	call, err := d.store.Call(d.ctx, c.ID)
	if err != nil || call.EndReason != reason || call.Status != control.CallEnded {
		d.t.Errorf("call %+v, %v, want it ended: %s", call, err, reason)
	}
}

// Postgres goes away while a call is in progress, in each way that it can, and
// comes back before or after the call's end: all of the call is written, in
// order, once.
func TestPostgresAwayDuringACall(t *testing.T) {
	ways := map[string]func(*postgrestest.Proxy){"down": (*postgrestest.Proxy).Cut, "hangs": (*postgrestest.Proxy).Hang}
	for name, lose := range ways {
		for _, when := range []string{"back-during-the-call", "back-after-it"} {
			t.Run(name+"-"+when, func(t *testing.T) {
				t.Parallel()
				d, calls, proxy := behind(t)
				c := d.arrive()
				ctx, v, err := calls.Begin(t.Context(), c.ID.String(), func(string) {})
				if err != nil {
					t.Fatal(err)
				}
				converse(ctx, v, 0, 2)
				lose(proxy)
				converse(ctx, v, 2, 20)
				short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if _, err := calls.Arrive(short, control.Arrival{Carrier: "twilio", CarrierCallID: "CA2", To: "+15550001111"}); err == nil {
					t.Error("a new call is taken in without storage")
				}
				if when == "back-during-the-call" {
					proxy.Restore()
				}
				converse(ctx, v, 22, 2)
				_ = calls.Finish(short, v, agent.Ending{Reason: "goodbye"}, "") // written later, if not now
				proxy.Restore()
				long, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if err := v.Journal.Close(long); err != nil {
					t.Fatal(err)
				}
				d.check(c, 24, "goodbye")
			})
		}
	}
}

// The process must end while Postgres is away: the next one on the machine
// writes what it left, before it serves a call.
func TestRecordsOutliveTheProcess(t *testing.T) {
	d, calls, proxy := behind(t)
	calls.Spool = filepath.Join(t.TempDir(), "unwritten.jsonl")
	c := d.arrive()
	ctx, v, err := calls.Begin(t.Context(), c.ID.String(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	converse(ctx, v, 0, 5)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = calls.Finish(ended, v, agent.Ending{Reason: "drain"}, "")
	if err := calls.Run(ended); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(calls.Spool)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the spool: %v, %v", info, err)
	}
	proxy.Restore()

	next := newCalls(d.store)
	next.Spool = calls.Spool
	if err := next.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.check(c, 5, "drain")
	if _, err := os.Stat(calls.Spool); !os.IsNotExist(err) {
		t.Errorf("the spool is still there: %v", err)
	}
}

// While records of an earlier process wait, no call begins: it would not know
// what was said before. A damaged file does not keep the process from serving.
func TestRecordsOfAnEarlierProcessComeFirst(t *testing.T) {
	d, calls, proxy := behind(t)
	c := d.arrive()
	calls.Spool = filepath.Join(t.TempDir(), "unwritten.jsonl")
	tenant, _ := control.TenantOf(d.ctx)
	line := fmt.Sprintf(`{"tenant":%q,"hold":{"call":%q,"generation":0},"turn":{"Index":0,"Speaker":"caller","Heard":"turn 0"}}`, tenant, c.ID)
	if err := os.WriteFile(calls.Spool, []byte(line+"\n"+line[:40]), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	if err := calls.Recover(t.Context()); err == nil {
		t.Error("recovered without storage")
	}
	proxy.Restore()
	if _, _, err := calls.Begin(t.Context(), c.ID.String(), func(string) {}); err == nil || !strings.Contains(err.Error(), "earlier") {
		t.Errorf("began with %v, want the records first", err)
	}
	if err := calls.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, v, err := calls.Begin(t.Context(), c.ID.String(), func(string) {})
	if err != nil || v.FirstTurn != 1 {
		t.Fatalf("began with %v at turn %d, want 1", err, v.FirstTurn)
	}
	if err := calls.Finish(t.Context(), v, agent.Ending{Reason: "caller"}, ""); err != nil {
		t.Error(err)
	}
}
