package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/agent/flow"
)

const chatHelp = "/silence says nothing, /press 12# presses keys, /hangup leaves."

// maxChatRounds bounds the effects that may follow one answer.
const maxChatRounds = 200

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
func (k *chat) send(ctx context.Context, ev flow.Event) error {
	queue := []flow.Event{ev}
	for range maxChatRounds {
		if len(queue) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		next, effects := flow.Step(k.f, k.s, queue[0])
		k.s, queue = next, queue[1:]
		for _, e := range effects {
			if r, ok := k.do(ctx, e); ok {
				r.At = now()
				queue = append(queue, r)
			}
		}
	}
	return fmt.Errorf("the flow did not come to rest in %d effects", maxChatRounds)
}

// do performs an effect; false where nothing comes back.
func (k *chat) do(ctx context.Context, e flow.Effect) (flow.Result, bool) {
	switch e := e.(type) {
	case flow.Say:
		k.show(e.Messages)
	case flow.Ask:
		k.show(e.Messages)
		k.options(e.Takes)
	case flow.Transfer:
		k.note("transfer to " + e.To)
		return flow.Result{ID: e.ID, Outcome: "answered"}, true
	case flow.Emit, flow.End:
	case flow.SendDigits:
		k.note("keys " + e.Digits)
	case flow.SwitchLanguage:
		k.note("language " + e.Locale)
	case flow.Call:
		k.show(e.SayWhile)
		r := k.perform(ctx, e)
		if r.Outcome != "success" {
			k.note(e.Route + ": " + r.Error)
		}
		return r, true
	default:
		r := k.perform(ctx, e)
		return r, r.ID != ""
	}
	return flow.Result{}, false
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
