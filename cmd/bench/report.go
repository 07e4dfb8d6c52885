package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is what a run found: rows for people, and all that was measured.
type report struct {
	Machine machine         `json:"machine"`
	Rows    []row           `json:"rows"`
	Raw     map[string]held `json:"measured"`
}

// A row sets a figure beside its goal.
type row struct {
	Scenario string `json:"scenario"`
	What     string `json:"what"`
	Goal     string `json:"goal"`
	Figure   string `json:"figure"`
	Verdict  string `json:"verdict"` // "met", "missed", "void", "failed", or "" without a goal
}

func (r *report) add(scenario, what, goal, figure string, met bool, void bool) {
	verdict := "met"
	switch {
	case void:
		verdict = "void"
	case goal == "":
		verdict = ""
	case !met:
		verdict = "missed"
	}
	r.Rows = append(r.Rows, row{scenario, what, goal, figure, verdict})
}

func (r *report) keep(name string, h held) {
	if r.Raw == nil {
		r.Raw = map[string]held{}
	}
	r.Raw[name] = h
}

func (r *report) failed(scenario string, err error) {
	r.Rows = append(r.Rows, row{scenario, "could not be run", "", err.Error(), "failed"})
}

func (q quantiles) String() string {
	return fmt.Sprintf("%.1f / %.1f / %.1f ms", q.P50, q.P95, q.P99)
}

func (r *report) latency(h held) {
	r.keep(fmt.Sprintf("S1 %d calls", h.Calls), h)
	goal, met := "", true
	if h.Calls >= 100 {
		goal = "p50 ≤ 3, p99 ≤ 10 ms"
		met = h.Overhead.P50 <= 3 && h.Overhead.P99 <= 10 && h.Missed == 0
	}
	r.add("S1", fmt.Sprintf("added latency, %d calls: p50 / p95 / p99", h.Calls), goal,
		fmt.Sprintf("%v of %d turns, %d missed", h.Overhead, h.Overhead.N, h.Missed), met, h.void())
}

func (r *report) cost(echo, before, h, after held) {
	r.keep("S4 codec echo", echo)
	r.keep("S4 relay before", before)
	r.keep("S4 gateway", h)
	r.keep("S4 relay after", after)
	floor := (before.CPU + after.CPU) / 2
	apart := max(before.CPU, after.CPU)/min(before.CPU, after.CPU) - 1
	void := apart > 0.15 || before.void() || after.void() || h.void()
	ratio := h.CPU / floor
	what := fmt.Sprintf("CPU ÷ relay floor, %d calls", h.Calls)
	r.add("S4", what, "≤ 1.5, stretch 1.2", fmt.Sprintf("%.2f (%.4f of %.4f CPU-s a call-minute; the floors %.0f %% apart)",
		ratio, h.CPU, floor, 100*apart), ratio <= 1.5, void)
	r.add("S4", "CPU of the codec echo ÷ relay floor", "", fmt.Sprintf("%.2f", echo.CPU/floor), true, false)
	r.add("S4", "memory a call", "≤ 150 KiB, stretch 100", fmt.Sprintf("%.0f KiB (relay floor %.0f, codec echo %.0f)",
		h.KiB, after.KiB, echo.KiB), h.KiB <= 150, false)
}

func (r *report) byRecognizer(h held) {
	r.keep("S2", h)
	r.add("S2", "recognizer's event → clear: p50 / p95 / p99", "p99 ≤ 5 ms", fmt.Sprintf("%v of %d, %d not heeded", h.FromInterim, h.FromInterim.N, h.Unheeded),
		h.FromInterim.P99 <= 5 && h.FromInterim.N > 0 && h.Unheeded == 0, h.void())
	r.add("S2", "messages of the old reply after clear", "0", fmt.Sprint(h.Stale), h.Stale == 0, false)
	r.add("S2", "requests aborted within", "≤ 20 ms, always", fmt.Sprintf("%.1f ms at most, of %d; %d not aborted", h.Aborts.Max, h.Aborts.N, h.Unaborted),
		h.Aborts.Max <= 20 && h.Aborts.N > 0 && h.Unaborted == 0, h.void())
}

func (r *report) byVoice(h, click held) {
	r.keep("S3", h)
	r.keep("S3 clicks", click)
	r.add("S3", "onset of speech → clear: p50 / p95 / p99", "p50 ≤ 150, p99 ≤ 180 ms", fmt.Sprintf("%v of %d, %d not heeded", h.FromOnset, h.FromOnset.N, h.Unheeded),
		h.FromOnset.P50 <= 150 && h.FromOnset.P99 <= 180 && h.FromOnset.N > 0 && h.Unheeded == 0, h.void())
	r.add("S3", "pauses for a click", "0", fmt.Sprintf("%d in %d turns", click.FalsePause, click.Turns), click.FalsePause == 0 && click.Turns > 0, false)
}

func (r *report) capacity(floor, h held) {
	r.keep("S5 relay", floor)
	r.keep("S5 gateway", h)
	share := float64(h.Calls) / float64(max(1, floor.Calls))
	r.add("S5", "calls of one core ÷ those of the relay floor", "≥ 0.6, stretch 0.8",
		fmt.Sprintf("%.2f (%d of %d; the core %.0f %% and %.0f %% busy)", share, h.Calls, floor.Calls, 100*h.Core, 100*floor.Core), share >= 0.6, floor.void() || h.void())
}

func (r *report) overload(offered int, h, alone held) {
	r.keep("S6", h)
	r.add("S6", fmt.Sprintf("%d calls offered", offered), "what is over is refused", fmt.Sprintf("%d accepted, %d refused, %d lost", h.Calls, h.Refused, h.Lost),
		h.Refused > 0 && h.Lost == 0, false)
	limit := 2 * alone.Overhead.P99
	r.add("S6", "accepted calls: added latency p50 / p95 / p99", fmt.Sprintf("p99 ≤ 2 × S1 (%.1f ms)", limit), fmt.Sprintf("%v, %d missed", h.Overhead, h.Missed),
		h.Overhead.P99 <= limit && h.Missed == 0, h.void())
}

func (r *report) pacing(h held) {
	r.add("S7", "times the far side ran dry", "0", fmt.Sprintf("%d in %d turns", h.Underruns, h.Turns), h.Underruns == 0, h.void())
	r.add("S7", "jitter of messages p50 / p95 / p99", "p99 ≤ 5 ms", h.Jitter.String(), h.Jitter.P99 <= 5, h.void())
	r.add("S7", "sent ahead, once running", "200 to 400 ms", fmt.Sprintf("%.0f to %.0f ms", h.Lead.Min, h.Lead.Max), h.Lead.Min >= 200 && h.Lead.Max <= 400, h.void())
}

func (r *report) fault(name string, h held) {
	r.keep("S8 "+name, h)
	r.add("S8", name, "no call lost, then as before", fmt.Sprintf("%d lost; then %d turns, %d missed", h.Lost, h.Turns, h.Missed),
		h.Lost == 0 && h.Missed == 0 && h.Turns > 0, h.void())
}

func (r *report) browsers(before, h, opus, after held) {
	r.keep("S10 pion echo before", before)
	r.keep("S10 pion echo after", after)
	r.keep("S10 gateway, G.711", h)
	r.keep("S10 gateway, Opus", opus)
	floor := (before.CPU + after.CPU) / 2
	apart := max(before.CPU, after.CPU)/min(before.CPU, after.CPU) - 1
	void := apart > 0.15 || before.void() || after.void() || h.void()
	r.add("S10", fmt.Sprintf("CPU ÷ pion echo, G.711, %d calls", h.Calls), "≤ 1.3", fmt.Sprintf("%.2f (%.4f of %.4f CPU-s a call-minute; %d turns)", h.CPU/floor, h.CPU, floor, h.Turns),
		h.CPU/floor <= 1.3 && h.Turns > 0, void)
	r.add("S10", "CPU ÷ pion echo, with Opus", "", fmt.Sprintf("%.2f (%.4f CPU-s a call-minute; %d turns)", opus.CPU/floor, opus.CPU, opus.Turns), true, false)
	r.add("S10", "memory a call", "≤ the echo's + 450 KiB", fmt.Sprintf("G.711 %.0f, Opus %.0f, echo %.0f KiB", h.KiB, opus.KiB, before.KiB), h.KiB <= before.KiB+450, false)
}

// soakLeast is how long a soak must last for its slope to mean something.
const soakLeast = 20 * time.Minute

func (r *report) soak(d time.Duration, slope float64, base, after leftovers) {
	goal := "< 1 MiB/h"
	if d < soakLeast {
		goal = "" // memory still finds its level
	}
	r.add("S9", fmt.Sprintf("growth of memory, %v of churn", d), goal, fmt.Sprintf("%.1f MiB/h", slope), slope < 1, false)
	r.add("S9", "goroutines and descriptors after all calls", "back to base", fmt.Sprintf("%d of %d, %d of %d", after.goroutines, base.goroutines, after.fds, base.fds),
		after.goroutines <= base.goroutines+leftoverMax && after.fds <= base.fds+leftoverMax, false)
}

func (r *report) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "\n%s, %d cores, %d MiB, Linux %s, %s, %s\n\n", m.CPU, m.Cores, m.Memory, m.Kernel, m.Go, m.At.Format("2006-01-02 15:04 MST"))
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\twhat\tgoal\tmeasured\t")
	for _, x := range r.Rows {
		fmt.Fprintln(t, strings.Join([]string{x.Scenario, x.What, x.Goal, x.Figure, x.Verdict}, "\t"))
	}
	_ = t.Flush() // of what was printed
}

// write keeps all figures as JSON.
func (r *report) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
