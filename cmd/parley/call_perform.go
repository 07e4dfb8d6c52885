package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
)

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
		s.phone.speak(a.text, a.pcm)
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
	case "wait-hangup":
		if err := s.until(ctx, a.wait, never); !errors.Is(err, errLineOver) {
			return wrap(a, err)
		}
	case "press":
		return wrap(a, s.line.press(a.text))
	case "stall", "break", "deafen", "mute":
		s.line.fault(a.do, a.wait)
	case "expect-answer", "expect-stop", "expect-gaps":
		return wrap(a, s.measured(ctx, a))
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

// measured waits until the caller's ear can tell.
func (s *scriptRun) measured(ctx context.Context, a act) error {
	if a.do == "expect-gaps" {
		if n := s.line.stats().Holes; n > a.count {
			return fmt.Errorf("there were %d", n)
		}
		return nil
	}
	var took time.Duration
	err := s.wait(ctx, a.wait+expectWithin, func() (known bool) {
		last := s.phone.last()
		took, known = last.answered, last.answered > 0
		if a.do == "expect-stop" {
			took, known = last.stopped, last.stopped > 0
			if last.text != "" && !last.over {
				took, known = -1, true
			}
		}
		return known
	})
	switch {
	case took < 0:
		return errors.New("the caller did not speak over the agent")
	case err != nil:
		return errors.New("it has not come to pass")
	case took > a.wait:
		return fmt.Errorf("it took %d ms", took.Milliseconds())
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
