package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/agent"
	"parley/media"
	"parley/signaling/signalingtest"
)

// A line is a call in progress, from the caller's side.
type line interface {
	press(keys string) error
	typeText(text string) error
	hangUp() // may be called twice, and after the end

	// fault makes one: "stall" for d, "break", "deafen" or "mute".
	fault(kind string, d time.Duration)
	stats() lineStats

	// over is closed when the call is; wait then returns what went wrong.
	over() <-chan struct{}
	wait() error

	// watch follows the call's transcript into t until the call is over.
	watch(ctx context.Context, t *transcript) error
}

// lineStats tell how the agent's audio came.
type lineStats struct {
	Holes     int   `json:"holes"`      // in its speech: over a telephone underruns, over webrtc packets missed
	SilenceMS int64 `json:"silence_ms"` // heard of them
	LateMS    int64 `json:"late_ms"`    // the most that a message came behind its pace
	LeadMS    int64 `json:"lead_ms"`    // the most that waited to be heard
}

// twilioLine is a call through a simulated Twilio. Its transcript is read from
// the gateway's API.
type twilioLine struct {
	call *signalingtest.CarrierCall
	rest restClient
	done chan struct{}

	foreign bool // it may be another's gateway
	err     error
	once    sync.Once
	show    func(shown)
}

func dialTwilio(ctx context.Context, c callCommand, p *phone, rest restClient, show func(shown)) (line, error) {
	said, heard := make([]int16, 160), []int16(nil)
	call, err := signalingtest.Call(ctx, signalingtest.CarrierOptions{
		URL: c.URL, Webhook: c.webhook, StreamURL: c.stream,
		Up: c.on.network, Down: c.on.network, Echo: c.on.echo, Noise: c.on.noise,
		Agent: c.Agent, From: c.From, To: c.To, AuthToken: c.TwilioAuthToken,
		Source: func(frame []byte) {
			p.say(said)
			media.EncodePCMU(frame[:0], said)
		},
		Heard: func(_ time.Time, frame []byte, _ int) {
			heard = media.DecodePCMU(heard[:0], frame)
			p.hear(heard)
		},
		Transfer: func(_ context.Context, d signalingtest.Dialed) string {
			show(shown{Type: "transfer", Text: d.Number + d.Sip + d.Client})
			return c.Transfer
		},
	})
	if err != nil {
		return nil, err
	}
	for _, e := range call.Events() {
		if e.Kind == "reject" {
			return nil, errors.New("reject " + e.Text)
		}
	}
	l := &twilioLine{call: call, rest: rest, done: make(chan struct{}), show: show, foreign: c.webhook != ""}
	go func() { // ends with the call, which wait waits for
		defer close(l.done)
		l.err = call.Wait()
	}()
	return l, nil
}

func (l *twilioLine) press(keys string) error {
	l.call.Digits(keys)
	return nil
}

func (l *twilioLine) typeText(string) error {
	return errors.New("nobody can type over a telephone")
}

func (l *twilioLine) fault(kind string, d time.Duration) {
	switch kind {
	case "stall":
		l.call.Stall(d)
	case "break":
		l.call.Break()
	case "deafen":
		l.call.Deafen()
	case "mute":
		l.call.Silence()
	}
}

func (l *twilioLine) stats() lineStats {
	s := l.call.Stats()
	return lineStats{s.Underruns, s.Silence.Milliseconds(), s.Late.Milliseconds(), s.Lead.Milliseconds()}
}

func (l *twilioLine) over() <-chan struct{} { return l.done }

func (l *twilioLine) hangUp() {
	l.once.Do(func() { _ = l.call.HangUp() }) // wait returns the error
}

func (l *twilioLine) wait() error {
	<-l.done
	return l.err
}

const (
	pollEvery  = 300 * time.Millisecond
	recordsDue = 8 * time.Second // after a call, for its records to be complete
)

type (
	callRecord struct {
		ID            string `json:"id"`
		CarrierCallID string `json:"carrier_call_id"`
		Status        string `json:"status"`
		EndReason     string `json:"end_reason"`
	}
	turnRecord struct {
		Index       int    `json:"index"`
		Speaker     string `json:"speaker"`
		Generated   string `json:"generated"`
		Heard       string `json:"heard"`
		Interrupted bool   `json:"interrupted"`
		Input       string `json:"input"`
		StartMS     int64  `json:"start_ms"`
		EndMS       int64  `json:"end_ms"`
		Latency     *struct {
			FirstAudioMS float64 `json:"first_audio_ms"`
		} `json:"latency"`
	}
)

// watch asks for new turns until the call has ended and all are there.
func (l *twilioLine) watch(ctx context.Context, t *transcript) error {
	if l.rest.key == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until its records are complete
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var late <-chan time.Time
	done, id, after := l.done, "", -1
	for {
		end, err := l.poll(ctx, t, &id, &after)
		if l.foreign && err != nil && strings.Contains(err.Error(), "status 404") {
			return nil // another's gateway has no such API
		}
		if err != nil || end {
			return err
		}
		select {
		case <-tick.C:
		case <-done:
			done = nil
			late = time.After(recordsDue)
		case <-late:
			return errors.New("the call is over, but its records are not complete: see the gateway's log")
		}
	}
}

// poll reads the call and its new turns; end tells that there will be no more.
func (l *twilioLine) poll(ctx context.Context, t *transcript, id *string, after *int) (end bool, err error) {
	call, err := l.record(ctx, *id)
	if err != nil || call.ID == "" {
		return false, err
	}
	*id = call.ID
	var turns struct{ Items []turnRecord }
	if err := l.rest.get(ctx, fmt.Sprintf("/v1/calls/%s/turns?after=%d", call.ID, *after), &turns); err != nil {
		return false, err
	}
	for _, r := range turns.Items {
		*after = r.Index
		t.turn(spokenTurn{Index: r.Index, Speaker: r.Speaker, Said: r.Generated, Heard: r.Heard, Cut: r.Interrupted,
			Input: r.Input, Done: true})
		if r.Latency != nil && r.Latency.FirstAudioMS > 0 {
			t.latency(r.Index, time.Duration(r.Latency.FirstAudioMS*float64(time.Millisecond)))
		}
	}
	if call.Status == "ended" {
		t.end(call.EndReason)
		return true, nil
	}
	return false, nil
}

// record finds the call, by the carrier's id while its own is not known.
func (l *twilioLine) record(ctx context.Context, id string) (callRecord, error) {
	if id != "" {
		var c callRecord
		return c, l.rest.get(ctx, "/v1/calls/"+id, &c)
	}
	var calls struct{ Items []callRecord }
	if err := l.rest.get(ctx, "/v1/calls?limit=100", &calls); err != nil {
		return callRecord{}, err
	}
	for _, c := range calls.Items {
		if c.CarrierCallID == l.call.SID {
			return c, nil
		}
	}
	return callRecord{}, nil
}

// webrtcLine is a call as a browser makes it, with the transcript on its data
// channel.
type webrtcLine struct {
	peer *signalingtest.Peer
	once sync.Once
	left atomic.Bool // we hung up
	err  error
}

func dialWebRTC(ctx context.Context, c callCommand, p *phone) (line, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	peer, err := signalingtest.Dial(ctx, signalingtest.PeerOptions{
		URL: c.URL, Agent: c.Agent, Bearer: c.APIKey, Loopback: true,
		Up: c.on.network, Down: c.on.network, Echo: c.on.echo, Noise: c.on.noise, Faulty: c.on.faulty,
		Audio: func(pcm []int16) bool { p.say(pcm); return true },
		Heard: p.hear,
	})
	if err != nil {
		return nil, err
	}
	return &webrtcLine{peer: peer}, nil
}

func (l *webrtcLine) press(keys string) error {
	for i := range len(keys) {
		if err := l.peer.SendDigit(keys[i]); err != nil {
			return err
		}
	}
	return nil
}

func (l *webrtcLine) fault(kind string, d time.Duration) {
	switch kind {
	case "stall":
		l.peer.Stall(d)
	case "break":
		_ = l.peer.Vanish() // it is gone either way
	case "deafen":
		l.peer.Deafen()
	case "mute":
		l.peer.Silence()
	}
}

func (l *webrtcLine) stats() lineStats {
	s := l.peer.Stats()
	return lineStats{Holes: int(s.Lost), SilenceMS: int64(s.Concealed) / (media.OpusRate / 1000), LeadMS: s.Delay.Milliseconds()}
}

func (l *webrtcLine) typeText(text string) error { return l.peer.SendText(text) }
func (l *webrtcLine) over() <-chan struct{}      { return l.peer.Done() }

func (l *webrtcLine) hangUp() {
	l.once.Do(func() {
		select {
		case <-l.peer.Done():
		default:
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			l.left.Store(true)
			if err := l.peer.Hangup(ctx); err != nil && !isGone(err) {
				l.err = err
			}
		}
	})
}

// isGone tells that the session had ended before we hung up.
func isGone(err error) bool {
	var status *signalingtest.StatusError
	return errors.As(err, &status) && (status.Status == 404 || status.Status == 410)
}

func (l *webrtcLine) wait() error { return errors.Join(l.err, l.peer.Close()) }

// watch reads the data channel until the line is gone.
func (l *webrtcLine) watch(_ context.Context, t *transcript) error {
	take := func(b json.RawMessage) {
		var e agent.Event
		if json.Unmarshal(b, &e) == nil { // what later gateways say is none of ours
			t.event(e)
		}
	}
	for {
		select {
		case b := <-l.peer.Events():
			take(b)
			continue
		case <-l.peer.Done():
		}
		for len(l.peer.Events()) > 0 {
			take(<-l.peer.Events())
		}
		if l.left.Load() {
			t.end("caller") // who hangs up is told nothing any more
		}
		return nil
	}
}

// event takes a message of the data channel.
func (t *transcript) event(e agent.Event) {
	switch e.Type {
	case "transcript":
		t.turn(spokenTurn{Index: e.Turn, Speaker: "caller", Heard: e.Text, Done: e.Phase == "final"})
	case "agent":
		turn := spokenTurn{Index: e.Turn, Speaker: "agent", Said: e.Text, Heard: e.Heard, Cut: e.Phase == "cut"}
		turn.Done = e.Phase != "speaking"
		if e.Phase == "heard" && strings.TrimSpace(turn.Heard) == "" {
			turn.Heard = turn.Said
		}
		t.turn(turn)
	case "latency":
		t.latency(e.Turn, time.Duration(e.LatencyMS)*time.Millisecond)
	case "ended":
		t.end(e.Reason)
	}
}
