package tts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/agent"
	"parley/agent/socket"
	"parley/media"
)

// elevenlabs speaks by the multi-context protocol of
// https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-multi-stream-input.
// A turn is a context, so that its clauses sound of a piece; contexts name
// their audio. A voice is a voice_id of the account.
var elevenlabs = Vendor{
	Name:       "elevenlabs",
	Models:     []string{"eleven_flash_v2_5", "eleven_turbo_v2_5", "eleven_multilingual_v2"},
	Voices:     []string{"21m00Tcm4TlvDq8ikWAM", "EXAVITQu4vr4xnSDxMaL", "JBFqnCBsd6RMkjVDRZzb"},
	Rate:       elevenRate,
	Aligns:     true,
	DefaultURL: "https://api.elevenlabs.io",
}.dialedBy(dialEleven)

const (
	elevenRate       = 16000 // hertz
	elevenPhone      = 8000
	elevenContexts   = 5                // at once on a socket; one more and it hangs up
	elevenInactivity = 180              // seconds, its most; then a context dies
	elevenKeep       = 15 * time.Second // its default is 20 s
	// elevenQuiet without a message makes a clause look complete. A flush has no
	// answer of its own: a clause is over when all its characters were aligned;
	// where they do not add up, the context is closed, and that is answered.
	elevenQuiet = 400 * time.Millisecond
)

func dialEleven(ctx context.Context, o Options) (agent.TTS, error) {
	if strings.Trim(o.Voice, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || o.Voice == "" {
		return nil, fmt.Errorf("elevenlabs: %w: the voice is not a voice_id", agent.ErrProtocol)
	}
	v := &elevenVoice{o: o, ctx: ctx, rate: elevenRate, format: "pcm_16000", open: map[string]bool{}}
	if o.Telephone {
		v.rate, v.format, v.wire.mulaw = elevenPhone, "ulaw_8000", true
	}
	v.keeper = socket.Keep(ctx, v.dial)
	return v, nil
}

// An elevenVoice is used by one goroutine, as the contract has it; only its
// context is shared with the socket's keeper.
type elevenVoice struct {
	o      Options
	ctx    context.Context // the dialer's
	rate   int
	format string

	keeper  *socket.Keeper
	socket  *socket.Conn // in use; nil if none is
	serial  int
	turn    uint64          // of the context
	open    map[string]bool // contexts that the vendor has not ended
	sent    int             // letters given to the context
	aligned int             // and placed in its speech
	wire    wire

	mu      sync.Mutex
	context string    // "" if none takes text
	touched time.Time // when the vendor last heard of it
}

// Rate implements [agent.TTS].
func (v *elevenVoice) Rate() int { return v.rate }

// Close implements [agent.TTS].
func (v *elevenVoice) Close() error {
	if v.socket != nil {
		_ = v.socket.SendJSON(elevenSend{CloseSocket: true})
	}
	v.keeper.Close()
	return nil
}

// Say implements [agent.TTS].
func (v *elevenVoice) Say(ctx context.Context, c agent.Clause) iter.Seq2[agent.Speech, error] {
	return func(yield func(agent.Speech, error) bool) {
		c.Text = strings.Join(strings.Fields(c.Text), " ")
		if c.Text == "" {
			return
		}
		more := true
		err := v.say(ctx, c, func(s agent.Speech) bool {
			more = yield(s, nil)
			return more
		})
		if err != nil && more {
			yield(agent.Speech{}, err)
		}
	}
}

func (v *elevenVoice) say(parent context.Context, c agent.Clause, each func(agent.Speech) bool) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	defer context.AfterFunc(v.ctx, func() { cancel(v.ctx.Err()) })()
	for {
		v.tidy()
		// Contexts that were given up and never ended: one more would end them all.
		if v.socket != nil && len(v.open) >= elevenContexts && (v.context == "" || v.turn != c.Turn) {
			v.hangUp()
		}
		kept, err := v.take(ctx)
		if err != nil {
			return err
		}
		err = v.speak(ctx, c, each, kept)
		if !errors.Is(err, errStale) {
			return err
		}
	}
}

// take makes the socket that is kept open the one in use. kept tells that it may
// have died unnoticed.
func (v *elevenVoice) take(ctx context.Context) (kept bool, err error) {
	conn, err := v.keeper.Take(ctx)
	if err != nil {
		return false, err
	}
	kept = conn == v.socket || time.Since(conn.Born) > staleAfter
	if conn != v.socket {
		v.forget()
		v.socket = conn
	}
	return kept, nil
}

// tidy takes what came since the last clause: the ends of given-up contexts.
func (v *elevenVoice) tidy() {
	for v.socket != nil {
		select {
		case m, ok := <-v.socket.In:
			if !ok {
				v.hangUp()
				return
			}
			if got, err := parseEleven(m.Data); err == nil && got.final {
				delete(v.open, got.context)
			}
		default:
			return
		}
	}
}

// dial is the keeper's, and runs in its goroutine.
func (v *elevenVoice) dial(life context.Context) (*socket.Conn, error) {
	return socket.Dial(life, life, socket.Line{
		Vendor: "elevenlabs", Base: v.o.URL, Path: "/v1/text-to-speech/" + v.o.Voice + "/multi-stream-input", Query: url.Values{
			"model_id": {v.o.Model}, "output_format": {v.format}, "sync_alignment": {"true"}, "auto_mode": {"true"},
			"inactivity_timeout": {strconv.Itoa(elevenInactivity)},
		},
		Limit: v.o.FirstByte, Header: "xi-api-key", Key: v.o.Key,
		Refused: elevenRefused, Keep: v.keep, Kind: func(_ int, text string) error { return elevenKind(text) },
	})
}

// elevenRefused reads the vendor's word for a refused handshake.
func elevenRefused(res *http.Response) error {
	var got struct {
		Detail struct {
			Status string `json:"status"`
		} `json:"detail"`
	}
	_ = json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&got)
	return agent.Refused(res.StatusCode, res.Header, got.Detail.Status)
}

// An elevenSend is what we send. Text is a pointer: an empty one keeps a
// context alive, a missing one does not.
type elevenSend struct {
	Text         *string         `json:"text,omitempty"`
	Context      string          `json:"context_id,omitempty"`
	Settings     *elevenSettings `json:"voice_settings,omitempty"` // in a context's first message only
	Flush        bool            `json:"flush,omitempty"`
	CloseContext bool            `json:"close_context,omitempty"`
	CloseSocket  bool            `json:"close_socket,omitempty"`
}

type elevenSettings struct {
	Speed float64 `json:"speed"`
}

// keep tells the vendor that the context is still wanted. It holds the lock
// while it sends: a word after its close would open the context anew.
func (v *elevenVoice) keep(s *socket.Conn) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.context == "" || time.Since(v.touched) < elevenKeep {
		return nil
	}
	v.touched = time.Now()
	return s.SendJSON(elevenSend{Text: new(string), Context: v.context})
}

// enter opens the turn's context, and closes the one of the turn before.
func (v *elevenVoice) enter(turn uint64) error {
	if v.context != "" && v.turn == turn {
		return nil
	}
	if err := v.leave(); err != nil {
		return err
	}
	v.serial++
	id := "c" + strconv.Itoa(v.serial)
	v.turn, v.sent, v.aligned = turn, 0, 0
	v.open[id] = true
	first := elevenSend{Text: new(" "), Context: id}
	if v.o.Speed != 1 {
		first.Settings = &elevenSettings{Speed: min(max(v.o.Speed, 0.7), 1.2)} // its own bounds
	}
	if err := v.socket.SendJSON(first); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.context, v.touched = id, time.Now()
	return nil
}

// leave closes the context. What was flushed is still spoken, and its end told.
func (v *elevenVoice) leave() error {
	v.mu.Lock()
	id := v.context
	v.context = ""
	v.mu.Unlock()
	if id == "" {
		return nil
	}
	return v.socket.SendJSON(elevenSend{Context: id, CloseContext: true})
}

// hangUp ends the socket in use. The keeper opens another.
func (v *elevenVoice) hangUp() {
	if v.socket != nil {
		v.socket.Close()
	}
	v.forget()
}

func (v *elevenVoice) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.socket, v.context = nil, ""
	v.wire.reset()
	clear(v.open)
}

// give sends a clause and returns its context.
func (v *elevenVoice) give(c agent.Clause) (id string, err error) {
	if err := v.enter(c.Turn); err != nil {
		return "", err
	}
	id = v.context
	v.sent += letters(c.Text)
	if err := v.socket.SendJSON(elevenSend{Text: new(c.Text + " "), Context: id}); err != nil {
		return id, err
	}
	if err := v.socket.SendJSON(elevenSend{Context: id, Flush: true}); err != nil {
		return id, err
	}
	if c.Last {
		return id, v.leave()
	}
	return id, nil
}

// speak says one clause on the open socket. kept tells that the socket was open
// before: if it turns out dead before the first speech, that is errStale.
func (v *elevenVoice) speak(ctx context.Context, c agent.Clause, each func(agent.Speech) bool, kept bool) error {
	began := false
	fail := func(err error) error {
		v.hangUp()
		if kept && !began && errors.Is(err, agent.ErrUnavailable) {
			return fmt.Errorf("%w: %w", errStale, err)
		}
		return err
	}
	id, err := v.give(c)
	if err != nil {
		return fail(err)
	}
	slow, quiet := time.NewTimer(v.o.FirstByte), time.NewTimer(time.Hour)
	defer slow.Stop()
	defer quiet.Stop()
	quiet.Stop()
	var words aligner
	var spoken int64 // samples
	for {
		select {
		case <-ctx.Done():
			v.abandon(id)
			return context.Cause(ctx)
		case <-slow.C:
			began = true // it had its time: another socket would take as long
			return fail(fmt.Errorf("elevenlabs: speak: %w: %w", agent.ErrUnavailable, errSlow))
		case <-quiet.C:
			if v.context == "" && v.aligned >= v.sent { // closed, spoken, and no word of its end
				v.finish(&words, spoken, each)
				return nil
			}
			if err := v.leave(); err != nil {
				return fail(err)
			}
			quiet.Reset(elevenQuiet)
		case m, ok := <-v.socket.In:
			if !ok && ctx.Err() != nil {
				v.hangUp()
				return context.Cause(ctx)
			}
			if !ok {
				return fail(v.socket.Err())
			}
			got, err := parseEleven(m.Data)
			if err != nil {
				return fail(err)
			}
			if got.final {
				delete(v.open, got.context)
			}
			if got.context != id {
				continue
			}
			if s := v.speech(got, &words, spoken); len(s.PCM) > 0 || len(s.Words) > 0 {
				began = true
				spoken += int64(len(s.PCM))
				slow.Stop() // the listener's own time does not count
				if !each(s) {
					v.abandon(id)
					return nil
				}
				slow.Reset(v.o.Idle)
				quiet.Reset(elevenQuiet)
			}
			if got.final || v.context != "" && v.aligned >= v.sent {
				if got.final && v.context == id { // it ended by itself
					v.mu.Lock()
					v.context = ""
					v.mu.Unlock()
				}
				v.finish(&words, spoken, each)
				return nil
			}
		}
	}
}

// finish hands over the clause's last words.
func (v *elevenVoice) finish(words *aligner, spoken int64, each func(agent.Speech) bool) {
	if w := words.end(media.Duration(spoken, v.rate)); w != nil {
		each(agent.Speech{Words: w})
	}
}

// abandon gives up a clause: what still comes of its context is not taken.
func (v *elevenVoice) abandon(id string) {
	if v.context == id && v.leave() != nil {
		v.hangUp()
	}
}

// speech decodes a message's audio, at sample spoken of the clause, and the
// words that are complete. Times of a message count from its own audio.
func (v *elevenVoice) speech(m elevenMessage, words *aligner, spoken int64) agent.Speech {
	pcm := v.wire.samples(m.audio)
	v.aligned += words.add(m.alignment, media.Duration(spoken, v.rate), media.Duration(spoken+int64(len(pcm)), v.rate))
	return agent.Speech{PCM: pcm, Words: words.take()}
}
