package tts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"parley/agent"
	"parley/agent/socket"
)

// deepgram speaks by the streaming protocol of
// https://developers.deepgram.com/reference/text-to-speech/speak-streaming.
// It gives no word times. One socket serves all clauses; audio carries no name,
// so that the order of Flushed tells which clause it belongs to.
var deepgram = Vendor{
	Name:       "deepgram",
	Models:     []string{"aura-2", "aura"},
	Voices:     []string{"thalia", "andromeda", "helena", "apollo", "arcas", "aries", "athena", "luna", "orion", "zeus"},
	Rate:       deepgramRate,
	PerMinute:  deepgramFlushes,
	DefaultURL: "https://api.deepgram.com",
}.dialedBy(dialDeepgram)

const (
	deepgramRate      = 16000 // hertz
	deepgramPhone     = 8000
	deepgramText      = 2000             // characters of one Speak
	deepgramLife      = 55 * time.Minute // it hangs up after 60
	deepgramFlushes   = 20               // in deepgramWindow; more are not heeded
	deepgramWindow    = time.Minute
	deepgramClearTime = time.Second // for its answer to Clear
)

func dialDeepgram(ctx context.Context, o Options) (agent.TTS, error) {
	v := &deepgramVoice{o: o, ctx: ctx, rate: deepgramRate, encoding: "linear16"}
	if o.Telephone {
		v.rate, v.encoding, v.wire.mulaw = deepgramPhone, "mulaw", true
	}
	v.keeper = socket.Keep(ctx, v.dial)
	return v, nil
}

// A deepgramVoice is used by one goroutine, as the contract has it.
type deepgramVoice struct {
	o        Options
	ctx      context.Context // the dialer's
	rate     int
	encoding string

	keeper   *socket.Keeper
	socket   *socket.Conn // in use; nil if none is
	flushes  []time.Time  // on this socket, of the last minute
	clearing bool         // Clear is unanswered: what comes is of a given-up clause
	owed     bool         // and its Flushed may come even later
	wire     wire
}

// Rate implements [agent.TTS].
func (v *deepgramVoice) Rate() int { return v.rate }

// Close implements [agent.TTS].
func (v *deepgramVoice) Close() error {
	if v.socket != nil {
		_ = v.socket.SendJSON(deepgramControl{"Close"})
	}
	v.keeper.Close()
	return nil
}

// Say implements [agent.TTS].
func (v *deepgramVoice) Say(ctx context.Context, c agent.Clause) iter.Seq2[agent.Speech, error] {
	return func(yield func(agent.Speech, error) bool) {
		text := strings.TrimSpace(c.Text)
		if text == "" {
			return
		}
		more := true
		err := v.say(ctx, text, func(pcm []int16) bool {
			more = yield(agent.Speech{PCM: pcm}, nil)
			return more
		})
		if err != nil && more {
			yield(agent.Speech{}, err)
		}
	}
}

func (v *deepgramVoice) say(parent context.Context, text string, each func([]int16) bool) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	defer context.AfterFunc(v.ctx, func() { cancel(v.ctx.Err()) })()
	for {
		if v.socket != nil && (time.Since(v.socket.Born) > deepgramLife || v.spent()) {
			v.hangUp()
		}
		kept, err := v.take(ctx)
		if err != nil {
			return err
		}
		err = v.speak(ctx, text, each, kept)
		if !errors.Is(err, errStale) {
			return err
		}
	}
}

// take makes the socket that is kept open the one in use. kept tells that it may
// have died unnoticed.
func (v *deepgramVoice) take(ctx context.Context) (kept bool, err error) {
	c, err := v.keeper.Take(ctx)
	if err != nil {
		return false, err
	}
	kept = c == v.socket || time.Since(c.Born) > staleAfter
	if c != v.socket {
		v.forget()
		v.socket = c
	}
	return kept, nil
}

// spent reports whether the socket may flush no more in this minute. Sessions
// join clauses before it comes to that (Vendor.PerMinute). What still comes must
// be spoken now, so it takes a new socket, whose count is its own (that the vendor
// counts by socket is unverified; if it does not, its warning comes out as
// ErrBusy). The pieces of a long clause share one flush.
func (v *deepgramVoice) spent() bool {
	for len(v.flushes) > 0 && time.Since(v.flushes[0]) >= deepgramWindow {
		v.flushes = v.flushes[1:]
	}
	return len(v.flushes) >= deepgramFlushes
}

// dial is the keeper's, and runs in its goroutine.
func (v *deepgramVoice) dial(life context.Context) (*socket.Conn, error) {
	q := url.Values{"model": {v.model()}, "encoding": {v.encoding}, "sample_rate": {strconv.Itoa(v.rate)}}
	if v.o.Speed != 1 {
		q.Set("speed", strconv.FormatFloat(v.o.Speed, 'g', 3, 64))
	}
	return socket.Dial(life, life, socket.Line{
		Vendor: "deepgram", Base: v.o.URL, Path: "/v1/speak", Query: q, Limit: v.o.FirstByte,
		Header: "Authorization", Scheme: "Token ", Key: v.o.Key, Refused: socket.DeepgramRefused,
	})
}

// model is the vendor's name for model, voice and language in one. A model that
// is such a name already is passed on.
func (v *deepgramVoice) model() string {
	if i := strings.LastIndexByte(v.o.Model, '-'); i >= 0 && len(v.o.Model)-i == 3 {
		return v.o.Model
	}
	if strings.Contains(v.o.Voice, "-") { // with its language
		return v.o.Model + "-" + v.o.Voice
	}
	return v.o.Model + "-" + v.o.Voice + "-en"
}

type deepgramControl struct {
	Type string `json:"type"`
}

type deepgramSpeak struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// speak says one clause on the open socket. kept tells that the socket was open
// before: if it turns out dead before the first speech, that is errStale.
func (v *deepgramVoice) speak(ctx context.Context, text string, each func([]int16) bool, kept bool) error {
	began := false
	fail := func(err error) error {
		v.hangUp()
		if kept && !began && errors.Is(err, agent.ErrUnavailable) {
			return fmt.Errorf("%w: %w", errStale, err)
		}
		return err
	}
	for piece := range pieces(text, deepgramText-1) { // and a space, or words grow together
		if err := v.socket.SendJSON(deepgramSpeak{"Speak", piece + " "}); err != nil {
			return fail(err)
		}
	}
	v.flushes = append(v.flushes, time.Now())
	if err := v.socket.SendJSON(deepgramControl{"Flush"}); err != nil {
		return fail(err)
	}
	slow := time.NewTimer(v.o.FirstByte)
	defer slow.Stop()
	if v.clearing {
		slow.Reset(min(deepgramClearTime, v.o.FirstByte))
	}
	warning := ""
	for {
		select {
		case <-ctx.Done():
			v.abandon()
			return context.Cause(ctx)
		case <-slow.C:
			if warning != "" {
				return fail(fmt.Errorf("deepgram: speak: %w: warning %q", agent.ErrBusy, warning))
			}
			late := fmt.Errorf("deepgram: speak: %w: %w", agent.ErrUnavailable, errSlow)
			if !v.clearing {
				began = true // it had its time: another socket would take as long
			}
			return fail(late)
		case m, ok := <-v.socket.In:
			if !ok {
				if ctx.Err() != nil {
					v.hangUp()
					return context.Cause(ctx)
				}
				return fail(v.socket.Err())
			}
			if m.Binary {
				if v.clearing || len(m.Data) == 0 {
					continue
				}
				began, v.owed = true, false
				slow.Stop() // the listener's own time does not count
				if !each(v.wire.samples(m.Data)) {
					v.abandon()
					return nil
				}
				slow.Reset(v.o.Idle)
				continue
			}
			kind, code, err := parseDeepgram(m.Data)
			switch {
			case err != nil:
				return fail(err)
			case kind == "warning":
				warning = code
			case kind == "cleared" && v.clearing:
				v.clearing = false
				slow.Reset(v.o.FirstByte)
			case kind == "flushed" && v.clearing:
				v.owed = false
			case kind == "flushed" && v.owed && !began:
				v.owed = false
			case kind == "flushed":
				return nil
			}
		}
	}
}

// abandon has the vendor drop the rest of a clause. What of it still comes is
// dropped here until Cleared answers; that no audio follows Cleared is the
// document's promise as we read it, unverified.
func (v *deepgramVoice) abandon() {
	v.wire.reset()
	if v.socket.SendJSON(deepgramControl{"Clear"}) != nil {
		v.hangUp()
		return
	}
	v.clearing, v.owed = true, true
}

// hangUp ends the socket in use. The keeper opens another.
func (v *deepgramVoice) hangUp() {
	if v.socket != nil {
		v.socket.Close()
	}
	v.forget()
}

func (v *deepgramVoice) forget() {
	v.socket, v.flushes, v.clearing, v.owed = nil, nil, false, false
	v.wire.reset()
}

// parseDeepgram reads a text message: its kind in lower case, and the code of a
// warning. The vendor's pages write "Flushed" and its asyncapi "flush": both
// are taken. A message that tells an error is that error.
func parseDeepgram(b []byte) (kind, code string, err error) {
	var m struct {
		Type      string `json:"type"`
		Code      string `json:"code"`
		ErrorCode int    `json:"error_code"` // an HTTP status
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return "", "", fmt.Errorf("deepgram: %w: message is not the JSON promised", agent.ErrProtocol)
	}
	if m.ErrorCode != 0 {
		return "", "", fmt.Errorf("deepgram: speak: %w", agent.Refused(m.ErrorCode, nil, ""))
	}
	switch kind = strings.ToLower(m.Type); kind {
	case "error":
		return "", "", fmt.Errorf("deepgram: speak: %w: error %q", agent.ErrUnavailable, socket.Plain(m.Code))
	case "flush":
		kind = "flushed"
	case "clear":
		kind = "cleared"
	case "warning":
		code = socket.Plain(m.Code)
		if code == "" {
			code = "unnamed"
		}
	}
	return kind, code, nil
}
