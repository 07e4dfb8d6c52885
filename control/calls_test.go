package control_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

var server postgrestest.Server

func TestMain(m *testing.M) {
	if settings := os.Getenv(childEnv); settings != "" {
		os.Exit(runChild(settings))
	}
	os.Exit(server.Main(m))
}

type desk struct {
	*control.Calls
	t     *testing.T
	store *postgres.Store
	ctx   context.Context // with the tenant, to look at rows
}

func newCalls(store *postgres.Store) *control.Calls {
	return &control.Calls{Store: store, Changes: store, Records: store, Numbers: store, Commands: store,
		Agents: &control.Agents{Store: store, Flows: store}, Graphs: &control.Graphs{Store: store}, Log: slog.New(slog.DiscardHandler), Node: uuid.New()}
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	return deskOn(t, server.New(t))
}

func deskOn(t *testing.T, db postgrestest.Database) *desk {
	t.Helper()
	store, err := postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	tenant, ag := uuid.New(), uuid.New()
	ctx := control.WithTenant(t.Context(), tenant)
	for _, err := range []error{
		store.InsertTenant(t.Context(), identity.Tenant{ID: tenant, Name: "t"}, identity.User{ID: uuid.New(), Email: "a@b.c", Role: control.RoleOwner}),
		store.InsertAgent(ctx, control.Agent{ID: ag, Name: "desk", CreatedAt: time.Now(), Settings: control.AgentSettings{Kind: control.KindPrompt, Prompt: "x"}}),
		store.InsertNumber(ctx, control.Number{ID: uuid.New(), E164: "+15550001111", Agent: ag, CreatedAt: time.Now()}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return &desk{newCalls(store), t, store, ctx}
}

var ring = control.Arrival{Carrier: "twilio", CarrierCallID: "CA1", To: "+15550001111", From: "+15552223333"}

func (d *desk) arrive() control.Call {
	d.t.Helper()
	c, err := d.Arrive(d.t.Context(), ring)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func (d *desk) begin(c control.Call) (context.Context, *control.Serving) {
	d.t.Helper()
	ctx, v, err := d.Begin(d.t.Context(), c.ID.String(), func(string) {})
	if err != nil {
		d.t.Fatal(err)
	}
	return ctx, v
}

func (d *desk) finish(ctx context.Context, v *control.Serving, e agent.Ending) {
	d.t.Helper()
	if err := d.Finish(ctx, v, e, ""); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) next(want string) control.Next {
	d.t.Helper()
	n, err := d.Next(d.t.Context(), "twilio", "CA1")
	if err != nil || n.Do != want {
		d.t.Fatalf("next: %+v, %v, want %s", n, err, want)
	}
	return n
}

func TestCallLife(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	if again := d.arrive(); again.ID != c.ID {
		t.Errorf("a repeated webhook makes another call: %s, %s", c.ID, again.ID)
	}
	if _, err := d.Arrive(t.Context(), control.Arrival{Carrier: "twilio", To: "+15559999999"}); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("a number of nobody: %v", err)
	}
	ctx, v := d.begin(c)
	v.Journal.Turn(ctx, agent.Turn{Speaker: "agent", Heard: "hello"})
	d.finish(ctx, v, agent.Ending{Reason: "goodbye"})
	d.next("hangup")
	if _, err := d.Arrive(t.Context(), ring); !errors.Is(err, control.ErrEnded) {
		t.Errorf("a webhook for an ended call: %v, want ErrEnded", err)
	}
	if _, _, err := d.Begin(t.Context(), c.ID.String(), func(string) {}); !errors.Is(err, control.ErrEnded) {
		t.Errorf("serving an ended call: %v, want ErrEnded", err)
	}
	if d.Serving() != 0 {
		t.Errorf("%d calls are still served", d.Serving())
	}
}

func TestTransferComesBack(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	ctx, v := d.begin(c)
	v.Journal.Turn(ctx, agent.Turn{Speaker: "agent"})
	d.finish(ctx, v, agent.Ending{Reason: "transfer", Transfer: "+15554445555"})
	if n := d.next("dial"); n.Dial != "+15554445555" {
		t.Errorf("dials %s", n.Dial)
	}
	n, err := d.TransferEnded(t.Context(), "twilio", "CA1", "busy")
	if err != nil || n.Do != "connect" {
		t.Fatalf("after busy: %+v, %v, want connect", n, err)
	}
	ctx, v = d.begin(c)
	if v.Call.TransferOutcome != "busy" {
		t.Errorf("outcome %q, want busy", v.Call.TransferOutcome)
	}
	v.Journal.Turn(ctx, agent.Turn{Index: v.FirstTurn, Speaker: "agent", Heard: "they are busy"})
	d.finish(ctx, v, agent.Ending{Reason: "transfer", Transfer: "+15554445555"})
	turns, err := d.store.Turns(d.ctx, c.ID, -1, 10)
	if err != nil || len(turns) != 2 || turns[1].Index != 1 {
		t.Errorf("turns of both legs: %+v, %v", turns, err)
	}
	if n, err := d.TransferEnded(t.Context(), "twilio", "CA1", "completed"); err != nil || n.Do != "hangup" {
		t.Errorf("after completed: %+v, %v, want hangup", n, err)
	}
	if got, _ := d.store.Call(d.ctx, c.ID); got.EndReason != "transfer" || got.Status != control.CallEnded {
		t.Errorf("call %+v", got)
	}
}

func TestCrashedCallMayBeTakenUp(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	d.begin(c)
	d.Calls = newCalls(d.store) // the process died; another started
	n, err := d.CloseAll(t.Context())
	if err != nil || n != 1 {
		t.Fatalf("closed %d, %v, want 1", n, err)
	}
	if got, _ := d.store.Call(d.ctx, c.ID); got.EndReason != "crashed" || got.EndedAt.IsZero() {
		t.Errorf("call %+v", got)
	}
	d.next("connect")
	ctx, v := d.begin(c)
	d.finish(ctx, v, agent.Ending{Reason: "caller"})
	d.next("hangup")
}

func TestNobodysArrivalIsMissed(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	if n, err := d.CloseAll(t.Context()); n != 1 || err != nil {
		t.Errorf("closed %d, %v, want 1", n, err)
	}
	if got, _ := d.store.Call(d.ctx, c.ID); got.EndReason != "missed" {
		t.Errorf("reason %s", got.EndReason)
	}
}

func TestCarrierEndsAnUnservedCall(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	if err := d.Status(t.Context(), "twilio", "CA1", "no-answer"); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.store.Call(d.ctx, c.ID); got.Status != control.CallEnded || got.EndReason != "no-answer" {
		t.Errorf("call %+v", got)
	}
}

func TestCommitsAreIdempotent(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	conv := control.Conversation{ID: c.ID, Call: c.ID}
	h := c.Hold()
	hash := "0123456789012345678901234567890123456789abc="
	for _, rev := range []int{1, 2, 2, 1} {
		err := d.store.WriteCommit(d.ctx, h, conv, control.Revision{Entry: control.Entry{Revision: rev, Node: "n", Status: "active", Hash: hash}, State: []byte(`{"a":1}`)})
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.store.Conversation(d.ctx, c.ID)
	if err != nil || got.Revision != 2 || got.Hash != hash {
		t.Errorf("conversation %+v, %v", got, err)
	}
	ctx, v := d.begin(c)
	if v.Conversation == nil || v.Conversation.Revision != 2 {
		t.Errorf("the next leg finds %+v", v.Conversation)
	}
	d.finish(ctx, v, agent.Ending{Reason: "caller"})
}
