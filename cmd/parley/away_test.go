package main

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/signaling/signalingtest"
)

// TestAway ends a node while it holds a call.
func TestAway(t *testing.T) {
	t.Run("drain", testDrain)
	t.Run("drain-notice", testDrainNotice)
	t.Run("second-signal", testSecondSignal)
}

// answered waits until the call's end is written, and checks all of it.
func (p *telephone) answered(want ...string) {
	t := p.s.t
	t.Helper()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	p.s.await(20*time.Second, "the call's records", func() bool {
		c, _ := p.s.records(p.SID)
		return c.EndReason != ""
	})
	if c, turns := p.s.records(p.SID); c.EndReason != "goodbye" || !slices.Equal(turns, want) {
		t.Errorf("the call ended by %s with %q, want goodbye, %q", c.EndReason, turns, want)
	}
}

var wholeCall = []string{firstQuestion, "caller: 1", secondQuestion, "caller: 4", "agent: Thank you, goodbye."}

// A node is told to end: it takes no new call, which goes to another one, and
// finishes those it has.
func testDrain(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	s.balancer.First = true
	a := s.start("a", "127.0.0.1:0", "--drain", "1m")
	p := s.ring(signalingtest.CarrierOptions{})
	p.sounded()
	a.signal(t, syscall.SIGTERM)
	s.await(10*time.Second, "readyz to say no", func() bool {
		res, err := http.Get(a.url + "/readyz")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusServiceUnavailable
	})
	came := make(chan *telephone)
	go func() { came <- s.ring(signalingtest.CarrierOptions{}) }()
	b := s.start("b", "127.0.0.1:0")
	s.balancer.Remove(a.url) // as a balancer does that asks /readyz
	second := <-came
	second.sounded()
	if holder, _ := s.holder(second.SID, a, b); holder != b {
		t.Error("the node that ends took a new call")
	}
	if !slices.ContainsFunc(second.Events(), func(e signalingtest.CarrierEvent) bool { return e.Kind == "redirect" }) {
		t.Errorf("the new call was not sent elsewhere: %v", second.Events())
	}
	if err := second.HangUp(); err != nil {
		t.Error(err)
	}
	s.balancer.Add(a.url) // for the rest of the first call
	p.quiet()
	p.Digits("1")
	p.listen()
	p.sounded()
	p.quiet()
	p.Digits("4#")
	p.answered(wholeCall...)
	<-a.done
	if code := a.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit status %d", code)
	}
}

// A call that does not end in time is told so, and ends.
func testDrainNotice(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	a := s.start("a", "127.0.0.1:0", "--drain", "1s")
	p := s.ring(signalingtest.CarrierOptions{})
	p.sounded()
	p.quiet()
	p.listen()
	a.signal(t, syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if got := p.said("for how many people", "i'm sorry i have to end this call please call again in a minute goodbye"); !strings.HasPrefix(got, "i'm sorry") {
		t.Errorf("at the end the caller hears %q", got)
	}
	<-a.done
	if c, _ := s.records(p.SID); c.EndReason != "drain" || a.cmd.ProcessState.ExitCode() != exitOK {
		t.Errorf("reason %s, exit status %d, want drain, 0", c.EndReason, a.cmd.ProcessState.ExitCode())
	}
}

// A second signal ends a node on the spot; its caller goes on at another.
func testSecondSignal(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	a, b := s.start("a", "127.0.0.1:0"), s.start("b", "127.0.0.1:0")
	p := s.secondAsked(signalingtest.CarrierOptions{})
	holder, _ := s.holder(p.SID, a, b)
	p.listen()
	holder.signal(t, syscall.SIGTERM)
	s.await(10*time.Second, "the drain to begin", func() bool {
		res, err := http.Get(holder.url + "/readyz")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusServiceUnavailable
	})
	holder.signal(t, syscall.SIGTERM)
	<-holder.done
	p.sounded()
	p.quiet()
	p.finish()
}
