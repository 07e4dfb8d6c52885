package tts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"parley/agent"
	"parley/media"
)

// openai speaks by any server with OpenAI's
// https://platform.openai.com/docs/api-reference/audio/createSpeech.
// Its pcm is headerless 16-bit little-endian mono at 24 kHz, sent as it is made.
var openai = Vendor{
	Name:       "openai",
	Models:     []string{"gpt-4o-mini-tts", "tts-1", "tts-1-hd"},
	Voices:     []string{"marin", "alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "cedar"},
	Rate:       openaiRate,
	MaxText:    openaiMaxText,
	DefaultURL: "https://api.openai.com/v1",
}.dialedBy(dialOpenAI)

const (
	openaiRate    = 24000 // hertz
	openaiMaxText = 4096  // characters a request
)

func dialOpenAI(ctx context.Context, o Options) (agent.TTS, error) {
	return &openaiVoice{o: o, ctx: ctx}, nil
}

type openaiVoice struct {
	o   Options
	ctx context.Context // the dialer's
}

// Rate implements [agent.TTS].
func (v *openaiVoice) Rate() int { return openaiRate }

// Close implements [agent.TTS]. The connections belong to the HTTP client.
func (v *openaiVoice) Close() error { return nil }

// Say implements [agent.TTS].
func (v *openaiVoice) Say(ctx context.Context, c agent.Clause) iter.Seq2[agent.Speech, error] {
	return func(yield func(agent.Speech, error) bool) {
		for text := range pieces(strings.TrimSpace(c.Text), openaiMaxText) {
			more := true
			err := v.speak(ctx, text, func(pcm []int16) bool {
				more = yield(agent.Speech{PCM: pcm}, nil)
				return more
			})
			if !more {
				return
			}
			if err != nil {
				yield(agent.Speech{}, err)
				return
			}
		}
	}
}

// errSlow ends a request that keeps us waiting.
var errSlow = errors.New("no speech in time")

// speak requests one piece of text and hands its samples to each, which
// returns false to stop.
func (v *openaiVoice) speak(parent context.Context, text string, each func([]int16) bool) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	defer context.AfterFunc(v.ctx, func() { cancel(v.ctx.Err()) })()
	slow := time.AfterFunc(v.o.FirstByte, func() { cancel(errSlow) })
	defer slow.Stop()

	res, err := v.request(ctx, text)
	if err != nil {
		return openaiFailed(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("openai: speak: %w", refused(res))
	}
	body, rate, err := sound(res.Header.Get("Content-Type"), res.Body, openaiRate)
	if err != nil {
		return openaiFailed(ctx, err)
	}
	var toRate *media.Resampler
	if rate != openaiRate {
		if toRate, err = media.NewResampler(rate, openaiRate); err != nil {
			return fmt.Errorf("openai: speak: %w: %w", agent.ErrProtocol, err)
		}
	}
	var w wire
	var out []int16
	chunk := make([]byte, 4800) // 100 ms
	for {
		n, err := body.Read(chunk)
		pcm := w.samples(chunk[:n])
		if toRate != nil {
			out = toRate.Process(out[:0], pcm)
			pcm = out
		}
		if len(pcm) > 0 {
			slow.Stop() // the listener's own time does not count
			if !each(pcm) {
				return nil
			}
			slow.Reset(v.o.Idle)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return openaiFailed(ctx, err)
		}
	}
}

func (v *openaiVoice) request(ctx context.Context, text string) (*http.Response, error) {
	body, err := json.Marshal(struct {
		Model          string  `json:"model"`
		Voice          string  `json:"voice"`
		Input          string  `json:"input"`
		Instructions   string  `json:"instructions,omitempty"`
		ResponseFormat string  `json:"response_format"`
		Speed          float64 `json:"speed,omitempty"`
	}{v.o.Model, v.o.Voice, text, v.o.Instructions, "pcm", v.o.Speed})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", agent.ErrProtocol, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(v.o.URL, "/")+"/audio/speech", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", agent.ErrProtocol, err)
	}
	req.Header.Set("Content-Type", "application/json")
	key, err := v.o.Key.Read(ctx)
	if err != nil {
		return nil, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return v.o.Client.Do(req)
}

// refused reads the vendor's word for a refusal.
func refused(res *http.Response) error {
	var got struct {
		Error struct {
			Code string `json:"code"`
			Type string `json:"type"`
		} `json:"error"`
	}
	_ = json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&got)
	code := got.Error.Code
	if code == "" {
		code = got.Error.Type
	}
	return agent.Refused(res.StatusCode, res.Header, code)
}

// openaiFailed maps a request that got no whole answer. The caller's own end
// of ctx is returned as it is.
func openaiFailed(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, agent.ErrCredentials), errors.Is(err, agent.ErrProtocol):
		return fmt.Errorf("openai: speak: %w", err)
	case errors.Is(cause, errSlow):
		return fmt.Errorf("openai: speak: %w: %w", agent.ErrUnavailable, errSlow)
	case cause != nil:
		return cause
	}
	return fmt.Errorf("openai: speak: %w: %w", agent.ErrUnavailable, err)
}

// pieces cuts text at spaces so that none is over limit characters.
func pieces(text string, limit int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for text != "" {
			if utf8.RuneCountInString(text) <= limit {
				yield(text)
				return
			}
			cut := 0
			for range limit {
				_, n := utf8.DecodeRuneInString(text[cut:])
				cut += n
			}
			if i := strings.LastIndexByte(text[:cut], ' '); i > 0 {
				cut = i
			}
			if !yield(text[:cut]) {
				return
			}
			text = strings.TrimSpace(text[cut:])
		}
	}
}
