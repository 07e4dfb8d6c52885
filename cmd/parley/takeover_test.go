package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/agent"
	"parley/signaling/signalingtest"
)

const (
	firstQuestion  = "agent: Would you like red or blue?"
	secondQuestion = "agent: For how many people?"
)

// secondAsked rings, answers the first question, and hears the second to its end.
func (s *site) secondAsked(o signalingtest.CarrierOptions) *telephone {
	s.t.Helper()
	p := s.ring(o)
	p.sounded()
	p.quiet()
	p.Digits("1")
	p.listen()
	p.sounded()
	p.quiet()
	return p
}

// finish answers the second question and hears the call to its end. What was
// said must be written as it was: nothing lost, nothing twice.
func (p *telephone) finish() {
	t := p.s.t
	t.Helper()
	if got := p.said("would you like red or blue", "for how many people", "thank you goodbye"); got != "for how many people" {
		t.Errorf("back in the call, the caller hears %q", got)
	}
	p.Digits("4#")
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	p.s.await(10*time.Second, "the call's records", func() bool {
		c, _ := p.s.records(p.SID)
		return c.EndReason != "" && c.EndReason != "crashed" && c.EndReason != "network"
	})
	c, turns := p.s.records(p.SID)
	want := []string{firstQuestion, "caller: 1", secondQuestion, secondQuestion, "caller: 4", "agent: Thank you, goodbye."}
	if c.EndReason != "goodbye" || !slices.Equal(turns, want) {
		t.Errorf("the call ended by %s with %q, want goodbye, %q", c.EndReason, turns, want)
	}
}

// TestNodes holds calls on two nodes with one database, and loses a node under
// them in each way that one can go.
func TestNodes(t *testing.T) {
	t.Run("killed", testKilled)
	t.Run("stopped", testStopped)
	t.Run("alone", testAlone)
	t.Run("browser", testBrowserMoves)
}

// A browser whose node was killed goes on at another, by its resume token: at
// the question where it was.
func testBrowserMoves(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	s.env = append(s.env, "PARLEY_RTC_ADDR=127.0.0.1")
	a, b := s.start("a", "127.0.0.1:0"), s.start("b", "127.0.0.1:0")
	o := signalingtest.PeerOptions{URL: a.url, Agent: "front-desk", Bearer: s.key, Loopback: true}
	first, err := signalingtest.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.shown(first, "Would you like red or blue?")
	if err := first.SendDigit('1'); err != nil {
		t.Fatal(err)
	}
	s.shown(first, "For how many people?")
	s.await(10*time.Second, "the question to be written", func() bool {
		_, turns := s.recordsOf("webrtc", first.Session().ID)
		return len(turns) == 3
	})
	a.signal(t, os.Kill)
	began := time.Now()
	o.URL, o.Bearer, o.Resume = b.url, "", first.Session().Resume
	second, err := signalingtest.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	s.shown(second, "For how many people?")
	t.Logf("a browser's node killed: it has heard the question again after %v", time.Since(began).Round(time.Millisecond))
	if err := second.SendText("4"); err != nil {
		t.Fatal(err)
	}
	s.shown(second, "Thank you, goodbye.")
	_ = first.Close() // what it says to a dead node is no news
	s.await(10*time.Second, "the call's records", func() bool {
		c, _ := s.recordsOf("webrtc", first.Session().ID)
		return c.EndReason == "goodbye"
	})
	want := []string{firstQuestion, "caller: 1", secondQuestion, secondQuestion, "caller: 4", "agent: Thank you, goodbye."}
	if _, turns := s.recordsOf("webrtc", first.Session().ID); !slices.Equal(turns, want) {
		t.Errorf("written %q, want %q", turns, want)
	}
	if p, err := signalingtest.Dial(t.Context(), o); err == nil {
		t.Error("a resume token opens a second session")
		_ = p.Close()
	}
}

// shown waits until the page says that all of a text was heard.
func (s *site) shown(p *signalingtest.Peer, text string) {
	s.t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case b := <-p.Events():
			var e agent.Event
			if json.Unmarshal(b, &e) == nil && e.Type == "agent" && e.Phase == "heard" && strings.HasSuffix(e.Text, text) {
				return
			}
		case <-late:
			s.t.Fatalf("%q was not heard", text)
		}
	}
}

// A node is killed: its sockets close, and the carrier asks the other one.
func testKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	a, b := s.start("a", "127.0.0.1:0"), s.start("b", "127.0.0.1:0")
	p := s.secondAsked(signalingtest.CarrierOptions{})
	holder, _ := s.holder(p.SID, a, b)
	p.listen()
	holder.signal(t, os.Kill)
	t.Logf("a node killed: the caller hears the question again after %v", p.sounded().Round(time.Millisecond))
	p.quiet()
	p.finish()
}

// A node vanishes without closing its sockets. Its lease lapses, and the other
// brings the caller back by REST. What vanished and continues neither speaks
// nor writes.
func testStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	a, b := s.start("a", "127.0.0.1:0"), s.start("b", "127.0.0.1:0")
	p := s.secondAsked(signalingtest.CarrierOptions{})
	holder, other := s.holder(p.SID, a, b)
	p.listen()
	holder.signal(t, syscall.SIGSTOP)
	t.Logf("a node stopped: the caller hears the question again after %v", p.sounded().Round(time.Millisecond))
	if n := len(s.twilio.Requests()); n != 1 {
		t.Errorf("%d requests to the carrier, want 1", n)
	}
	holder.signal(t, syscall.SIGCONT)
	c, _ := s.records(p.SID)
	ended := `"session ended","call":"` + c.ID.String()
	s.await(20*time.Second, "the session that lost its call to end", func() bool { return strings.Contains(holder.log.String(), ended) })
	if strings.Contains(other.log.String(), ended) {
		t.Error("the session that has the call ended too")
	}
	p.quiet()
	p.finish()
}

// One process alone is killed and started again: the carrier's retries and the
// fallback TwiML bring the caller back.
func testAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	address := freeAddress(t)
	a := s.start("a", address)
	p := s.secondAsked(signalingtest.CarrierOptions{RetryPause: 200 * time.Millisecond,
		Fallback: `<Response><Pause length="2"/><Redirect method="POST">` + sitePublic + `/twilio/voice/front-desk</Redirect></Response>`})
	a.signal(t, os.Kill)
	<-a.done
	s.balancer.Remove(a.url)
	s.await(20*time.Second, "the carrier to fall back", func() bool {
		return slices.ContainsFunc(p.Events(), func(e signalingtest.CarrierEvent) bool { return e.Kind == "fallback" })
	})
	s.start("a", address)
	p.listen()
	t.Logf("one node alone, ready again: the caller hears the question again after %v", p.sounded().Round(time.Millisecond))
	p.quiet()
	p.finish()
}
