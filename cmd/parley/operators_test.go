package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"parley/media"
	"parley/signaling/signalingtest"
)

// ask sends a request to a node, and returns the answer's status and object.
func (n *node) ask(s *site, method, path, body string) (int, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var m map[string]any
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		s.t.Fatalf("%s %s: %d, %v", method, path, res.StatusCode, err)
	}
	return res.StatusCode, m
}

// refusedFor asks for a transfer, and waits until it came to nothing for want.
func (n *node) refusedFor(s *site, call, body, want string) {
	s.t.Helper()
	status, made := n.ask(s, "POST", call+"/transfer", body)
	if status != 202 {
		s.t.Fatalf("transfer: %d %v", status, made)
	}
	var now map[string]any
	s.await(20*time.Second, "a transfer to fail", func() bool {
		_, now = n.ask(s, "GET", call+"/commands/"+made["id"].(string), "")
		return now["status"] == "failed"
	})
	if now["reason"] != want {
		s.t.Errorf("it failed for %q, want %q", now["reason"], want)
	}
}

// colleague answers what the carrier is asked to place: by one who does not pick
// up, or does and presses a key, or else waits, or hangs up.
func (s *site) colleague(unanswered, key string) func(url.Values) (string, error) {
	return func(form url.Values) (string, error) {
		if unanswered == "refused" {
			return "", errors.New("no such number")
		}
		sid := fmt.Sprintf("CA%032x", s.colleagues.Add(1))
		ctx, hangUp := context.WithCancel(s.t.Context())
		press := func(ctx context.Context, _ string) string {
			switch key {
			case "wait":
				<-ctx.Done()
			case "hangup":
				hangUp()
			default:
				return key
			}
			return ""
		}
		go func() {
			defer hangUp()
			c, err := signalingtest.Call(ctx, signalingtest.CarrierOptions{URL: s.address, PublicURL: sitePublic, CallSID: sid,
				Webhook: form.Get("Url"), StatusURL: form.Get("StatusCallback"), From: form.Get("From"), To: form.Get("To"),
				Direction: "outbound-api", AuthToken: siteToken, AccountSID: siteAccount, REST: s.twilio, Unanswered: unanswered,
				Keys: press})
			if err == nil {
				_ = c.Wait()
			}
		}()
		return sid, nil
	}
}

// Operators act on a call through the node that does not serve it: they listen
// in, hand the caller to colleagues who are busy, decline, or cannot be called,
// and at last to one who takes the call.
func TestOperatorsOfAnotherNode(t *testing.T) {
	s := newSite(t, directly)
	a, b := s.start("a", "127.0.0.1:0"), s.start("b", "127.0.0.1:0")
	p := s.ring(signalingtest.CarrierOptions{Source: tone()})
	p.sounded()
	p.quiet()
	_, other := s.holder(p.SID, a, b)
	c, _ := s.records(p.SID)
	call := "/v1/calls/" + c.ID.String()

	left, right := s.overhear(other, call, func() { other.ask(s, "POST", call+"/say", `{"text":"A colleague is listening to us."}`) })
	if left < 500 || right < 500 {
		t.Errorf("listening in, the caller's side has a level of %.0f, the agent's of %.0f", left, right)
	}
	if heard := s.ask(other, "GET", "/v1/audit?action=call.listen", s.key, "", 200)["items"].([]any); len(heard) != 1 {
		t.Errorf("listening in leaves %d entries, want 1", len(heard))
	}
	for _, tt := range []struct{ unanswered, key, want string }{
		{"refused", "", "the carrier refused: the number called is not valid"}, {"busy", "", "busy"}, {"", "2", "declined"},
	} {
		s.twilio.Place = s.colleague(tt.unanswered, tt.key)
		other.refusedFor(s, call, `{"to":"+15550009","mode":"warm"}`, tt.want)
		if now, _ := s.records(p.SID); now.Status != "active" {
			t.Fatalf("after %s the call is %s", tt.want, now.Status)
		}
	}
	s.twilio.Place = s.colleague("", "1")
	status, made := other.ask(s, "POST", call+"/transfer", `{"to":"+15550009","mode":"warm"}`)
	if status != 202 {
		t.Fatalf("transfer: %d %v", status, made)
	}
	if status, clash := other.ask(s, "POST", call+"/transfer", `{"to":"+15550008"}`); status != 409 || clash["call"] == nil {
		t.Errorf("a second operator is answered %d %v, want 409 with the call", status, clash)
	}
	s.await(20*time.Second, "caller and colleague to meet", func() bool { return len(s.twilio.Met(made["id"].(string))) == 2 })
	_ = p.HangUp()
	s.await(20*time.Second, "the conference to end", func() bool { return len(s.twilio.Met(made["id"].(string))) == 0 })
}

// tone is a caller who hums.
func tone() func([]byte) {
	at := 0
	pcm := make([]int16, 160)
	return func(frame []byte) {
		for i := range pcm {
			pcm[i] = int16(3000 * math.Sin(2*math.Pi*250*float64(at)/8000))
			at++
		}
		media.EncodePCMU(frame[:0], pcm[:len(frame)])
	}
}

// overhear listens in for three seconds of sound, and returns the loudest tenth
// of a second of either side.
func (s *site) overhear(n *node, call string, during func()) (left, right float64) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", n.url+call+"/listen", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		text, _ := io.ReadAll(res.Body)
		s.t.Fatalf("listen: %d %s", res.StatusCode, text)
	}
	during()
	rate, channels, pcm, err := media.ReadWAV(io.LimitReader(res.Body, 58+2*8000*6))
	if err != nil || rate != 8000 || channels != 2 {
		s.t.Fatalf("listening in gives %d Hz, %d channels, %v", rate, channels, err)
	}
	var sum [2]float64
	for i, v := range pcm {
		sum[i%2] += float64(v) * float64(v)
		if i%1600 == 1599 {
			left, right = max(left, math.Sqrt(sum[0]/800)), max(right, math.Sqrt(sum[1]/800))
			sum = [2]float64{}
		}
	}
	return left, right
}
