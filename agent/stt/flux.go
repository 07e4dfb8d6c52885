package stt

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"parley/agent"
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
	fluxDial  = 3 * time.Second
	fluxWrite = 5 * time.Second
	// fluxChunk is the size of message that the vendor strongly recommends.
	fluxChunk = 80 * time.Millisecond
	// It has no message to keep a stream alive; a ping of RFC 6455 §5.5.2 must
	// be answered, and tells a dead peer from a silent line.
	fluxPing = 5 * time.Second
	fluxIdle = 3 * fluxPing
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
	fluxLimit    = 1 << 20                // bytes a message
	fluxKeyterms = 100                    // of at most 500 tokens together
)

func dialFlux(ctx context.Context, o Options) (agent.STT, error) {
	address, err := fluxURL(o)
	if err != nil {
		return nil, fmt.Errorf("deepgram-flux: %w: %w", agent.ErrProtocol, err)
	}
	limited, cancel := context.WithTimeout(ctx, cmp.Or(o.Limit, fluxDial))
	defer cancel()
	header := http.Header{}
	if err := authorize(limited, header, "Token ", o.Key); err != nil {
		return nil, fmt.Errorf("deepgram-flux: %w", err)
	}
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: fluxDial}
	conn, res, err := dialer.DialContext(limited, address, header)
	if err != nil {
		return nil, deepgramRefused(ctx, res, err)
	}
	conn.SetReadLimit(fluxLimit)
	s := newStream(ctx, o.Rate)
	f := &fluxListener{stream: s, conn: conn, turn: fluxTurn{rate: o.Rate}}
	s.start(f.run)
	return s, nil
}

func fluxURL(o Options) (string, error) {
	u, err := url.Parse(strings.TrimRight(o.URL, "/"))
	if err != nil {
		return "", errors.New("address is not a URL")
	}
	u.Scheme = map[string]string{"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}[u.Scheme]
	if u.Scheme == "" || u.Host == "" {
		return "", errors.New("address is not an http(s) or ws(s) URL")
	}
	if !strings.HasSuffix(u.Path, "/listen") {
		u.Path += "/v2/listen"
	}
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
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func fluxNumber(f float64) string { return strconv.FormatFloat(f, 'g', 4, 64) }

// A fluxListener is one open socket. All but read runs in one goroutine.
type fluxListener struct {
	stream *stream
	conn   *websocket.Conn
	turn   fluxTurn

	heard    time.Time // when audio was last sent
	pinged   time.Time
	keyterms []string // in force, or on their way
	waiting  []string // to follow them; nil if none
	unacked  bool     // a Configure: only one may be on its way
	wire     []byte
}

func (f *fluxListener) run(ctx context.Context) error {
	defer f.conn.Close()
	g, ctx := errgroup.WithContext(ctx)
	// A read has no context: closing the socket ends it.
	defer context.AfterFunc(ctx, func() { f.conn.Close() })()
	read := make(chan []byte)
	g.Go(func() error {
		defer close(read)
		return f.read(ctx, read)
	})
	g.Go(func() error { return f.converse(ctx, read) })
	return g.Wait()
}

// read hands on what comes. After CloseStream the vendor hangs up without a
// status: any end is then the end asked for.
func (f *fluxListener) read(ctx context.Context, out chan<- []byte) error {
	alive := func(string) error { return f.conn.SetReadDeadline(time.Now().Add(fluxIdle)) }
	f.conn.SetPongHandler(alive)
	for {
		_ = alive("")
		_, b, err := f.conn.ReadMessage()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case f.stream.ring.isClosed():
			return nil
		default:
			return fluxClosed(err)
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func fluxClosed(err error) error {
	var end *websocket.CloseError
	if !errors.As(err, &end) {
		return fmt.Errorf("deepgram-flux: read: %w: %w", agent.ErrUnavailable, err)
	}
	kind := agent.ErrUnavailable
	switch end.Code {
	case websocket.ClosePolicyViolation, websocket.CloseUnsupportedData, websocket.CloseMessageTooBig:
		kind = agent.ErrProtocol
	}
	return fmt.Errorf("deepgram-flux: %w: close %d %q", kind, end.Code, plain(end.Text))
}

// converse sends what the ring holds and takes what the vendor answers, until
// the ring is closed and drained.
func (f *fluxListener) converse(ctx context.Context, in <-chan []byte) error {
	ring := f.stream.ring
	pcm := make([]int16, media.Samples(fluxChunk, ring.rate))
	timer := time.NewTimer(fluxPing)
	defer timer.Stop()
	f.heard, f.pinged = time.Now(), time.Now()
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
			return f.drain(ctx, in)
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
		case b, ok := <-in:
			if !ok { // read's own error counts
				f.end()
				return nil
			}
			if err := f.take(b); err != nil {
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
	next := f.pinged.Add(fluxPing)
	for _, t := range []time.Time{f.heard.Add(f.patience()), f.turn.due} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
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
	if now.Sub(f.pinged) >= fluxPing {
		f.pinged = now
		if err := f.conn.WriteControl(websocket.PingMessage, nil, now.Add(fluxWrite)); err != nil {
			return fmt.Errorf("deepgram-flux: ping: %w: %w", agent.ErrUnavailable, err)
		}
	}
	t, force, ok := f.turn.late(now)
	if ok {
		f.stream.emit(t)
	}
	if force {
		return f.control(struct {
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
	return f.control(struct {
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
		return f.configure()
	case "TurnInfo":
		for _, t := range f.turn.info(m) {
			f.stream.emit(t)
		}
	}
	return nil
}

// drain asks for the last words. The vendor does not end the turn then: the
// last update is what was said.
func (f *fluxListener) drain(ctx context.Context, in <-chan []byte) error {
	if err := f.control(struct {
		Type string `json:"type"`
	}{"CloseStream"}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b, ok := <-in:
			if !ok {
				f.end()
				return nil
			}
			if err := f.take(b); err != nil {
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
	f.wire = f.wire[:0]
	for _, v := range pcm {
		f.wire = append(f.wire, byte(v), byte(v>>8))
	}
	return f.send(f.wire)
}

func (f *fluxListener) send(pcm []byte) error {
	f.heard = time.Now()
	return f.write(websocket.BinaryMessage, pcm)
}

func (f *fluxListener) control(m any) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("deepgram-flux: %w: %w", agent.ErrProtocol, err)
	}
	return f.write(websocket.TextMessage, b)
}

func (f *fluxListener) write(kind int, b []byte) error {
	if err := f.conn.SetWriteDeadline(time.Now().Add(fluxWrite)); err != nil {
		return fmt.Errorf("deepgram-flux: write: %w: %w", agent.ErrUnavailable, err)
	}
	if err := f.conn.WriteMessage(kind, b); err != nil {
		return fmt.Errorf("deepgram-flux: write: %w: %w", agent.ErrUnavailable, err)
	}
	return nil
}
