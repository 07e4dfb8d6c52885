package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/agent/effect"
	"parley/agent/flow"
)

const chatHelp = "/silence says nothing, /press 12# presses keys, /hangup leaves."

// chat is a host of flows in a terminal: it shows what is said and reads
// answers a line at a time. It asks only performers about the world.
type chat struct {
	f       *flow.Flow
	s       flow.State
	json    bool
	io      stdio
	perform func(context.Context, flow.Effect) flow.Result
}

// hold talks until the flow ends, or the input does, which is a hang-up.
func (k *chat) hold(ctx context.Context, s flow.State) error {
	k.s = s
	if err := k.send(ctx, flow.Start{At: now()}); err != nil {
		return err
	}
	lines := bufio.NewScanner(k.io.in)
	for k.s.Session.Status == flow.Active {
		var ev flow.Event = flow.Hangup{At: now()}
		if lines.Scan() {
			ev = chatEvent(lines.Text())
		} else if err := lines.Err(); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if err := k.send(ctx, ev); err != nil {
			return err
		}
	}
	if k.json {
		printJSON(k.io.out, map[string]string{"status": k.s.Session.Status})
	} else {
		fmt.Fprintf(k.io.out, "(%s)\n", k.s.Session.Status)
	}
	if k.s.Session.Status == flow.Failed {
		return errors.New("the flow failed: see parley flow lint")
	}
	return nil
}

func now() flow.At { return flow.At{At: time.Now()} }

// chatEvent reads a line: a command, or an answer.
func chatEvent(line string) flow.Event {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch word {
	case "/silence":
		return flow.Silence{At: now()}
	case "/hangup":
		return flow.Hangup{At: now()}
	case "/press":
		return flow.Input{At: now(), Text: strings.TrimSpace(rest), Mode: "dtmf"}
	}
	return flow.Input{At: now(), Text: line, Mode: "text"}
}

// send steps until the flow waits for the person, or is over.
func (k *chat) send(ctx context.Context, ev flow.Event) (err error) {
	host := effect.TextHost{Flow: k.f, Perform: k.do, Commit: k.shown}
	k.s, err = host.Turn(ctx, k.s, ev)
	return err
}

// shown prints what a step says.
func (k *chat) shown(_ context.Context, st effect.Step) error {
	for _, e := range st.Effects {
		switch e := e.(type) {
		case flow.Say:
			k.show(e.Messages)
		case flow.Ask:
			k.show(e.Messages)
			k.options(e.Takes)
		case flow.Call:
			k.show(e.SayWhile)
		case flow.Transfer:
			k.note("transfer to " + e.To)
		}
	}
	return nil
}

// do performs an effect that is not speech.
func (k *chat) do(ctx context.Context, e flow.Effect) flow.Result {
	switch e := e.(type) {
	case flow.SendDigits:
		k.note("keys " + e.Digits)
		return flow.Result{}
	case flow.SwitchLanguage:
		k.note("language " + e.Locale)
		return flow.Result{}
	case flow.Call:
		r := k.perform(ctx, e)
		if r.Outcome != "success" {
			k.note(e.Route + ": " + r.Error)
		}
		return r
	}
	return k.perform(ctx, e)
}

func (k *chat) show(messages []flow.Message) {
	for _, m := range messages {
		switch {
		case k.json:
			printJSON(k.io.out, m)
		case m.Type == "text":
			fmt.Fprintln(k.io.out, m.Text)
		default:
			fmt.Fprintf(k.io.out, "[%s] %s %s\n", m.Type, m.URL, m.Alt)
		}
	}
}

func (k *chat) options(t flow.Takes) {
	if k.json {
		return
	}
	for _, o := range t.Options {
		fmt.Fprintf(k.io.out, "  - %s\n", o.Label)
	}
}

// note tells of what a terminal cannot do.
func (k *chat) note(s string) {
	if !k.json {
		fmt.Fprintf(k.io.out, "(%s)\n", s)
	}
}
