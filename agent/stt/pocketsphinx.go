package stt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"parley/agent"
	"parley/media"
)

// pocketsphinx recognizes on this machine by CMU PocketSphinx 0.8 or 5prealpha
// (Debian: pocketsphinx, pocketsphinx-en-us), with a grammar made from what the
// waiting question accepts. It is of demo and test grade: English, clear voices.
var pocketsphinx = Vendor{
	Name:       "pocketsphinx",
	Models:     []string{"en-us"},
	Rates:      []int{16000, 8000},
	Local:      true,
	DefaultURL: "/usr/share/pocketsphinx/model/en-us",
}.dialedBy(dialPocketsphinx)

const (
	sphinxProgram = "pocketsphinx_continuous"
	sphinxInstall = "install it: apt-get install pocketsphinx pocketsphinx-en-us"
	wordPenalty   = "0.01"          // keeps the reject rule, a word a phone, from winning over real words
	sphinxLimit   = 3 * time.Second // from the end of an utterance to its words; usual is 0.1 s
)

func dialPocketsphinx(ctx context.Context, o Options) (agent.STT, error) {
	program, err := exec.LookPath(sphinxProgram)
	if err != nil {
		return nil, fmt.Errorf("pocketsphinx: %w: %s is missing; %s", agent.ErrUnavailable, sphinxProgram, sphinxInstall)
	}
	model := filepath.Join(o.URL, o.Model)
	if _, err := os.Stat(filepath.Join(model, "mdef")); err != nil {
		return nil, fmt.Errorf("pocketsphinx: %w: no model in %s; %s", agent.ErrUnavailable, model, sphinxInstall)
	}
	dir, err := os.MkdirTemp("", "parley-sphinx-")
	if err != nil {
		return nil, fmt.Errorf("pocketsphinx: %w: %w", agent.ErrUnavailable, err)
	}
	s := newStream(ctx, o.Rate)
	p := &sphinx{stream: s, program: program, model: model, dir: dir, log: o.Logger,
		lexicon: filepath.Join(o.URL, "cmudict-en-us.dict"), lm: filepath.Join(o.URL, "en-us.lm.bin")}
	s.start(func(ctx context.Context) error {
		defer os.RemoveAll(dir)
		defer p.kill()
		if err := p.warm(ctx); err != nil {
			return err
		}
		return s.segments(ctx, p)
	})
	return s, nil
}

// sphinx is a stream's recognizer: one warm process waits for the next
// utterance, gets its audio as it comes, and answers when its input ends.
type sphinx struct {
	stream  *stream
	program string
	model   string
	lexicon string
	lm      string
	dir     string // holds grammar and dictionary
	log     *slog.Logger

	grammar string // path; "" for open speech
	dict    string
	made    int  // grammars
	told    bool // of words that the dictionary lacks

	cmd   *exec.Cmd
	in    io.WriteCloser
	out   bytes.Buffer
	start time.Duration
	wire  []byte
	wide  []int16 // at 16 kHz

	upsampler media.LinearUpsampler // the wideband model is deaf to a clean one's empty upper band
}

// warm starts the process of the next utterance.
func (p *sphinx) warm(ctx context.Context) error {
	args := []string{"-hmm", p.model, "-infile", "/dev/stdin", "-logfn", os.DevNull, "-time", "yes", "-remove_silence", "no",
		"-wip", wordPenalty}
	if p.grammar != "" {
		args = append(args, "-jsgf", p.grammar, "-dict", p.dict)
	} else {
		args = append(args, "-lm", p.lm, "-dict", p.lexicon, "-fwdflat", "no", "-maxhmmpf", "3000")
	}
	cmd := exec.CommandContext(ctx, p.program, args...)
	cmd.WaitDelay = time.Second
	tie(cmd)
	p.out.Reset()
	cmd.Stdout = &p.out
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("pocketsphinx: start: %w: %w", agent.ErrUnavailable, err)
	}
	p.cmd, p.in = cmd, in
	p.upsampler = media.LinearUpsampler{}
	return nil
}

// kill ends the waiting process, if any.
func (p *sphinx) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.in.Close()
	_ = p.cmd.Wait()
	p.cmd = nil
}

func (p *sphinx) expect(ctx context.Context, e agent.Expectation) error {
	g, err := newGrammar(e, p.lexicon)
	if err != nil {
		return fmt.Errorf("pocketsphinx: grammar: %w: %w", agent.ErrUnavailable, err)
	}
	if len(g.unknown) > 0 && !p.told {
		p.told = true
		p.log.WarnContext(ctx, "pocketsphinx cannot hear words that its dictionary lacks", "words", g.unknown)
	}
	p.grammar, p.dict = "", ""
	if g.jsgf != "" {
		p.made++
		p.grammar = filepath.Join(p.dir, strconv.Itoa(p.made)+".gram")
		p.dict = filepath.Join(p.dir, strconv.Itoa(p.made)+".dict")
		if err := errors.Join(os.WriteFile(p.grammar, []byte(g.jsgf), 0o600), os.WriteFile(p.dict, []byte(g.dict), 0o600)); err != nil {
			return fmt.Errorf("pocketsphinx: grammar: %w: %w", agent.ErrUnavailable, err)
		}
	}
	p.kill()
	return p.warm(ctx)
}

func (p *sphinx) begin(ctx context.Context, start time.Duration) error {
	p.start = start
	if p.cmd == nil {
		return p.warm(ctx)
	}
	return nil
}

func (p *sphinx) audio(pcm []int16) error {
	if p.stream.ring.rate == 8000 {
		p.wide = p.upsampler.Process(p.wide[:0], pcm)
		pcm = p.wide
	}
	p.wire = p.wire[:0]
	for _, v := range pcm {
		p.wire = binary.LittleEndian.AppendUint16(p.wire, uint16(v))
	}
	if len(p.wire) == 0 {
		return nil
	}
	if _, err := p.in.Write(p.wire); err != nil {
		return fmt.Errorf("pocketsphinx: write: %w: %w", agent.ErrUnavailable, err)
	}
	return nil
}

func (p *sphinx) end(end time.Duration, flushed bool) error {
	_ = p.in.Close()
	running := p.cmd.Process
	limit := time.AfterFunc(sphinxLimit, func() { _ = running.Kill() })
	err := p.cmd.Wait()
	inTime := limit.Stop()
	p.cmd = nil
	if err != nil {
		if !inTime {
			err = fmt.Errorf("no answer within %v", sphinxLimit)
		}
		return fmt.Errorf("pocketsphinx: %w: %w", agent.ErrUnavailable, err)
	}
	text, confidence := parseSphinx(p.out.String())
	p.stream.emit(agent.Transcript{
		Text: text, Start: p.start, End: end, Final: true, EOU: flushed, Flushed: flushed, Confidence: confidence,
	})
	return p.warm(p.stream.ctx)
}

func (p *sphinx) idle(at time.Duration) error {
	p.stream.emit(agent.Transcript{Start: at, End: at, Final: true, Flushed: true})
	return nil
}

// parseSphinx reads the output of -time yes: a line with the hypothesis, then
// one a word, "word start end probability". Words of the reject rule and
// fillers are left out; confidence is the least of the words'.
func parseSphinx(out string) (text string, confidence float64) {
	var words []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 {
			continue
		}
		prob, err := strconv.ParseFloat(f[3], 64)
		if err != nil || strings.ContainsAny(f[0], "<>[]+") || strings.HasPrefix(f[0], rejectPrefix) {
			continue
		}
		word, _, _ := strings.Cut(f[0], "(") // the second pronunciation is "word(2)"
		if word == "" {
			continue
		}
		if len(words) == 0 {
			confidence = prob
		}
		confidence = min(confidence, prob)
		words = append(words, word)
	}
	return spell(words), min(confidence, 1)
}
