package stt

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/agent"
	"parley/agent/socket"
	"parley/media"
)

// flux speaks Deepgram's turn-taking protocol of
// https://developers.deepgram.com/reference/speech-to-text/listen-flux.
var flux = Vendor{
	Name:       "deepgram-flux",
	Models:     []string{"flux-general-en", "flux-general-multi"},
	Rates:      []int{16000, 8000},
	Interims:   true,
	Pace:       1.25,
	FinalLag:   fluxFinal + 100*time.Millisecond, // it is answered for then
	EndsTurns:  true,
	DefaultURL: "https://api.deepgram.com",
}.dialedBy(dialFlux)

const (
	fluxDial = 3 * time.Second
	// fluxChunk is the size of message that the vendor strongly recommends.
	fluxChunk = 80 * time.Millisecond
	// fluxRest keeps a stream without audio from looking dead. That the vendor
	// hangs up on one, as its older protocol does after 10 s, is unverified.
	fluxRest = 4 * time.Second
	// fluxQuiet is how long audio may stop within a turn: without audio the
	// vendor never ends it, so silence is sent in its place.
	fluxQuiet = 500 * time.Millisecond
	// fluxForce is how long after a pause the vendor may make up its own mind;
	// then the turn is ended for it. fluxFinal is when the pause is answered in
	// any case: the vendor ignores the request while it knows of no turn.
	fluxForce    = 350 * time.Millisecond
	fluxFinal    = 650 * time.Millisecond
	fluxSlack    = 200 * time.Millisecond // by which a turn may end before the pause is noticed
	fluxKeyterms = 100                    // of at most 500 tokens together
)

func dialFlux(ctx context.Context, o Options) (agent.STT, error) {
	s := newStream(ctx, o.Rate)
	s.model = o.Model
	conn, err := socket.Dial(ctx, s.ctx, socket.Line{
		Vendor: "deepgram-flux", Base: o.URL, Path: "/v2/listen", Limit: cmp.Or(o.Limit, fluxDial), Query: fluxQuery(o),
		Header: "Authorization", Scheme: "Token ", Key: o.Key, Refused: socket.DeepgramRefused,
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	f := &fluxListener{stream: s, conn: conn, turn: fluxTurn{rate: o.Rate}}
	s.start(f.run)
	return s, nil
}

func fluxQuery(o Options) url.Values {
	q := url.Values{"encoding": {"linear16"}, "sample_rate": {strconv.Itoa(o.Rate)}}
	// Only the multilingual model takes a hint, and the other one only English.
	language, _, _ := strings.Cut(strings.ToLower(o.Language), "-")
	if language != "en" && o.Model == "flux-general-en" {
		o.Model = "flux-general-multi"
	}
	if o.Model == "flux-general-multi" {
		q.Set("language_hint", language)
	}
	q.Set("model", o.Model)
	if o.TurnThreshold > 0 {
		q.Set("eot_threshold", fluxNumber(min(max(o.TurnThreshold, 0.5), 1)))
	}
	if o.EagerThreshold > 0 {
		q.Set("eager_eot_threshold", fluxNumber(min(max(o.EagerThreshold, 0.3), 0.9)))
	}
	return q
}

func fluxNumber(f float64) string { return strconv.FormatFloat(f, 'g', 4, 64) }

// A fluxListener is one open socket. All but read runs in one goroutine.
type fluxListener struct {
	stream *stream
	conn   *socket.Conn
	turn   fluxTurn

	heard    time.Time // when audio was last sent
	keyterms []string  // in force, or on their way
	waiting  []string  // to follow them; nil if none
	unacked  bool      // a Configure: only one may be on its way
	wire     []byte
}

func (f *fluxListener) run(ctx context.Context) error {
	defer f.conn.Close()
	return f.converse(ctx)
}

// closed is how the stream ends when its socket has. The vendor promises no close
// status: after CloseStream any end is the end asked for.
func (f *fluxListener) closed(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case f.stream.ring.isClosed():
		f.end()
		return nil
	}
	return f.conn.Err()
}

// converse sends what the ring holds and takes what the vendor answers, until
// the ring is closed and drained.
func (f *fluxListener) converse(ctx context.Context) error {
	ring := f.stream.ring
	pcm := make([]int16, media.Samples(fluxChunk, ring.rate))
	timer := time.NewTimer(fluxRest)
	defer timer.Stop()
	f.heard = time.Now()
	fill, from := 0, int64(0)
	for {
		n, e, at, closed := ring.take(pcm[fill:])
		if n > 0 && fill > 0 && at != from+int64(fill) { // some were dropped between
			if err := f.audio(pcm[:fill], from); err != nil {
				return err
			}
			fill = copy(pcm, pcm[fill:fill+n])
			from = at
		} else if n > 0 {
			if fill == 0 {
				from = at
			}
			fill += n
		}
		if fill == len(pcm) || fill > 0 && (e != nil || closed) {
			if err := f.audio(pcm[:fill], from); err != nil {
				return err
			}
			fill = 0
		}
		if e != nil {
			if err := f.event(e, at); err != nil {
				return err
			}
		}
		if closed {
			return f.drain(ctx)
		}
		var wake <-chan struct{}
		var now chan struct{} // ready if the ring may hold more
		if n > 0 || e != nil {
			now = make(chan struct{})
			close(now)
		} else {
			wake = ring.wake
			timer.Reset(time.Until(f.due()))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-f.conn.In:
			if !ok {
				return f.closed(ctx)
			}
			if err := f.take(m.Data); err != nil {
				return err
			}
		case <-timer.C:
		case <-wake:
		case <-now:
		}
		if err := f.tick(time.Now()); err != nil {
			return err
		}
	}
}

// due is when tick is to be called at the latest.
func (f *fluxListener) due() time.Time {
	next := f.heard.Add(f.patience())
	if t := f.turn.due; !t.IsZero() && t.Before(next) {
		next = t
	}
	return next
}

// patience is how long no audio may be sent.
func (f *fluxListener) patience() time.Duration {
	if f.turn.open {
		return fluxQuiet
	}
	return fluxRest
}

func (f *fluxListener) tick(now time.Time) error {
	if quiet := now.Sub(f.heard); quiet >= f.patience() {
		// As much silence as real time has passed, so that the turn can end.
		n := media.Samples(min(quiet, time.Second), f.stream.ring.rate)
		f.turn.clock.silence(n)
		if err := f.send(make([]byte, 2*n)); err != nil {
			return err
		}
	}
	t, force, ok := f.turn.late(now)
	if ok {
		f.stream.emit(t)
	}
	if force {
		return f.conn.SendJSON(struct {
			Type string `json:"type"`
		}{"ForceEndTurn"})
	}
	return nil
}

func (f *fluxListener) event(e *event, at int64) error {
	if e.expect != nil {
		f.waiting = e.expect.Phrases[:min(len(e.expect.Phrases), fluxKeyterms)]
		if f.waiting == nil {
			f.waiting = []string{}
		}
		return f.configure()
	}
	if t, ok := f.turn.pause(!e.speech, media.Duration(at, f.stream.ring.rate), time.Now()); ok {
		f.stream.emit(t)
	}
	return nil
}

// configure sends the latest key terms, once the vendor has answered for those
// before them.
func (f *fluxListener) configure() error {
	if f.waiting == nil || f.unacked {
		return nil
	}
	want := f.waiting
	f.waiting = nil
	if slices.Equal(want, f.keyterms) {
		return nil
	}
	f.keyterms, f.unacked = want, true
	return f.conn.SendJSON(struct {
		Type     string   `json:"type"`
		Keyterms []string `json:"keyterms"`
	}{"Configure", want})
}

// take handles one message.
func (f *fluxListener) take(b []byte) error {
	m, err := parseFlux(b)
	if err != nil {
		return err
	}
	switch m.Type {
	case "ConfigureSuccess", "ConfigureFailure": // on failure those before hold
		f.unacked = false
		if err := f.configure(); err != nil {
			return err
		}
	case "TurnInfo":
		told := f.turn.info(m)
		for _, t := range told {
			f.stream.emit(t)
		}
		if len(told) > 0 {
			return nil
		}
	}
	f.stream.emit(agent.Transcript{}) // a sign of life
	return nil
}

// drain asks for the last words. The vendor does not end the turn then: the
// last update is what was said.
func (f *fluxListener) drain(ctx context.Context) error {
	if err := f.conn.SendJSON(struct {
		Type string `json:"type"`
	}{"CloseStream"}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-f.conn.In:
			if !ok {
				return f.closed(ctx)
			}
			if err := f.take(m.Data); err != nil {
				return err
			}
		}
	}
}

// end tells the open turn's text as final.
func (f *fluxListener) end() {
	if t, ok := f.turn.close(); ok {
		f.stream.emit(t)
	}
}

func (f *fluxListener) audio(pcm []int16, at int64) error {
	f.turn.clock.audio(at, int64(len(pcm)))
	f.wire = appendPCM(f.wire[:0], pcm)
	return f.send(f.wire)
}

func (f *fluxListener) send(pcm []byte) error {
	f.heard = time.Now()
	if err := f.conn.Send(true, pcm); err != nil {
		return err
	}
	f.stream.sent.Add(int64(len(pcm) / 2))
	return nil
}
