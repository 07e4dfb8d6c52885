package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/tts"
	"parley/control"
	"parley/signaling"
)

// testCalls has scripted callers talk to agents, in this process. It implements
// [control.TestCaller].
type testCalls struct {
	desk *desk
	log  *slog.Logger

	begin chan testCall

	mu    sync.Mutex
	count map[uuid.UUID]int // of tenants
}

type testCall struct {
	tenant uuid.UUID
	call   control.Call
	leg    *signaling.ScriptedLeg
}

func newTestCalls(d *desk, log *slog.Logger) *testCalls {
	return &testCalls{desk: d, log: log, begin: make(chan testCall), count: map[uuid.UUID]int{}}
}

// run serves test calls until ctx ends, and theirs with it.
func (t *testCalls) run(ctx context.Context) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-t.begin:
			calls.Go(func() {
				defer t.leave(c.tenant)
				t.serve(ctx, c)
			})
		}
	}
}

func (t *testCalls) serve(ctx context.Context, c testCall) {
	life, cancel := context.WithTimeout(ctx, control.TestCallLife)
	defer cancel()
	if err := t.desk.Serve(life, c.call.ID.String(), c.leg); err != nil {
		t.log.Warn("a test call is not served", "call", c.call.ID, "err", err)
	}
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancelLast()
	if err := t.hangUp(last, c.call.CarrierCallID); err != nil {
		t.log.Warn("a test call is closed later", "call", c.call.ID, "err", err)
	}
}

// hangUp ends the call as a carrier would: one that is to be connected elsewhere
// has talked there.
func (t *testCalls) hangUp(ctx context.Context, id string) error {
	next, err := t.desk.Next(ctx, signaling.CarrierTest, id)
	if err == nil && next.Do == "dial" {
		_, err = t.desk.TransferEnded(ctx, signaling.CarrierTest, id, "completed")
	}
	if err != nil && !errors.Is(err, signaling.ErrEnded) {
		return err
	}
	return t.desk.Status(ctx, signaling.CarrierStatus{Carrier: signaling.CarrierTest, CarrierCallID: id, Kind: "call", Status: "completed"})
}

// TestCall implements [control.TestCaller].
func (t *testCalls) TestCall(ctx context.Context, c control.TestCall) (control.Call, error) {
	if err := c.Validate(); err != nil {
		return control.Call{}, err
	}
	tenant, _ := control.TenantOf(ctx)
	if !t.enter(tenant) {
		return control.Call{}, control.ErrTestCalls
	}
	begun := false
	defer func() {
		if !begun {
			t.leave(tenant)
		}
	}()
	a, err := t.desk.agents.At(ctx, c.Agent, c.Version)
	if err != nil {
		return control.Call{}, err
	}
	wait, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	acts, err := t.acts(wait, tenant, a, c.Script)
	if err != nil {
		return control.Call{}, err
	}
	if t.desk.draining.Load() {
		return control.Call{}, control.ErrBusy
	}
	key := uuid.NewString()
	call, err := t.desk.admit(ctx, key, "", control.Arrival{Carrier: signaling.CarrierTest, CarrierCallID: key,
		From: "test", To: a.Name, Agent: a.ID.String(), AgentVersion: a.Version})
	if err != nil {
		return control.Call{}, err
	}
	select {
	case t.begin <- testCall{tenant, call, signaling.NewScriptedLeg(acts)}:
		begun = true
		return call, nil
	case <-wait.Done(): // this process is about to end
		return call, control.ErrBusy
	}
}

func (t *testCalls) enter(tenant uuid.UUID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count[tenant] >= control.MaxTestCalls {
		return false
	}
	t.count[tenant]++
	return true
}

func (t *testCalls) leave(tenant uuid.UUID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count[tenant]--; t.count[tenant] <= 0 {
		delete(t.count, tenant)
	}
}

// acts speaks the script: by the program's own voice, else by the agent's.
func (t *testCalls) acts(ctx context.Context, tenant uuid.UUID, a control.Agent, script []control.TestAct) ([]signaling.Act, error) {
	var voice agent.TTS
	defer func() {
		if voice != nil {
			_ = voice.Close()
		}
	}()
	var acts []signaling.Act
	for i, s := range script {
		act := signaling.Act{Keys: s.Press, Rest: time.Duration(s.Wait * float64(time.Second)), Interrupt: s.Interrupt}
		if s.Say != "" {
			var err error
			if voice == nil {
				if voice, err = t.voice(ctx, tenant, a); err != nil {
					return nil, control.Refuse(control.ErrConflict, "nothing speaks the script: no voice of this server answers")
				}
			}
			if act.Speech, err = speech(ctx, voice, s.Say, signaling.ScriptedRate); err != nil || len(act.Speech) == 0 {
				t.log.Warn("an act of a test call is not spoken", "err", err)
				return nil, control.Invalidf(fmt.Sprintf("script[%d].say", i), "cannot be spoken")
			}
		}
		acts = append(acts, act)
	}
	return acts, nil
}

func (t *testCalls) voice(ctx context.Context, tenant uuid.UUID, a control.Agent) (agent.TTS, error) {
	if installed("flite") {
		if v, err := tts.Vendors["flite"].Dial(ctx, tts.Options{Voice: "rms", Logger: t.log}); err == nil { // not the agent's
			return v, nil
		}
	}
	list, err := t.desk.vendors.synthesizers(tenant.String(), a.Settings.TTS, t.log)
	for _, s := range list {
		v, dialErr := s.Dial(ctx, agent.Delivery{})
		if dialErr == nil {
			return v, nil
		}
		err = errors.Join(err, dialErr)
	}
	return nil, err
}
