package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"

	"parley/agent"
	"parley/agent/tts"
)

// scriptHelp lists the acts; parseScript takes exactly these.
const scriptHelp = `  say TEXT               say it, spoken by flite
  wav FILE               play a file; its path counts from the script's folder
  wait 2s                do nothing for that long
  wait-speech 10s        until the agent speaks, that long at most
  wait-quiet 800ms       until the agent has been silent for that long
  press 12#              press keys
  type TEXT              send text, over webrtc
  expect-said TEXT       the agent said it: some turn contains it, case aside
  expect-heard REGEXP    some turn of the agent, as far as it was heard, matches
  expect-recognized TEXT some turn of the caller was recognized so
  expect-cut TEXT        some turn of the agent that contains it was cut off
  expect-end REASON      the call ends, for that reason: goodbye, transfer, …
  hangup                 hang up
  # anything             a comment
`

// An act is one line of a script, or a thing that the caller does by option.
type act struct {
	do   string
	text string
	wait time.Duration
	line int

	pcm    []int16 // say, wav, play: at the line's rate
	match  *regexp.Regexp
	from   io.Reader // typing
	string string    // as written
}

func (a act) needsTranscript() bool { return strings.HasPrefix(a.do, "expect-") }

func readScript(path string, in io.Reader) (string, error) {
	if path == "-" {
		b, err := io.ReadAll(in)
		return string(b), err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("the script: %w", err)
	}
	return string(b), nil
}

// parseScript reads a script. Its errors name the line.
func parseScript(text string) ([]act, error) {
	var acts []act
	n := 0
	for l := range strings.Lines(text) {
		n++
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		a, err := parseAct(l)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		a.line, a.string = n, l
		acts = append(acts, a)
	}
	if len(acts) == 0 {
		return nil, errors.New("nothing is done: write acts such as: say hello")
	}
	return acts, nil
}

func parseAct(l string) (a act, err error) {
	a.do, a.text, _ = strings.Cut(l, " ")
	a.text = strings.TrimSpace(a.text)
	if a.text == "" && a.do != "hangup" {
		return a, fmt.Errorf("%q says not what: write it as in parley call --help", l)
	}
	switch a.do {
	case "say", "wav", "type", "expect-said", "expect-recognized", "expect-cut", "expect-end":
	case "hangup":
		if a.text != "" {
			return a, fmt.Errorf("hangup takes nothing, not %q", a.text)
		}
	case "wait", "wait-quiet", "wait-speech":
		a.wait, err = time.ParseDuration(a.text)
		if err != nil || a.wait <= 0 {
			return a, fmt.Errorf("%q is not a time: write it as 2s or 800ms", a.text)
		}
	case "press":
		if strings.Trim(a.text, "0123456789*#ABCD") != "" {
			return a, fmt.Errorf("%q are not keys: press 0 to 9, *, # and A to D", a.text)
		}
	case "expect-heard":
		if a.match, err = regexp.Compile("(?i)" + a.text); err != nil {
			return a, fmt.Errorf("not a regular expression: %w", err)
		}
	default:
		return a, fmt.Errorf("there is no act %q: parley call --help lists them", a.do)
	}
	return a, nil
}

// voice makes the speech of a script's acts.
func (c callCommand) voice(ctx context.Context, acts []act) error {
	var flite agent.TTS
	for i := range acts {
		a := &acts[i]
		var err error
		switch a.do {
		case "wav":
			path := a.text
			if !filepath.IsAbs(path) && c.Script != "-" {
				path = filepath.Join(filepath.Dir(c.Script), path)
			}
			a.pcm, err = readVoice(path, lineRate(c.Via))
		case "say":
			if flite == nil {
				if flite, err = tts.Vendors["flite"].Dial(ctx, tts.Options{Voice: c.Voice}); err != nil {
					return usageError{fmt.Errorf("line %d: nothing speaks the script: %w", a.line, err)}
				}
				defer flite.Close()
			}
			a.pcm, err = speech(ctx, flite, a.text, lineRate(c.Via))
		}
		if err != nil {
			return usageError{fmt.Errorf("%s, line %d: %w", c.Script, a.line, err)}
		}
	}
	return nil
}

// speech returns text as said by voice, without the silence at its end.
func speech(ctx context.Context, voice agent.TTS, text string, rate int) ([]int16, error) {
	var pcm []int16
	for s, err := range voice.Say(ctx, agent.Clause{Text: text}) {
		if err != nil {
			return nil, err
		}
		pcm = append(pcm, s.PCM...)
	}
	end := len(pcm)
	for frame := voice.Rate() / 50; end >= frame && !loud(pcm[end-frame:end]); {
		end -= frame
	}
	return resample(pcm[:end], voice.Rate(), rate)
}

// A scriptRun performs acts on a line.
type scriptRun struct {
	phone *phone
	line  line
	seen  *transcript
	show  func(shown)

	failed []string
}

const (
	expectWithin = 10 * time.Second // for the transcript to follow the line
	endWithin    = 30 * time.Second // for a call to end
	quietWithin  = 90 * time.Second // for the agent to fall silent
)

// perform does the acts in order, and returns the expectations that failed. It
// stops when the line is gone, but for expectations.
func (s *scriptRun) perform(ctx context.Context, acts []act) []string {
	for _, a := range acts {
		if a.string != "" && !a.needsTranscript() {
			s.show(shown{Type: "act", Text: a.string})
		}
		if err := s.do(ctx, a); err != nil {
			s.failed = append(s.failed, err.Error())
			s.show(shown{Type: "failed", Text: fmt.Sprintf("line %d: %v", a.line, err)})
		}
		if ctx.Err() != nil {
			break
		}
	}
	return s.failed
}

// errLineOver is how acts fail that need a line.
var errLineOver = errors.New("the call was over before")

func (s *scriptRun) do(ctx context.Context, a act) error {
	since := s.phone.mark()
	switch a.do {
	case "say", "wav", "play":
		s.phone.speak(a.pcm)
		limit := time.Duration(len(a.pcm)/s.phone.rate+10) * time.Second
		err := s.until(ctx, limit, func() bool { return !s.phone.saying() })
		if a.do == "play" && errors.Is(err, errLineOver) {
			return nil // the agent may hang up on a recording
		}
		return err
	case "wait":
		if err := s.until(ctx, a.wait, never); !errors.Is(err, errNotInTime) {
			return err
		}
	case "stay":
		if err := s.until(ctx, endless, func() bool { return s.phone.quiet(since, a.wait) }); !errors.Is(err, errLineOver) {
			return err
		}
	case "typing":
		return s.typing(ctx, a.from)
	case "wait-speech":
		return wrap(a, s.until(ctx, a.wait, func() bool { return s.phone.spoke(since) }))
	case "wait-quiet":
		return wrap(a, s.until(ctx, quietWithin, func() bool { return s.phone.quiet(since, a.wait) }))
	case "press":
		return wrap(a, s.line.press(a.text))
	case "type":
		return wrap(a, s.line.typeText(a.text))
	case "hangup":
		s.line.hangUp()
	default:
		return s.expect(ctx, a)
	}
	return nil
}

const endless = 24 * time.Hour

func never() bool { return false }

func wrap(a act, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", a.string, err)
}

// expect waits a while for the transcript to hold what it should.
func (s *scriptRun) expect(ctx context.Context, a act) error {
	contains := func(speaker string, text func(spokenTurn) string) func() bool {
		want := plainWords(a.text)
		return func() bool {
			return s.seen.any(speaker, func(n spokenTurn) bool { return strings.Contains(plainWords(text(n)), want) })
		}
	}
	limit := expectWithin
	var holds func() bool
	switch a.do {
	case "expect-said":
		holds = contains("agent", func(n spokenTurn) string { return n.Said })
	case "expect-recognized":
		holds = contains("caller", func(n spokenTurn) string { return n.Heard })
	case "expect-cut":
		holds = contains("agent", func(n spokenTurn) string {
			if n.Cut {
				return n.Said
			}
			return ""
		})
	case "expect-heard":
		holds = func() bool {
			return s.seen.any("agent", func(n spokenTurn) bool { return a.match.MatchString(n.Heard) })
		}
	case "expect-end":
		limit = endWithin
		holds = func() bool { _, ended := s.seen.ending(); return ended }
	}
	complete := false // the call is over, and all that was said is known
	err := s.wait(ctx, limit, func() bool {
		if holds() {
			return true
		}
		_, complete = s.seen.ending()
		return complete
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s: it has not come to pass within %v", a.string, limit)
	case complete && !holds():
		return fmt.Errorf("%s: it has not come to pass in the whole call", a.string)
	}
	if reason, _ := s.seen.ending(); a.do == "expect-end" && reason != a.text {
		return fmt.Errorf("%s: it ended with %q", a.string, reason)
	}
	return nil
}

// plainWords is text in lower case without punctuation, between spaces.
func plainWords(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\''
	})
	if len(words) == 0 {
		return ""
	}
	return " " + strings.Join(words, " ") + " "
}

var errNotInTime = errors.New("not in time")

// until waits for done on a line that stands.
func (s *scriptRun) until(ctx context.Context, limit time.Duration, done func() bool) error {
	over := false
	err := s.wait(ctx, limit, func() bool {
		select {
		case <-s.line.over():
			over = true
		default:
		}
		return over || done()
	})
	if over && err == nil && !done() {
		return errLineOver
	}
	return err
}

// wait looks at every frame's time whether done.
func (s *scriptRun) wait(ctx context.Context, limit time.Duration, done func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(limit)
	defer late.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-late.C:
			return errNotInTime
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// typing sends each line as text. People type when they like; lines from a file
// or a pipe wait for the agent to finish, as people would.
func (s *scriptRun) typing(ctx context.Context, in io.Reader) error {
	lines := make(chan string)
	go func() { // may outlive the call, as nothing ends a read from a terminal
		defer close(lines)
		for r := bufio.NewScanner(in); r.Scan(); {
			select {
			case lines <- r.Text():
			case <-s.line.over():
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	polite := !isTerminal(in)
	since := int64(0)
	for {
		if polite {
			err := s.until(ctx, quietWithin, func() bool {
				return s.phone.spoke(since) && s.phone.quiet(since, time.Second)
			})
			if err != nil {
				return typingEnd(err)
			}
		}
		select {
		case text, more := <-lines:
			if !more {
				return nil
			}
			since = s.phone.mark()
			if err := s.line.typeText(text); strings.TrimSpace(text) != "" && err != nil {
				return err
			}
		case <-s.line.over():
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// typingEnd is no failure: the agent ended the call, or says no more.
func typingEnd(err error) error {
	if errors.Is(err, errLineOver) || errors.Is(err, errNotInTime) {
		return nil
	}
	return err
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
