package tts

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"parley/agent"
	"parley/media"
)

// flite speaks on this machine by CMU Flite 2 (Debian: flite), a process a
// clause. Voice slt is the clearest and what the local recognizer hears best.
// It is of demo and test grade.
var flite = Vendor{
	Name:      "flite",
	Models:    []string{"flite"},
	Voices:    []string{"slt", "rms", "awb"},
	Rate:      fliteRate,
	Aligns:    true,
	SSML:      true,
	Local:     true,
	Languages: []string{"en"},
}.dialedBy(dialFlite)

const (
	fliteRate     = 16000                 // hertz: of slt, rms and awb
	fliteLimit    = 10 * time.Second      // for one clause; usual is 0.1 s
	fliteLead     = 30 * time.Millisecond // of leading silence that stays
	fliteMaxWords = 400
)

type fliteVoice struct {
	program string
	o       Options
	ctx     context.Context // the dialer's
}

func dialFlite(ctx context.Context, o Options) (agent.TTS, error) {
	program, err := exec.LookPath("flite")
	if err != nil {
		return nil, fmt.Errorf("flite: %w: the program is missing; install it: apt-get install flite", agent.ErrUnavailable)
	}
	if strings.ContainsAny(o.Voice, "/:") { // flite would fetch a path or an address
		return nil, fmt.Errorf("flite: %w: voice %q is not a name", agent.ErrProtocol, o.Voice)
	}
	return &fliteVoice{program: program, o: o, ctx: ctx}, nil
}

// Rate implements [agent.TTS].
func (v *fliteVoice) Rate() int { return fliteRate }

// Close implements [agent.TTS]. Nothing outlives Say.
func (v *fliteVoice) Close() error { return nil }

// Say implements [agent.TTS]. The speech comes in one piece with its words.
func (v *fliteVoice) Say(ctx context.Context, c agent.Clause) iter.Seq2[agent.Speech, error] {
	return func(yield func(agent.Speech, error) bool) {
		text := strings.Join(strings.Fields(c.Text), " ")
		if text == "" {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, fliteLimit)
		defer cancel()
		defer context.AfterFunc(v.ctx, cancel)()
		speech, err := v.say(ctx, text, c.SSML)
		switch {
		case ctx.Err() == context.Canceled:
			yield(agent.Speech{}, context.Canceled)
		case err != nil:
			yield(agent.Speech{}, fmt.Errorf("flite: %w: %w", agent.ErrUnavailable, err))
		default:
			yield(speech, nil)
		}
	}
}

func (v *fliteVoice) say(ctx context.Context, text, ssml string) (agent.Speech, error) {
	dir, err := os.MkdirTemp("", "parley-flite-")
	if err != nil {
		return agent.Speech{}, err
	}
	defer os.RemoveAll(dir)
	// Sentence after sentence is appended to the file, so it cannot be a pipe.
	wav := filepath.Join(dir, "speech.wav")
	tokens := strings.Fields(text)

	// How many sounds each word has, by the smallest voice, while slt works.
	sounds := make(chan [][]string, 1)
	go func() { sounds <- v.sounds(ctx, tokens) }()
	stretch := strconv.FormatFloat(1/v.o.Speed, 'f', 3, 64)
	args := []string{"-voice", v.o.Voice, "-psdur", "--setf", "duration_stretch=" + stretch, "-o", wav}
	if ssml != "" {
		text, args = fliteMarks(ssml), append(args, "-ssml")
	}
	segments, err := v.run(ctx, text, args...)
	perWord := <-sounds
	if err != nil {
		return agent.Speech{}, err
	}
	pcm, err := readWAV(wav)
	if err != nil {
		return agent.Speech{}, err
	}
	words := align(tokens, perWord, parseSegments(segments), media.Duration(int64(len(pcm)), fliteRate))
	return trim(pcm, words), nil
}

// run gives text on stdin: nothing a caller or a model says reaches a shell or
// an argument list.
func (v *fliteVoice) run(ctx context.Context, text string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, v.program, args...)
	cmd.WaitDelay = time.Second
	tie(cmd)
	cmd.Stdin = strings.NewReader(text + "\n")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run flite: %w: %.200s", err, errs.String())
	}
	return out.String(), nil
}

// sounds asks for the phones of each word by itself: a paragraph each, which
// comes back as a line each. It returns nil if that does not come out even.
func (v *fliteVoice) sounds(ctx context.Context, tokens []string) [][]string {
	if len(tokens) > fliteMaxWords {
		return nil
	}
	out, err := v.run(ctx, strings.Join(tokens, "\n\n"), "-voice", "kal", "-ps", "-o", "none")
	if err != nil {
		return nil
	}
	var per [][]string
	for line := range strings.Lines(out) {
		var w []string
		for p := range strings.FieldsSeq(line) {
			if p != "pau" {
				w = append(w, p)
			}
		}
		per = append(per, w)
	}
	if len(per) != len(tokens) {
		return nil
	}
	return per
}

// readWAV returns the samples of a mono 16-bit file as flite writes it: a
// header of 44 bytes whose lengths cover the first sentence only.
func readWAV(path string) ([]int16, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 44 || string(b[:4]) != "RIFF" {
		return nil, fmt.Errorf("read speech: not a WAV file")
	}
	if rate := binary.LittleEndian.Uint32(b[24:]); rate != uint32(fliteRate) {
		return nil, fmt.Errorf("read speech: voice speaks at %d Hz, want %d", rate, fliteRate)
	}
	b = b[44:]
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm, nil
}

// trim cuts leading silence to [fliteLead] and moves the words along.
func trim(pcm []int16, words []agent.Word) agent.Speech {
	const quiet = 200 // of 32767; slt's pauses stay below 20
	first := 0
	for first < len(pcm) && pcm[first] < quiet && pcm[first] > -quiet {
		first++
	}
	cut := max(0, first-int(media.Samples(fliteLead, fliteRate)))
	if first == len(pcm) {
		cut = 0
	}
	shift := media.Duration(int64(cut), fliteRate)
	for i := range words {
		words[i].Start = max(0, words[i].Start-shift)
		words[i].End = max(words[i].Start, words[i].End-shift)
	}
	return agent.Speech{PCM: pcm[cut:], Words: words}
}
