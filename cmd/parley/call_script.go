package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"parley/signaling/signalingtest"
)

// scriptHelp lists the acts; parseScript takes exactly these.
const scriptHelp = `  say TEXT               say it, spoken by flite
  wav FILE               play a file; its path counts from the script's folder
  wait 2s                do nothing for that long
  wait-speech 10s        until the agent speaks, that long at most
  wait-quiet 800ms       until the agent has been silent for that long
  wait-hangup 10s        until the far side ends the call, that long at most
  press 12#              press keys
  type TEXT              send text, over webrtc
  expect-answer 1500ms   the agent began to speak at most so long after the caller's last words
  expect-stop 700ms      the agent fell silent at most so long after the caller began to speak over it
  expect-gaps 0          at most so many holes were heard in its speech so far
  expect-said TEXT       the agent said it: some turn contains it, case aside
  expect-heard REGEXP    some turn of the agent, as far as it was heard, matches
  expect-recognized TEXT some turn of the caller was recognized so
  expect-cut TEXT        some turn of the agent that contains it was cut off
  expect-end REASON      the call ends, for that reason: goodbye, transfer, …
  hangup                 hang up
  network delay 50ms jitter 30ms loss 2%   first of all: the line, each way
  echo -20dB 150ms       first of all: what the caller's loudspeaker gives back
  noise -50dBFS          first of all: the sound around the caller
  stall 500ms            the network holds everything for so long, and goes on meanwhile
  break                  the line is lost without a word
  deafen                 the caller's end takes nothing any more, as a half-open line
  mute                   the caller's end sends nothing any more, as a half-open line
  # anything             a comment
`

// An act is one line of a script, or a thing that the caller does by option.
type act struct {
	do   string
	text string
	wait time.Duration
	line int

	set   conditions // network, echo, noise
	count int        // expect-gaps

	pcm    []int16 // say, wav, play: at the line's rate
	match  *regexp.Regexp
	from   io.Reader // typing
	string string    // as written
}

// needsTranscript reports that the act is judged by what the gateway says of the
// call; the others are judged by the caller's ear.
func (a act) needsTranscript() bool {
	switch a.do {
	case "expect-said", "expect-heard", "expect-recognized", "expect-cut", "expect-end":
		return true
	}
	return false
}

// conditions are what a script sets before the call.
type conditions struct {
	network signalingtest.Line
	echo    signalingtest.Echo
	noise   signalingtest.Noise
	faulty  bool // stall, deafen or mute is among the acts
}

// conditionsOf gathers them from acts, where they must come first.
func conditionsOf(acts []act) (c conditions, rest []act, err error) {
	for i, a := range acts {
		switch a.do {
		case "network":
			c.network = a.set.network
		case "echo":
			c.echo = a.set.echo
		case "noise":
			c.noise = a.set.noise
		case "stall", "deafen", "mute":
			c.faulty = true
			rest = append(rest, a)
			continue
		default:
			rest = append(rest, a)
			continue
		}
		if len(rest) > 0 {
			return c, nil, fmt.Errorf("line %d: %s is set before anything is done", acts[i].line, a.do)
		}
	}
	return c, rest, nil
}

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
	if a.text == "" && !alone[a.do] {
		return a, fmt.Errorf("%q says not what: write it as in parley call --help", l)
	}
	switch a.do {
	case "say", "wav", "type", "expect-said", "expect-recognized", "expect-cut", "expect-end":
	case "hangup", "break", "deafen", "mute":
		if a.text != "" {
			return a, fmt.Errorf("%s takes nothing, not %q", a.do, a.text)
		}
	case "wait", "wait-quiet", "wait-speech", "wait-hangup", "stall", "expect-answer", "expect-stop":
		a.wait, err = time.ParseDuration(a.text)
		if err != nil || a.wait <= 0 {
			return a, fmt.Errorf("%q is not a time: write it as 2s or 800ms", a.text)
		}
	case "expect-gaps":
		if a.count, err = strconv.Atoi(a.text); err != nil || a.count < 0 {
			return a, fmt.Errorf("%q is not a number", a.text)
		}
	case "network", "echo", "noise":
		a.set, err = parseConditions(a.do, strings.Fields(a.text))
		return a, err
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

// alone are the acts that take nothing.
var alone = map[string]bool{"hangup": true, "break": true, "deafen": true, "mute": true}

// parseConditions reads what stands behind network, echo or noise.
func parseConditions(what string, fields []string) (c conditions, err error) {
	number := func(s, unit string, least, most float64) float64 {
		n, e := strconv.ParseFloat(strings.TrimSuffix(s, unit), 64)
		if e != nil || !strings.HasSuffix(s, unit) || n < least || n > most {
			err = errors.Join(err, fmt.Errorf("%q is not %g to %g%s", s, least, most, unit))
		}
		return n
	}
	duration := func(s string) time.Duration {
		d, e := time.ParseDuration(s)
		if e != nil || d < 0 || d > 2*time.Second {
			err = errors.Join(err, fmt.Errorf("%q is not a time of at most 2s", s))
		}
		return d
	}
	switch {
	case what == "noise" && len(fields) == 1:
		c.noise.DBFS = number(fields[0], "dBFS", -90, -10)
	case what == "echo" && len(fields) == 2:
		c.echo = signalingtest.Echo{GainDB: number(fields[0], "dB", -60, -1), Delay: duration(fields[1])}
	case what == "network" && len(fields)%2 == 0:
		for i := 0; i < len(fields); i += 2 {
			switch value := fields[i+1]; fields[i] {
			case "delay":
				c.network.Delay = duration(value)
			case "jitter":
				c.network.Jitter = duration(value)
			case "loss":
				c.network.Loss = number(value, "%", 0, 100) / 100
			default:
				err = errors.Join(err, fmt.Errorf("a network has delay, jitter and loss, not %q", fields[i]))
			}
		}
	default:
		err = fmt.Errorf("%s is written otherwise: parley call --help shows how", what)
	}
	return c, err
}
