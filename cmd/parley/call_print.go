package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// A spokenTurn is one party's holding of the floor, as the caller's terminal
// knows it.
type spokenTurn struct {
	Index   int
	Speaker string // caller or agent
	Said    string // agent: all it had to say
	Heard   string // agent: what was heard of it; caller: what was recognized
	Cut     bool
	Input   string // caller: speech, dtmf, text
	Done    bool

	printed int // bytes of Said that stand on the terminal
}

// A transcript grows as the call goes. It tells show of every change.
type transcript struct {
	show func(shown)

	mu        sync.Mutex
	turns     []spokenTurn // by index
	latencies []time.Duration
	ended     bool
	reason    string
}

// turn takes what is known of a turn now.
func (t *transcript) turn(n spokenTurn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, known := slices.BinarySearchFunc(t.turns, n.Index, func(a spokenTurn, index int) int { return a.Index - index })
	if !known {
		t.turns = slices.Insert(t.turns, i, n)
	} else {
		n.printed = t.turns[i].printed
		t.turns[i] = n
	}
	t.tell(&t.turns[i])
}

// tell shows what is new of a turn: the agent's words as it begins to say them,
// the rest when it is known.
func (t *transcript) tell(n *spokenTurn) {
	s := shown{Turn: &n.Index, Text: n.Heard}
	if n.Speaker == "caller" {
		s.Type, s.Input = "caller", n.Input
		if !n.Done {
			s.Type = "interim"
		}
		t.show(s)
		return
	}
	if len(n.Said) > n.printed {
		if text := strings.TrimSpace(n.Said[n.printed:]); text != "" {
			t.show(shown{Type: "said", Turn: &n.Index, Text: text})
		}
		n.printed = len(n.Said)
	}
	if n.Done {
		s.Type = "heard"
		if n.Cut {
			s.Type = "cut"
		}
		t.show(s)
	}
}

func (t *transcript) latency(turn int, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.latencies = append(t.latencies, d)
	ms := d.Milliseconds()
	t.show(shown{Type: "latency", Turn: &turn, LatencyMS: ms})
}

// end notes how the call ended.
func (t *transcript) end(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.ended, t.reason = true, reason
		t.show(shown{Type: "ended", Text: reason})
	}
}

// any reports whether a turn of speaker passes.
func (t *transcript) any(speaker string, pass func(spokenTurn) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.turns, func(n spokenTurn) bool { return n.Speaker == speaker && pass(n) })
}

// ending returns the reason, once the call has ended.
func (t *transcript) ending() (reason string, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason, t.ended
}

// shown is one line of the terminal, or one JSON object.
type shown struct {
	AtMS int64 `json:"at_ms"` // from the moment of dialing
	// Type is caller (recognized), interim (recognized so far), said (the
	// agent's words), heard or cut (what was heard of them), latency, act,
	// failed, transfer, ended, note, report.
	Type      string  `json:"type"`
	Turn      *int    `json:"turn,omitempty"`
	Text      string  `json:"text,omitempty"`
	Input     string  `json:"input,omitempty"`
	LatencyMS int64   `json:"latency_ms,omitempty"`
	Report    *report `json:"report,omitempty"`
}

// report sums up a call.
type report struct {
	DurationMS    int64   `json:"duration_ms"`
	EndReason     string  `json:"end_reason,omitempty"`
	AgentTurns    int     `json:"agent_turns"`
	CallerTurns   int     `json:"caller_turns"`
	Cut           int     `json:"cut"`
	LatencyMS     []int64 `json:"latency_ms"`      // of each turn, by the gateway
	LineLatencyMS []int64 `json:"line_latency_ms"` // by our ear: caller's last sample to agent's first
	Failed        int     `json:"failed"`

	Said   []saidReport `json:"said"` // by the caller, and what the line did then
	Turns  []turnReport `json:"turns,omitempty"`
	Line   lineStats    `json:"line"`
	Faults []string     `json:"faults,omitempty"` // what did not hold
}

// saidReport is something that the caller said, measured by ear.
type saidReport struct {
	AtMS       int64  `json:"at_ms"` // from the line's beginning
	Text       string `json:"text"`
	OverAgent  bool   `json:"over_agent"`
	StoppedMS  int64  `json:"stopped_ms,omitempty"`  // from its beginning to the agent's silence; none: the agent went on
	AnsweredMS int64  `json:"answered_ms,omitempty"` // from its end to the agent's next word; none: no answer
}

// turnReport is a turn by the gateway's own word.
type turnReport struct {
	Speaker string `json:"speaker"`
	Said    string `json:"said,omitempty"` // agent: all of it
	Heard   string `json:"heard"`
	Cut     bool   `json:"cut"`
}

// A printer shows a call. Its methods may be called from any goroutine.
type printer struct {
	out   io.Writer
	json  bool
	began time.Time

	mu sync.Mutex
}

// show prints one thing that happened.
func (p *printer) show(s shown) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Since(p.began)
	s.AtMS = at.Milliseconds()
	if p.json {
		b, err := json.Marshal(s)
		if err == nil {
			_, _ = fmt.Fprintf(p.out, "%s\n", b) // a terminal that is gone ends nothing
		}
		return
	}
	if text := s.String(); text != "" {
		_, _ = fmt.Fprintf(p.out, "%6.1f s  %s\n", at.Seconds(), text)
	}
}

// note tells something about the call itself.
func (p *printer) note(text string) { p.show(shown{Type: "note", Text: text}) }

// String returns the line for people; empty if there is none.
func (s shown) String() string {
	switch s.Type {
	case "caller":
		if s.Input == "dtmf" {
			return "caller   keys " + s.Text
		}
		return "caller   " + s.Text
	case "said":
		return "agent    " + s.Text
	case "cut":
		if s.Text == "" {
			return "         cut off before a word was heard"
		}
		return "         cut off after: " + s.Text
	case "latency":
		return fmt.Sprintf("         answered after %d ms", s.LatencyMS)
	case "act":
		return "  >      " + s.Text
	case "failed":
		return "  FAILED " + s.Text
	case "transfer":
		return "         transferred to " + s.Text
	case "ended":
		return "ended    " + s.Text
	case "note":
		return s.Text
	case "report":
		return s.Report.String()
	}
	return ""
}

// report prints how the call went.
func (p *printer) report(t *transcript, ph *phone, line lineStats, failed []string) {
	t.mu.Lock()
	r := &report{DurationMS: time.Since(p.began).Milliseconds(), EndReason: t.reason, Failed: len(failed),
		Said: []saidReport{}, Line: line, Faults: failed}
	for _, n := range t.turns {
		r.Turns = append(r.Turns, turnReport{n.Speaker, n.Said, n.Heard, n.Cut})
		if n.Speaker == "agent" {
			r.AgentTurns++
		} else {
			r.CallerTurns++
		}
		if n.Cut {
			r.Cut++
		}
	}
	r.LatencyMS = milliseconds(t.latencies)
	t.mu.Unlock()
	r.LineLatencyMS = milliseconds(ph.answers())
	for _, u := range ph.sayings() {
		r.Said = append(r.Said, saidReport{u.at.Milliseconds(), u.text, u.over, u.stopped.Milliseconds(), u.answered.Milliseconds()})
	}
	p.show(shown{Type: "report", Report: r})
}

func milliseconds(all []time.Duration) []int64 {
	out := make([]int64, 0, len(all))
	for _, d := range all {
		out = append(out, d.Milliseconds())
	}
	return out
}

// String returns the report in a few lines.
func (r *report) String() string {
	var b strings.Builder
	if len(r.Turns) == 0 {
		b.WriteString("by ear alone")
	} else {
		fmt.Fprintf(&b, "%d turns: agent %d, caller %d, cut off %d", r.AgentTurns+r.CallerTurns, r.AgentTurns, r.CallerTurns, r.Cut)
	}
	for _, u := range r.Said {
		fmt.Fprintf(&b, "\n          %5.1f s  %-30.30s", float64(u.AtMS)/1000, u.Text)
		switch {
		case u.OverAgent && u.StoppedMS > 0:
			fmt.Fprintf(&b, "  agent silent after %d ms", u.StoppedMS)
		case u.OverAgent:
			b.WriteString("  agent went on")
		}
		if u.AnsweredMS > 0 {
			fmt.Fprintf(&b, "  answered after %d ms", u.AnsweredMS)
		}
	}
	figures := func(what string, ms []int64) {
		if len(ms) == 0 {
			return
		}
		ms = slices.Sorted(slices.Values(ms))
		fmt.Fprintf(&b, "\n          %s: median %d ms, worst %d ms, of %d", what, ms[len(ms)/2], ms[len(ms)-1], len(ms))
	}
	figures("latency by the gateway", r.LatencyMS)
	figures("latency on the line", r.LineLatencyMS)
	fmt.Fprintf(&b, "\n          agent's audio: %d holes (%d ms), at most %d ms late, %d ms ahead",
		r.Line.Holes, r.Line.SilenceMS, r.Line.LateMS, r.Line.LeadMS)
	if r.Failed > 0 {
		fmt.Fprintf(&b, "\n          %d expectations failed", r.Failed)
	}
	return b.String()
}
