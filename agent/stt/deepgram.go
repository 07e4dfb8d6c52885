package stt

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"parley/agent"
	"parley/media"
)

// deepgram speaks the live-streaming protocol of
// https://developers.deepgram.com/reference/listen-live.
var deepgram = Vendor{
	Name:       "deepgram",
	Models:     []string{"nova-3", "nova-2-phonecall", "nova-2"},
	Rates:      []int{16000, 8000},
	Interims:   true,
	Pace:       1.25,                                 // of its live protocols
	FinalLag:   deepgramFinal + 100*time.Millisecond, // it is answered for then
	DefaultURL: "https://api.deepgram.com",
}.dialedBy(dialDeepgram)

const (
	deepgramDial      = 3 * time.Second
	deepgramKeepAlive = 4 * time.Second // it hangs up after 10 s without a message
	deepgramIdle      = 12 * time.Second
	deepgramWrite     = 5 * time.Second
	deepgramFinal     = 700 * time.Millisecond // its answer to Finalize is not promised
	deepgramMessage   = 1 << 20                // bytes
)

func dialDeepgram(ctx context.Context, o Options) (agent.STT, error) {
	address, err := deepgramURL(o)
	if err != nil {
		return nil, fmt.Errorf("deepgram: %w: %w", agent.ErrProtocol, err)
	}
	limited, cancel := context.WithTimeout(ctx, cmp.Or(o.Limit, deepgramDial))
	defer cancel()
	header := http.Header{}
	if err := authorize(limited, header, "Token ", o.Key); err != nil {
		return nil, fmt.Errorf("deepgram: %w", err)
	}
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: deepgramDial}
	conn, res, err := dialer.DialContext(limited, address, header)
	if err != nil {
		return nil, deepgramRefused(ctx, res, err)
	}
	conn.SetReadLimit(deepgramMessage)
	s := newStream(ctx, o.Rate)
	d := &listener{stream: s, conn: conn, flush: make(chan time.Duration, 1)}
	s.start(d.run)
	return s, nil
}

func deepgramURL(o Options) (string, error) {
	u, err := url.Parse(strings.TrimRight(o.URL, "/"))
	if err != nil {
		return "", errors.New("address is not a URL")
	}
	u.Scheme = map[string]string{"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}[u.Scheme]
	if u.Scheme == "" || u.Host == "" {
		return "", errors.New("address is not an http(s) or ws(s) URL")
	}
	if !strings.HasSuffix(u.Path, "/listen") {
		u.Path += "/v1/listen"
	}
	u.RawQuery = url.Values{
		"model": {o.Model}, "language": {o.Language},
		"encoding": {"linear16"}, "sample_rate": {strconv.Itoa(o.Rate)}, "channels": {"1"},
		"interim_results": {"true"}, "endpointing": {"300"}, "utterance_end_ms": {"1000"},
		"vad_events": {"true"}, "smart_format": {"true"}, "punctuate": {"true"},
	}.Encode()
	return u.String(), nil
}

// deepgramRefused maps a handshake that failed. Its own two headers, dg-error
// and dg-request-id, are what its support asks for.
func deepgramRefused(ctx context.Context, res *http.Response, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if res == nil || res.StatusCode == http.StatusSwitchingProtocols {
		return fmt.Errorf("dial deepgram: %w: %w", agent.ErrUnavailable, err)
	}
	refused := agent.Refused(res.StatusCode, res.Header, "")
	return fmt.Errorf("dial deepgram: %w (dg-error %q, dg-request-id %q)", refused,
		plain(res.Header.Get("dg-error")), plain(res.Header.Get("dg-request-id")))
}

// plain shortens what a vendor says of itself, and hides any word of it long
// enough to be a key, save a UUID.
func plain(s string) string {
	var out []string
	for w := range strings.FieldsSeq(s[:min(len(s), 200)]) {
		if len(w) > 20 && !(len(w) == 36 && strings.Count(w, "-") == 4) {
			w = "…"
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// A listener is one open socket: send writes it, receive reads it.
type listener struct {
	stream *stream
	conn   *websocket.Conn
	flush  chan time.Duration // where in the audio a Finalize was sent
	ended  bool               // this utterance's end was told; receive's own
}

func (d *listener) run(ctx context.Context) error {
	defer d.conn.Close()
	g, ctx := errgroup.WithContext(ctx)
	// A read has no context: closing the socket ends it.
	defer context.AfterFunc(ctx, func() { d.conn.Close() })()
	read := make(chan []byte)
	g.Go(func() error { return d.send(ctx) })
	g.Go(func() error {
		defer close(read)
		return d.read(ctx, read)
	})
	g.Go(func() error { return d.receive(ctx, read) })
	return g.Wait()
}

// send is the socket's only writer.
func (d *listener) send(ctx context.Context) error {
	rate := d.stream.ring.rate
	pcm := make([]int16, media.Samples(100*time.Millisecond, rate))
	wire := make([]byte, 0, 2*len(pcm))
	keep := time.NewTicker(deepgramKeepAlive)
	defer keep.Stop()
	for {
		n, e, at, closed := d.stream.ring.take(pcm)
		var err error
		switch {
		case closed:
			return d.write(websocket.TextMessage, []byte(`{"type":"CloseStream"}`))
		case e != nil && e.expect == nil && !e.speech:
			select { // first, so that receive knows what the answer is to
			case d.flush <- media.Duration(at, rate):
			case <-ctx.Done():
				return ctx.Err()
			}
			err = d.write(websocket.TextMessage, []byte(`{"type":"Finalize"}`))
		case e != nil: // it needs no word of the others
		case n > 0: // an empty message would end the stream
			wire = wire[:0]
			for _, v := range pcm[:n] {
				wire = append(wire, byte(v), byte(v>>8))
			}
			keep.Reset(deepgramKeepAlive)
			err = d.write(websocket.BinaryMessage, wire)
		default:
			select {
			case <-d.stream.ring.wake:
			case <-keep.C:
				err = d.write(websocket.TextMessage, []byte(`{"type":"KeepAlive"}`))
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}

func (d *listener) write(kind int, b []byte) error {
	if err := d.conn.SetWriteDeadline(time.Now().Add(deepgramWrite)); err != nil {
		return fmt.Errorf("deepgram: write: %w: %w", agent.ErrUnavailable, err)
	}
	if err := d.conn.WriteMessage(kind, b); err != nil {
		return fmt.Errorf("deepgram: write: %w: %w", agent.ErrUnavailable, err)
	}
	return nil
}

// read hands on what comes. It returns nil at the end that CloseStream asks
// for.
func (d *listener) read(ctx context.Context, out chan<- []byte) error {
	for {
		_ = d.conn.SetReadDeadline(time.Now().Add(deepgramIdle))
		_, b, err := d.conn.ReadMessage()
		if err != nil {
			return d.closed(ctx, err)
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *listener) closed(ctx context.Context, err error) error {
	var end *websocket.CloseError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &end):
		return fmt.Errorf("deepgram: read: %w: %w", agent.ErrUnavailable, err)
	case end.Code == websocket.CloseNormalClosure:
		if d.stream.ring.isClosed() {
			return nil
		}
		return fmt.Errorf("deepgram: %w: it closed the stream", agent.ErrUnavailable)
	case end.Code == websocket.ClosePolicyViolation, end.Code == websocket.CloseUnsupportedData, end.Code == websocket.CloseMessageTooBig:
		return fmt.Errorf("deepgram: %w: close %d %q", agent.ErrProtocol, end.Code, plain(end.Text))
	}
	return fmt.Errorf("deepgram: %w: close %d %q", agent.ErrUnavailable, end.Code, plain(end.Text))
}

// receive turns messages into transcripts, and sees to it that every Finalize
// is answered.
func (d *listener) receive(ctx context.Context, in <-chan []byte) error {
	late := time.NewTimer(time.Hour)
	defer late.Stop()
	late.Stop()
	var due finalizes
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case at := <-d.flush:
			due.sent(at)
			late.Reset(deepgramFinal)
		case <-late.C:
			if at, ok := due.late(); ok {
				d.stream.emit(agent.Transcript{Start: at, End: at, Final: true, Flushed: true})
			}
		case b, ok := <-in:
			if !ok {
				return nil
			}
			t, ok, err := d.parse(b)
			if err != nil {
				return fmt.Errorf("deepgram: %w: %w", agent.ErrProtocol, err)
			}
			if !ok {
				continue
			}
			if t.Flushed {
				if d.collect(&due) { // the request comes before its answer
					late.Reset(deepgramFinal)
				}
				t.Flushed = due.answered(t.End)
				if !due.waiting() {
					late.Stop()
				}
			}
			d.stream.emit(t)
		}
	}
}

// collect takes the requests that send has told of meanwhile, if there are some.
func (d *listener) collect(due *finalizes) (some bool) {
	for {
		select {
		case at := <-d.flush:
			due.sent(at)
			some = true
		default:
			return some
		}
	}
}

// parse reads one message. ok is false for what carries nothing for a session.
func (d *listener) parse(b []byte) (t agent.Transcript, ok bool, err error) {
	var m struct {
		Type         string          `json:"type"`
		Start        float64         `json:"start"`
		Duration     float64         `json:"duration"`
		IsFinal      bool            `json:"is_final"`
		SpeechFinal  bool            `json:"speech_final"`
		FromFinalize bool            `json:"from_finalize"`
		LastWordEnd  float64         `json:"last_word_end"`
		Channel      json.RawMessage `json:"channel"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return t, false, errors.New("message is not the JSON promised")
	}
	switch m.Type {
	case "SpeechStarted":
		d.ended = false
		return t, false, nil
	case "UtteranceEnd":
		if d.ended {
			return t, false, nil
		}
		d.ended = true
		end := seconds(m.LastWordEnd)
		return agent.Transcript{Start: end, End: end, Final: true, EOU: true}, true, nil
	case "Results":
	default:
		return t, false, nil
	}
	var channel struct {
		Alternatives []struct {
			Transcript string  `json:"transcript"`
			Confidence float64 `json:"confidence"`
		} `json:"alternatives"`
	}
	if err := json.Unmarshal(m.Channel, &channel); err != nil {
		return t, false, errors.New("results without a channel")
	}
	t = agent.Transcript{
		Start: seconds(m.Start), End: seconds(m.Start + m.Duration),
		Final: m.IsFinal, Flushed: m.FromFinalize,
	}
	if len(channel.Alternatives) > 0 {
		t.Text = strings.TrimSpace(channel.Alternatives[0].Transcript)
		t.Confidence = min(max(channel.Alternatives[0].Confidence, 0), 1)
	}
	if t.Text != "" && !m.SpeechFinal {
		d.ended = false
	}
	if m.SpeechFinal && !d.ended {
		d.ended, t.EOU = true, true
	}
	return t, t.Text != "" || t.EOU || t.Flushed, nil
}

// seconds reads a vendor's time; nonsense is 0.
func seconds(s float64) time.Duration {
	if !(s > 0 && s < 1e6) {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
