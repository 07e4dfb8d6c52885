package stt

import (
	"bytes"
	"cmp"
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
	Pace:       4,                       // it reads from a pipe, and needs a twentieth to a third of the time
	FinalLag:   1500 * time.Millisecond, // longer on a busy machine
	Local:      true,
	Languages:  []string{"en"},
	DefaultURL: "/usr/share/pocketsphinx/model/en-us",
}.dialedBy(dialPocketsphinx)

const (
	sphinxProgram = "pocketsphinx_continuous"
	sphinxInstall = "install it: apt-get install pocketsphinx pocketsphinx-en-us"
	sphinxLimit   = 3 * time.Second // from the end of an utterance to its words; usual is 0.1 s
)

// The usual beams are made for large vocabularies: in a small grammar they lose
// a one-word answer before its end, and PocketSphinx then prints nothing.
var sphinxBeams = [...]string{"-beam", "1e-80", "-pbeam", "1e-80", "-wbeam", "1e-60", "-wip", "0.01"}

// sphinxMeans are the cepstral means of clear speech as a caller's line brings
// it. PocketSphinx adapts its own only after some 5 s, longer than any answer,
// and starts from the quiet studio of its model. By sample rate: the lower one
// has been through a telephone and [media.LinearUpsampler].
var sphinxMeans = map[int]string{
	16000: "51.59,-5.50,1.29,6.77,-1.63,-2.42,1.07,-2.16,-0.81,-0.46,1.06,0.88,0.29",
	8000:  "50.29,1.09,-5.20,9.80,-1.87,-2.56,0.24,1.76,-8.29,9.10,-8.39,7.85,-2.47",
}

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
	features, err := writeFeatures(dir, model, sphinxMeans[o.Rate])
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pocketsphinx: %w: %w", agent.ErrUnavailable, err), os.RemoveAll(dir))
	}
	s := newStream(ctx, o.Rate)
	s.model = o.Model
	p := &sphinx{stream: s, program: program, model: model, features: features, dir: dir, log: o.Logger, limit: cmp.Or(o.Limit, sphinxLimit),
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
	stream   *stream
	program  string
	model    string
	lexicon  string
	lm       string
	dir      string // holds grammar, dictionary and features
	features string // path of the model's feat.params with our means
	log      *slog.Logger
	limit    time.Duration // from the end of an utterance to its words

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

	level     steady                // of the utterance
	upsampler media.LinearUpsampler // the wideband model is deaf to a clean one's empty upper band
}

// warm starts the process of the next utterance.
func (p *sphinx) warm(ctx context.Context) error {
	args := []string{"-hmm", p.model, "-infile", "/dev/stdin", "-logfn", os.DevNull, "-time", "yes", "-remove_silence", "no",
		"-vad_postspeech", "3000", // frames: a breath does not split an answer in two
		"-featparams", p.features}
	if p.grammar != "" {
		args = append(args, "-jsgf", p.grammar, "-dict", p.dict)
		args = append(args, sphinxBeams[:]...)
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

// writeFeatures copies the model's feat.params into dir with means in place of
// its own, and returns the copy's path. An argument would not do: that file
// outranks the command line.
func writeFeatures(dir, model, means string) (string, error) {
	own, err := os.ReadFile(filepath.Join(model, "feat.params"))
	if err != nil {
		return "", fmt.Errorf("read features: %w", err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(own)) {
		if !strings.HasPrefix(line, "-cmninit") {
			b.WriteString(line)
		}
	}
	fmt.Fprintf(&b, "\n-cmninit %s\n", means)
	path := filepath.Join(dir, "feat.params")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return "", fmt.Errorf("write features: %w", err)
	}
	return path, nil
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
	p.level.reset()
	if p.cmd == nil {
		return p.warm(ctx)
	}
	return nil
}

func (p *sphinx) audio(pcm []int16) error {
	p.level.add(pcm, p.stream.ring.rate)
	p.stream.sent.Add(int64(len(pcm)))
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
	limit := time.AfterFunc(p.limit, func() { _ = running.Kill() })
	err := p.cmd.Wait()
	inTime := limit.Stop()
	p.cmd = nil
	if err != nil {
		if !inTime {
			err = fmt.Errorf("no answer within %v", p.limit)
		}
		return fmt.Errorf("pocketsphinx: %w: %w", agent.ErrUnavailable, err)
	}
	text := parseSphinx(p.out.String())
	if p.level.noise() {
		text = ""
	}
	p.stream.emit(agent.Transcript{
		Text: text, Start: p.start, End: end, Final: true, EOU: flushed, Flushed: flushed,
	})
	return p.warm(p.stream.ctx)
}

func (p *sphinx) idle(at time.Duration) error {
	p.stream.emit(agent.Transcript{Start: at, End: at, Final: true, Flushed: true})
	return nil
}

// parseSphinx reads the output of -time yes: a line with the hypothesis, then
// one a word, "word start end probability". Fillers are left out. Within a
// grammar those probabilities mean nothing, so no confidence is drawn from them.
func parseSphinx(out string) string {
	var words []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 || strings.ContainsAny(f[0], "<>[]+") {
			continue
		}
		if _, err := strconv.ParseFloat(f[3], 64); err != nil {
			continue
		}
		word, _, _ := strings.Cut(f[0], "(") // the second pronunciation is "word(2)"
		if word != "" {
			words = append(words, word)
		}
	}
	return spell(words)
}
