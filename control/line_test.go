package control_test

import (
	"errors"
	"testing"
	"time"
	_ "time/tzdata" // wherever the test runs

	"github.com/google/uuid"

	"parley/control"
)

// A call stays with the version that it began with, also in another process.
func TestCallKeepsItsAgentVersion(t *testing.T) {
	d := newDesk(t)
	ctx := control.WithTenant(t.Context(), have(d.Store.LocateCall(t.Context(), d.arrive().ID)).Tenant)
	c := have(d.Store.Call(ctx, d.arrive().ID))
	change := func(prompt string) {
		t.Helper()
		a := have(d.store.Agent(ctx, c.Agent))
		a.Settings.Prompt, a.Settings.Greeting = prompt, "Hello from "+prompt
		have((&control.Agents{Store: d.store, Flows: d.store}).Update(ctx, a))
	}
	prompt := func(want string) {
		t.Helper()
		_, v := d.begin(c)
		if set := v.Agent.Settings; set.Prompt != want || want == "x" && set.Greeting != "" {
			t.Errorf("the call runs %q with greeting %q, want %q, which had none", set.Prompt, set.Greeting, want)
		}
		d.finish(ctx, v, endNetwork)
	}
	change("y")
	prompt("x") // it arrived before
	change("z")
	prompt("x") // taken up again
	again := ring
	again.CarrierCallID = "CA2"
	c = have(d.Arrive(t.Context(), again))
	prompt("z")
}

// Who answers a number is what its routes say at the time.
func TestArrivalByRoute(t *testing.T) {
	d := newDesk(t)
	c := d.arrive()
	at := have(d.Numbers.LocateNumber(t.Context(), ring.To))
	ctx := control.WithTenant(t.Context(), at.Tenant)
	night := uuid.New()
	if err := d.store.InsertAgent(ctx, control.Agent{ID: night, Name: "night", CreatedAt: time.Now(),
		Settings: control.AgentSettings{Kind: control.KindPrompt, Prompt: "n"}}); err != nil {
		t.Fatal(err)
	}
	route := func(sid string, r control.Route) (control.Call, error) {
		t.Helper()
		n := have(d.Numbers.Number(ctx, at.ID))
		n.Routes = []control.Route{{Dates: []string{"2000-01-01"}, Agent: c.Agent}, r}
		have(d.Numbers.UpdateNumber(ctx, n))
		a := ring
		a.CarrierCallID = sid
		return d.Arrive(t.Context(), a)
	}
	if got := have(route("CA2", control.Route{Agent: night})); got.Agent != night {
		t.Errorf("%s answers, want the night's agent", got.Agent)
	}
	for range 2 { // a repeated webhook is told the same
		got := have(route("CA3", control.Route{Message: "We are closed.", Language: "en-GB"}))
		if got.Say != "We are closed." || got.SayLanguage != "en-GB" || got.EndReason != control.EndClosed {
			t.Errorf("closed: %+v", got)
		}
	}
	if got := have(route("CA4", control.Route{Transfer: "+15550100"})); got.Status != control.CallTransferring || got.TransferTo != "+15550100" {
		t.Errorf("transfer: %+v", got)
	}
	if n := have(d.TransferEnded(t.Context(), "twilio", "CA4", "no-answer")); n.Do != "connect" {
		t.Errorf("after a transfer that nobody answered: %+v, want connect", n)
	}
	// What is one account's is out of reach for another's.
	a := ring
	a.CarrierCallID, a.Account = "CA5", uuid.New()
	if _, err := d.Arrive(t.Context(), a); !errors.Is(err, control.ErrForbidden) {
		t.Errorf("another account's webhook: %v, want ErrForbidden", err)
	}
}

// Tenants' accounts sign for themselves, and nobody else's number.
func TestSigners(t *testing.T) {
	d := newDesk(t)
	tenant := have(d.Numbers.LocateNumber(t.Context(), ring.To)).Tenant
	ctx := control.WithTenant(t.Context(), tenant)
	const sid = "AC0123456789abcdef0123456789abcdef"
	account := control.CarrierAccount{ID: uuid.New(), Name: "own", Kind: control.CarrierTwilio, AccountSID: sid, Token: "new", OldToken: "old", CreatedAt: time.Now()}
	if err := d.store.InsertCarrierAccount(ctx, account); err != nil {
		t.Fatal(err)
	}
	s := &control.CarrierAccounts{Store: d.store, Secrets: tokensOf{tenant, map[string]string{"new": "token-1", "old": "token-0"}}, Address: twilioAddress}
	got := have(s.Signers(t.Context(), sid, ring.To))
	if len(got) != 1 || got[0].Account != account.ID || got[0].Tenant != tenant || len(got[0].Tokens) != 2 {
		t.Errorf("signers: %+v", got)
	}
	for _, unknown := range []string{"AC" + "f123456789abcdef0123456789abcdef", "", "AC1", "x\x00"} {
		if got := have(s.Signers(t.Context(), unknown, ring.To)); len(got) != 0 {
			t.Errorf("signers of %q: %+v", unknown, got)
		}
	}
}
