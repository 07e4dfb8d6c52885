package stt

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/agent"
	"parley/agent/socket"
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
	deepgramKeepAlive = 4 * time.Second        // it hangs up after 10 s without a message
	deepgramFinal     = 700 * time.Millisecond // its answer to Finalize is not promised
)

func dialDeepgram(ctx context.Context, o Options) (agent.STT, error) {
	s := newStream(ctx, o.Rate)
	s.model = o.Model
	conn, err := socket.Dial(ctx, s.ctx, socket.Line{
		Vendor: "deepgram", Base: o.URL, Path: "/v1/listen", Limit: cmp.Or(o.Limit, deepgramDial), Query: deepgramQuery(o),
		Header: "Authorization", Scheme: "Token ", Key: o.Key, Refused: socket.DeepgramRefused,
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	d := &listener{stream: s, conn: conn, flush: make(chan time.Duration, 1)}
	s.start(d.run)
	return s, nil
}

// deepgramTerms bounds the terms of a stream: 500 tokens in all are taken
// (https://developers.deepgram.com/docs/keyterm).
const deepgramTerms = 50

func deepgramQuery(o Options) url.Values {
	q := url.Values{
		"model": {o.Model}, "language": {o.Language},
		"encoding": {"linear16"}, "sample_rate": {strconv.Itoa(o.Rate)}, "channels": {"1"},
		"interim_results": {"true"}, "endpointing": {"300"}, "utterance_end_ms": {"1000"},
		"vad_events": {"true"}, "smart_format": {"true"}, "punctuate": {"true"},
	}
	for _, t := range o.Terms[:min(len(o.Terms), deepgramTerms)] {
		if strings.HasPrefix(o.Model, "nova-3") {
			q.Add("keyterm", t)
		} else { // older models take words with a weight
			q.Add("keywords", t+":"+strconv.FormatFloat(cmp.Or(o.Boost, 1), 'g', 3, 64))
		}
	}
	return q
}

// A listener is one open socket: send writes it, receive reads it.
type listener struct {
	stream *stream
	conn   *socket.Conn
	flush  chan time.Duration // where in the audio a Finalize was sent
	ended  bool               // this utterance's end was told; receive's own
	wire   []byte
}

func (d *listener) run(ctx context.Context) error {
	defer d.conn.Close()
	ctx, end := context.WithCancelCause(ctx)
	var sending sync.WaitGroup
	sending.Go(func() {
		if err := d.send(ctx); err != nil {
			end(err)
		}
	})
	err := d.receive(ctx)
	end(err)
	sending.Wait()
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx) // of what came first
	}
	return err
}

// send is the socket's only writer.
func (d *listener) send(ctx context.Context) error {
	rate := d.stream.ring.rate
	pcm := make([]int16, media.Samples(100*time.Millisecond, rate))
	keep := time.NewTicker(deepgramKeepAlive)
	defer keep.Stop()
	for {
		n, e, at, closed := d.stream.ring.take(pcm)
		var err error
		switch {
		case closed:
			return d.conn.Send(false, []byte(`{"type":"CloseStream"}`))
		case e != nil && e.expect == nil && !e.speech:
			select { // first, so that receive knows what the answer is to
			case d.flush <- media.Duration(at, rate):
			case <-ctx.Done():
				return ctx.Err()
			}
			err = d.conn.Send(false, []byte(`{"type":"Finalize"}`))
		case e != nil: // it needs no word of the others
		case n > 0: // an empty message would end the stream
			d.wire = appendPCM(d.wire[:0], pcm[:n])
			keep.Reset(deepgramKeepAlive)
			if err = d.conn.Send(true, d.wire); err == nil {
				d.stream.sent.Add(int64(n))
			}
		default:
			select {
			case <-d.stream.ring.wake:
			case <-keep.C:
				err = d.conn.Send(false, []byte(`{"type":"KeepAlive"}`))
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}

// closed is how a stream ends whose socket has: nil after the CloseStream that
// asks for a normal closure.
func (d *listener) closed(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case d.stream.ring.isClosed() && socket.Normal(d.conn.Err()):
		return nil
	}
	return d.conn.Err()
}

// receive turns messages into transcripts, and sees to it that every Finalize
// is answered.
func (d *listener) receive(ctx context.Context) error {
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
				d.stream.emit(agent.Transcript{Start: at, End: at, Final: true, Flushed: true, Late: true})
			}
		case m, ok := <-d.conn.In:
			if !ok {
				return d.closed(ctx)
			}
			t, err := d.parse(m.Data)
			if err != nil {
				return fmt.Errorf("deepgram: %w: %w", agent.ErrProtocol, err)
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

// parse reads one message. What carries nothing for a session is a sign of life.
func (d *listener) parse(b []byte) (t agent.Transcript, err error) {
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
		return t, errors.New("message is not the JSON promised")
	}
	switch m.Type {
	case "SpeechStarted":
		d.ended = false
		return t, nil
	case "UtteranceEnd":
		if d.ended {
			return t, nil
		}
		d.ended = true
		end := seconds(m.LastWordEnd)
		return agent.Transcript{Start: end, End: end, Final: true, EOU: true}, nil
	case "Results":
	default:
		return t, nil
	}
	var channel struct {
		Alternatives []struct {
			Transcript string  `json:"transcript"`
			Confidence float64 `json:"confidence"`
		} `json:"alternatives"`
	}
	if err := json.Unmarshal(m.Channel, &channel); err != nil {
		return t, errors.New("results without a channel")
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
	if t.Text == "" && !t.EOU && !t.Flushed {
		return agent.Transcript{}, nil
	}
	return t, nil
}

// seconds reads a vendor's time; nonsense is 0.
func seconds(s float64) time.Duration {
	if !(s > 0 && s < 1e6) {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
