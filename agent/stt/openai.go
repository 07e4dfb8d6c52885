package stt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/agent"
)

// openai transcribes an utterance at a time, by any server with OpenAI's
// https://platform.openai.com/docs/api-reference/audio/createTranscription.
var openai = Vendor{
	Name:       "openai",
	Models:     []string{"gpt-4o-mini-transcribe", "gpt-4o-transcribe", "whisper-1"},
	Rates:      []int{16000, 8000},
	Pace:       10,                      // it takes files: what is left is the upload
	FinalLag:   1500 * time.Millisecond, // it is sent the utterance when it is over
	DefaultURL: "https://api.openai.com/v1",
}.dialedBy(dialOpenAI)

const (
	openaiLimit  = 10 * time.Second // for one transcription
	openaiAnswer = 1 << 20          // bytes of an answer: a minute of speech is 1 KB
	openaiPrompt = 600              // characters of hints: whisper reads 224 tokens
)

func dialOpenAI(ctx context.Context, o Options) (agent.STT, error) {
	s := newStream(ctx, o.Rate)
	s.model = o.Model
	s.start(func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		t := &transcriber{stream: s, o: o, group: group, ctx: ctx, answers: make(chan chan agent.Transcript)}
		group.SetLimit(2 + 2) // two requests in flight, and the two loops here
		group.Go(func() error { return t.inOrder(ctx) })
		group.Go(func() error {
			defer close(t.answers)
			return s.segments(ctx, t)
		})
		return group.Wait()
	})
	return s, nil
}

// transcriber is the segmenter of one stream.
type transcriber struct {
	stream  *stream
	o       Options
	group   *errgroup.Group
	ctx     context.Context            // the group's
	answers chan chan agent.Transcript // in the order of the segments
	pcm     []int16
	start   time.Duration
	prompt  string
}

// inOrder hands the answers on as their segments were spoken.
func (t *transcriber) inOrder(ctx context.Context) error {
	var waiting []chan agent.Transcript
	answers := t.answers
	for answers != nil || len(waiting) > 0 {
		var first chan agent.Transcript
		if len(waiting) > 0 {
			first = waiting[0]
		}
		select {
		case a, ok := <-answers:
			if !ok {
				answers = nil
				continue
			}
			waiting = append(waiting, a)
		case tr := <-first:
			waiting = waiting[1:]
			t.stream.emit(tr)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (t *transcriber) begin(_ context.Context, start time.Duration) error {
	t.start, t.pcm = start, t.pcm[:0]
	return nil
}

func (t *transcriber) audio(pcm []int16) error {
	t.pcm = append(t.pcm, pcm...)
	return nil
}

func (t *transcriber) expect(_ context.Context, e agent.Expectation) error {
	t.prompt = strings.Join(e.Phrases, ", ")
	if len(t.prompt) > openaiPrompt {
		t.prompt = strings.ToValidUTF8(t.prompt[:openaiPrompt], "")
	}
	return nil
}

func (t *transcriber) end(end time.Duration, flushed bool) error {
	tr := agent.Transcript{Start: t.start, End: end, Final: true, Flushed: flushed}
	samples := int64(len(t.pcm))
	body, kind, err := t.form()
	if err != nil {
		return fmt.Errorf("openai: %w: %w", agent.ErrProtocol, err)
	}
	answer, err := t.queue()
	if err != nil {
		return err
	}
	t.group.Go(func() error { // waits while two are in flight
		text, err := t.post(t.ctx, body, kind)
		if err != nil {
			return err
		}
		t.stream.sent.Add(samples)
		tr.Text = text
		answer <- tr
		return nil
	})
	return nil
}

func (t *transcriber) idle(at time.Duration) error {
	answer, err := t.queue()
	if err == nil {
		answer <- agent.Transcript{Start: at, End: at, Final: true, Flushed: true}
	}
	return err
}

// queue takes the next place in the order of answers.
func (t *transcriber) queue() (chan agent.Transcript, error) {
	answer := make(chan agent.Transcript, 1)
	select {
	case t.answers <- answer:
		return answer, nil
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
}

// form returns the request's body with the segment as a WAV file.
func (t *transcriber) form() (body []byte, contentType string, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	language, _, _ := strings.Cut(t.o.Language, "-") // ISO 639-1
	fields := [][2]string{{"model", t.o.Model}, {"language", language}, {"response_format", "json"}, {"prompt", t.prompt}}
	for _, f := range fields {
		if f[1] != "" {
			err = errors.Join(err, w.WriteField(f[0], f[1]))
		}
	}
	file, ferr := w.CreateFormFile("file", "speech.wav")
	if err = errors.Join(err, ferr); err != nil {
		return nil, "", err
	}
	_, err = file.Write(appendWAV(nil, t.pcm, t.o.Rate))
	err = errors.Join(err, w.Close())
	return b.Bytes(), w.FormDataContentType(), err
}

func (t *transcriber) post(parent context.Context, body []byte, contentType string) (string, error) {
	ctx, cancel := context.WithTimeout(parent, cmp.Or(t.o.Limit, openaiLimit))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(t.o.URL, "/")+"/audio/transcriptions", bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("openai: %w: %w", agent.ErrProtocol, err)
	}
	req.Header.Set("Content-Type", contentType)
	if err := authorize(ctx, req.Header, "Bearer ", t.o.Key); err != nil {
		return "", fmt.Errorf("openai: %w", err)
	}
	res, err := t.o.Client.Do(req)
	if err != nil {
		return "", openaiFailed(parent, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, openaiAnswer))
	if err != nil {
		return "", openaiFailed(parent, err)
	}
	var got struct {
		Text  *string `json:"text"`
		Error struct {
			Code string `json:"code"`
			Type string `json:"type"`
		} `json:"error"`
	}
	err = json.Unmarshal(answer, &got)
	switch {
	case res.StatusCode != http.StatusOK:
		code := got.Error.Code
		if code == "" {
			code = got.Error.Type
		}
		return "", fmt.Errorf("openai: transcribe: %w", agent.Refused(res.StatusCode, res.Header, code))
	case err != nil:
		return "", fmt.Errorf("openai: transcribe: %w: answer is not the JSON promised", agent.ErrProtocol)
	case got.Text == nil:
		return "", fmt.Errorf("openai: transcribe: %w: answer has no text", agent.ErrProtocol)
	}
	return strings.TrimSpace(*got.Text), nil
}

// openaiFailed maps a request that got no whole answer.
func openaiFailed(parent context.Context, err error) error {
	if parent.Err() != nil {
		return parent.Err()
	}
	return fmt.Errorf("openai: transcribe: %w: %w", agent.ErrUnavailable, err)
}

// authorize sets the Authorization header from key, if there is one.
func authorize(ctx context.Context, h http.Header, scheme string, key agent.Credential) error {
	k, err := key.Read(ctx)
	if err != nil {
		return err
	}
	if k != "" {
		h.Set("Authorization", scheme+k)
	}
	return nil
}

// appendWAV appends pcm as a mono 16-bit WAV file.
func appendWAV(dst []byte, pcm []int16, rate int) []byte {
	le := binary.LittleEndian
	n := uint32(2 * len(pcm))
	dst = append(dst, "RIFF"...)
	dst = le.AppendUint32(dst, 36+n)
	dst = append(dst, "WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"...)
	dst = le.AppendUint32(dst, uint32(rate))
	dst = le.AppendUint32(dst, uint32(2*rate))
	dst = append(dst, "\x02\x00\x10\x00data"...)
	dst = le.AppendUint32(dst, n)
	for _, v := range pcm {
		dst = le.AppendUint16(dst, uint16(v))
	}
	return dst
}
