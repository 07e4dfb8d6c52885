// Package calltest holds whole calls in virtual time: the carrier simulator, the
// real media leg over connections in memory, and a real session, with stand-ins
// for the vendors that know what is said. The caller's ear knows what was truly
// heard, by the sound alone.
package calltest

import (
	"bytes"
	"context"
	"flag"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/agent"
	"parley/media"
	"parley/signaling"
	"parley/signaling/signalingtest"
)

var full = flag.Bool("full", false, "hold every call there is, for minutes")

// A plan is how a call is set up. Its zero value is a good line and a model
// that says little.
type plan struct {
	up, down signalingtest.Line
	browser  bool // by WebRTC instead of by telephone
	mute     bool // the browser does not report what it plays
	echo     signalingtest.Echo
	noise    signalingtest.Noise

	greeting string   // default "Hello there."
	replies  []string // of the model, in turn
	align    bool     // the voice tells its words' times

	spec func(*agent.Spec) // changes what the session is given
}

// A call is a plan under way, and what came of it.
type call struct {
	t       testing.TB
	p       plan
	began   time.Time
	carrier *signalingtest.CarrierCall // nil: a browser's
	peer    *signalingtest.Peer
	ending  chan agent.Ending

	mu       sync.Mutex
	made     []clause                        // by the agent's voice, in order
	tape     signalingtest.Tape              // what the caller heard
	listener func(at time.Time, pcm []int16) // in place of tape
	sounded  time.Time                       // when the caller last heard something loud
	toSay    []int16
	talked   [2]time.Time // from when to when the caller spoke last
	turns    []agent.Turn
	stt      *standInSTT
	replies  []string
	prompts  []agent.Prompt
	events   []agent.Event
}

// run makes a call in a bubble of its own: act is the caller, and the bubble
// ends with the call.
func run(t *testing.T, p plan, act func(*call)) *call {
	var c *call
	synctest.Test(t, func(t *testing.T) {
		c = &call{t: t, p: p, began: time.Now(), ending: make(chan agent.Ending, 1), replies: p.replies}
		c.tape.Rate = 8000
		stop := c.place()
		t.Cleanup(func() { // also where act gives up
			c.leave()
			synctest.Wait()
			stop()
		})
		act(c)
	})
	return c
}

// place builds a gateway, and calls it.
func (c *call) place() (stop func()) {
	mux := http.NewServeMux()
	pipes := signalingtest.NewPipes()
	srv := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(pipes) }()
	dial := c.dialCarrier
	if c.p.browser {
		dial = c.dialPeer
	}
	down := dial(mux, pipes)
	return func() { down(); srv.Close(); <-served }
}

func (c *call) dialCarrier(mux *http.ServeMux, pipes *signalingtest.Pipes) (down func()) {
	tw := &signaling.Twilio{
		Desk: desk{c}, PublicURL: "https://gw.example",
		Tokens:                 &signaling.MediaTokens{Key: []byte(strings.Repeat("k", 32))},
		TunnelWithoutSignature: true,
		Logger:                 slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, r := range tw.Routes() {
		mux.HandleFunc(r.Pattern, r.Handler)
	}
	carrier, err := signalingtest.Call(context.Background(), signalingtest.CarrierOptions{
		URL: "http://gw.test", PublicURL: "https://gw.example", From: "+15550100", To: "+15550101",
		Dial: pipes.Dial, Up: c.p.up, Down: c.p.down, Echo: c.p.echo, Noise: c.p.noise,
		Source: c.source, Heard: c.heard,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.carrier = carrier
	return func() {}
}

// dialPeer calls as a browser, with the library's own protocols over datagrams
// in memory.
func (c *call) dialPeer(mux *http.ServeMux, pipes *signalingtest.Pipes) (down func()) {
	network := &signalingtest.Datagrams{}
	w, err := signaling.ListenWebRTC(signaling.WebRTCOptions{Desk: desk{c}, Packets: network.Listen(),
		Authorize: func(*http.Request, string) (string, error) { return "", nil }})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range w.Routes() {
		mux.HandleFunc(r.Pattern, r.Handler)
	}
	narrow, err := media.NewResampler(16000, 8000)
	if err != nil {
		c.t.Fatal(err)
	}
	wide, err := media.NewResampler(8000, 16000)
	if err != nil {
		c.t.Fatal(err)
	}
	var heard, said, law []int16
	var frame []byte
	c.peer, err = signalingtest.Dial(context.Background(), signalingtest.PeerOptions{
		URL: "http://gw.test", Agent: "demo", Codec: "PCMU", Packets: network.Listen(), NoPlayed: c.p.mute,
		Up: c.p.up, Down: c.p.down, Echo: c.p.echo, Noise: c.p.noise, Faulty: true,
		Client: &http.Client{Transport: &http.Transport{DialContext: pipes.Dial, DisableKeepAlives: true}},
		Audio: func(pcm []int16) bool {
			frame = append(frame[:0], silentFrame...)
			c.source(frame)
			law = media.DecodePCMU(law[:0], frame)
			said = wide.Process(said[:0], law)
			copy(pcm, said)
			return true
		},
		Heard: func(pcm []int16) {
			heard = narrow.Process(heard[:0], pcm)
			c.hear(time.Now(), heard)
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return func() { _ = w.Shutdown(context.Background()) }
}

var silentFrame = bytes.Repeat([]byte{0xff}, 160)

// leave ends the call from the caller's side.
func (c *call) leave() {
	if c.peer == nil {
		_ = c.carrier.HangUp()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = c.peer.Hangup(ctx)
	_ = c.peer.Close()
}

// source fills the caller's next 20 ms.
func (c *call) source(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := min(len(c.toSay), len(frame)); n > 0 {
		media.EncodePCMU(frame[:0], c.toSay[:n])
		c.toSay = c.toSay[n:]
	}
}

// heard takes what the caller hears.
func (c *call) heard(at time.Time, frame []byte, n int) {
	c.hear(at, media.DecodePCMU(nil, frame[:n]))
}

func (c *call) hear(at time.Time, pcm []int16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listener == nil {
		c.tape.Add(at, pcm)
	} else {
		c.listener(at, pcm)
	}
	for _, s := range pcm {
		if s > 300 || s < -300 {
			c.sounded = at
			return
		}
	}
}

// say begins a sound, and returns when it is over at the caller's mouth.
func (c *call) say(s sound) {
	c.begin(s)
	time.Sleep(media.Duration(int64(len(s.pcm)), 8000))
}

// begin begins a sound. The recognizer will hear its words when they arrive.
func (c *call) begin(s sound) {
	c.mu.Lock()
	c.toSay = append(c.toSay, s.pcm...)
	c.talked = [2]time.Time{time.Now(), time.Now().Add(media.Duration(int64(len(c.toSay)), 8000))}
	stt := c.stt
	c.mu.Unlock()
	if stt == nil {
		c.t.Fatal("nobody listens")
	}
	for _, w := range s.words {
		stt.expect(w.Text, w.End+media.Ptime+c.p.up.Delay+c.p.up.Jitter)
	}
}

// wait lets virtual time pass.
func (c *call) wait(d time.Duration) { time.Sleep(d) }

// untilSound waits for the agent to be heard from now on; false: not in time.
func (c *call) untilSound(within time.Duration) bool {
	return c.until(within, func(now, sounded time.Time, since time.Time) bool { return sounded.After(since) })
}

// untilQuiet waits for the agent to have been silent for d.
func (c *call) untilQuiet(d, within time.Duration) bool {
	return c.until(within, func(now, sounded time.Time, since time.Time) bool {
		if sounded.Before(since) {
			sounded = since
		}
		return now.Sub(sounded) >= d
	})
}

func (c *call) until(within time.Duration, done func(now, sounded, since time.Time) bool) bool {
	since := time.Now()
	for time.Since(since) < within {
		c.mu.Lock()
		ok := done(time.Now(), c.sounded, since)
		c.mu.Unlock()
		if ok {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// hangUp ends the call from the caller's side, and returns how the session saw it.
func (c *call) hangUp() agent.Ending {
	c.leave()
	return <-c.ending
}

// ended waits for the session's own end.
func (c *call) ended(within time.Duration) agent.Ending {
	c.t.Helper()
	select {
	case e := <-c.ending:
		return e
	case <-time.After(within):
		c.t.Fatalf("the call has not ended after %v; %s", within, c.said())
		return agent.Ending{}
	}
}

// said lists the turns as "speaker: heard", a cut one with a dash.
func (c *call) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, t := range c.turns {
		b.WriteString(t.Speaker + ": " + t.Heard)
		if t.Interrupted {
			b.WriteString(" -")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// of returns the turns of a speaker.
func (c *call) of(speaker string) (out []agent.Turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.turns {
		if t.Speaker == speaker {
			out = append(out, t)
		}
	}
	return out
}

// A clause is what the agent's voice was asked for.
type clause struct {
	text   string
	at     time.Time // when it was asked for
	speech signalingtest.Speech
}

// truth is what the caller heard of a text of the agent's.
func (c *call) truth(text string) signalingtest.Hearing {
	c.mu.Lock()
	defer c.mu.Unlock()
	var speech []signalingtest.Speech
	var since time.Time
	for _, m := range c.made {
		if strings.Contains(text, m.text) {
			if speech == nil {
				since = m.at
			}
			speech = append(speech, m.speech)
		}
	}
	return c.tape.Since(since).Hear(speech...)
}

// desk is the gateway's side.
type desk struct{ c *call }

func (d desk) Arrive(context.Context, signaling.Arrival) (signaling.Admitted, error) {
	return signaling.Admitted{CallID: "call-1", Agent: "demo"}, nil
}

func (d desk) Next(context.Context, string, string) (signaling.Next, error) {
	return signaling.Next{Do: "hangup"}, nil
}

func (d desk) TransferEnded(context.Context, string, string, string) (signaling.Next, error) {
	return signaling.Next{Do: "hangup"}, nil
}

func (d desk) Status(context.Context, signaling.CarrierStatus) error { return nil }

func (d desk) Serve(ctx context.Context, _ string, leg media.Leg) error {
	end := agent.Run(ctx, leg, d.c.spec())
	d.c.ending <- end
	return end.Err
}

func (c *call) spec() agent.Spec {
	greeting := c.p.greeting
	if greeting == "" {
		greeting = "Hello there."
	}
	s := agent.Spec{
		CallID: "call-1",
		Prompt: &agent.PromptSpec{System: "be brief", Greeting: greeting, Models: []agent.Model{{Vendor: "stand-in", LLM: c}}},
		Recognizers: []agent.Recognizer{{Vendor: "stand-in", Rates: []int{8000}, Interims: true,
			Dial: func(ctx context.Context, _ agent.Hearing) (agent.STT, error) { return c.listen(ctx), nil }}},
		Synthesizers: []agent.Synthesizer{{Vendor: "stand-in", Voice: "slt", Dial: func(context.Context, agent.Delivery) (agent.TTS, error) {
			return &standInVoice{c: c, delay: 100 * time.Millisecond, align: c.p.align}, nil
		}}},
		Journal: c,
		Idle:    time.Minute,
		Observe: func(e agent.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
		},
	}
	if c.p.spec != nil {
		c.p.spec(&s)
	}
	return s
}

// Turn implements [agent.Journal].
func (c *call) Turn(_ context.Context, t agent.Turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns = append(c.turns, t)
}

// Commit implements [agent.Journal].
func (c *call) Commit(context.Context, agent.Commit) {}

// Reply implements [agent.LLM]: the plan's next reply, word by word. "END" at
// its end hangs up.
func (c *call) Reply(ctx context.Context, p agent.Prompt) iter.Seq2[agent.Delta, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prompts = append(c.prompts, p)
	text := "Alright."
	if len(c.replies) > 0 {
		text, c.replies = c.replies[0], c.replies[1:]
	}
	return func(yield func(agent.Delta, error) bool) {
		text, end := strings.CutSuffix(text, "END")
		for _, w := range strings.SplitAfter(text, " ") {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				yield(agent.Delta{}, ctx.Err())
				return
			}
			if !yield(agent.Delta{Text: w}, nil) {
				return
			}
		}
		if end {
			yield(agent.Delta{Call: &agent.ToolCall{ID: "c1", Name: "end_call", Arguments: "{}"}, Finish: "tool_calls"}, nil)
		}
	}
}

// A standInSTT recognizes words as they arrive, since the caller told it which:
// an interim after each, and what there is as a final when speech pauses.
type standInSTT struct {
	ctx  context.Context
	c    *call
	out  chan agent.Transcript
	mu   sync.Mutex
	text []string
}

const recognizeIn = 120 * time.Millisecond

func (c *call) listen(ctx context.Context) *standInSTT {
	s := &standInSTT{ctx: ctx, c: c, out: make(chan agent.Transcript, 1000)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stt = s
	return s
}

// expect has a word arrive in a while.
func (s *standInSTT) expect(word string, in time.Duration) {
	time.AfterFunc(in+recognizeIn, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.text = append(s.text, word)
		s.out <- agent.Transcript{Text: strings.Join(s.text, " ")}
	})
}

func (s *standInSTT) WriteFrame(media.Frame) error { return nil }
func (s *standInSTT) Expect(agent.Expectation)     {}
func (s *standInSTT) Close() error                 { return nil }

func (s *standInSTT) Speech(on bool) error {
	if on {
		return nil
	}
	time.AfterFunc(recognizeIn, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.out <- agent.Transcript{Text: strings.Join(s.text, " "), Final: true, Flushed: true}
		s.text = nil
	})
	return nil
}

func (s *standInSTT) Recv() (agent.Transcript, error) {
	select {
	case t := <-s.out:
		return t, nil
	case <-s.ctx.Done():
		return agent.Transcript{}, s.ctx.Err()
	}
}
