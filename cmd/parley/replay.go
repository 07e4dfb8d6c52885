package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"parley/agent/flow"
)

// replayCommand runs a stored conversation again.
type replayCommand struct {
	Session string `arg:"" help:"The session's id; that of a call's conversation is the call's."`
	Against string `placeholder:"VERSION" help:"Give the same inputs to another version of its flow: a number, the document's own version or a range (1.4.0, ^1.4), latest, or a file."`

	URL    string `name:"url" help:"Address of the gateway. Default: from DATA/dev.json, else http://127.0.0.1:8080."`
	Data   string `default:".parley" help:"Folder where parley dev keeps dev.json."`
	APIKey string `name:"api-key" env:"PARLEY_API_KEY" help:"API key with sessions.read. Default: from DATA/dev.json."`
	JSON   bool   `name:"json" help:"Print one JSON object."`
}

// Help shows examples.
func (replayCommand) Help() string {
	return "Examples:\n  parley replay 0199f1c2-7d1e-7c3a-9f6e-0d3f5a2b1c4d\n  parley replay 0199f1c2-7d1e-7c3a-9f6e-0d3f5a2b1c4d --against 4\n" +
		"  parley replay 0199f1c2-7d1e-7c3a-9f6e-0d3f5a2b1c4d --against flow.json\n\n" +
		"Nothing is sent: what calls came to is taken from the history.\n\n" +
		"Exit status: 0 equal, 1 different, 2 it cannot be replayed, or was called wrongly."
}

// replayed is the gateway's answer.
type replayed struct {
	Verdict string       `json:"verdict"`
	Reason  string       `json:"reason,omitempty"`
	Turns   []replayTurn `json:"turns"`
}

type replayTurn struct {
	Event    string        `json:"event"`
	Revision int           `json:"revision"`
	Input    string        `json:"input,omitempty"`
	Equal    bool          `json:"equal"`
	Stored   *replayResult `json:"stored,omitempty"`
	Replayed *replayResult `json:"replayed,omitempty"`
	State    []flow.Change `json:"state,omitempty"`
	Notes    []string      `json:"notes,omitempty"`
}

type replayResult struct {
	Messages    []flow.Message `json:"messages"`
	CurrentNode string         `json:"current_node"`
	Status      string         `json:"status"`
}

// Run asks the gateway, and prints turns in which something differs.
func (c replayCommand) Run(ctx context.Context, io stdio) error {
	in, err := c.against()
	if err != nil {
		return usageError{err}
	}
	dev, err := readDevFile(c.Data)
	if err != nil {
		return err
	}
	g := client{url: strings.TrimRight(cmp.Or(c.URL, dev.URL, "http://127.0.0.1:8080"), "/"), key: c.APIKey}
	if g.key == "" && g.url == dev.URL {
		g.key = dev.APIKey
	}
	if g.key == "" {
		return usageError{errors.New("an API key is needed: give --api-key or PARLEY_API_KEY, or --data with the folder of parley dev")}
	}
	var raw json.RawMessage
	if err := g.do(ctx, http.MethodPost, "/v1/sessions/"+url.PathEscape(c.Session)+"/replay", in, &raw); err != nil {
		return usageError{fmt.Errorf("session %s: %w", c.Session, err)}
	}
	var r replayed
	if err := json.Unmarshal(raw, &r); err != nil {
		return usageError{fmt.Errorf("the answer of %s is no replay: %w", g.url, err)}
	}
	if c.JSON {
		printJSON(io.out, raw)
	} else {
		r.print(io.out)
	}
	switch r.Verdict {
	case "equal":
		return nil
	case "different":
		return errSaid
	}
	return usageError{errors.New("it cannot be replayed: " + r.Reason)}
}

// against reads the version to compare with.
func (c replayCommand) against() (map[string]any, error) {
	switch n, err := strconv.Atoi(c.Against); {
	case c.Against == "":
		return map[string]any{}, nil
	case c.Against == "latest":
		return map[string]any{"latest": true}, nil
	case err == nil && n > 0:
		return map[string]any{"number": n}, nil
	}
	if _, err := flow.ParseRange(c.Against); err == nil {
		return map[string]any{"version": c.Against}, nil
	}
	doc, err := os.ReadFile(c.Against)
	if err != nil {
		return nil, fmt.Errorf("--against %s is neither a version nor a file: %w", c.Against, err)
	}
	if !json.Valid(doc) {
		return nil, fmt.Errorf("--against %s is not JSON", c.Against)
	}
	return map[string]any{"document": json.RawMessage(doc)}, nil
}

// print shows what differs as a diff: - is stored, + is replayed.
func (r replayed) print(w io.Writer) {
	same := 0
	for i, t := range r.Turns {
		if t.Equal && len(t.Notes) == 0 {
			same++
			continue
		}
		fmt.Fprintf(w, "turn %d, revision %d: %s", i+1, t.Revision, t.Event)
		if t.Input != "" {
			fmt.Fprintf(w, " %q", t.Input)
		}
		fmt.Fprintln(w)
		t.print(w)
	}
	switch r.Verdict {
	case "equal":
		fmt.Fprintf(w, "equal: %d turns\n", len(r.Turns))
	case "different":
		fmt.Fprintf(w, "%d of %d turns are equal; %s\n", same, len(r.Turns), r.Reason)
	}
}

func (t replayTurn) print(w io.Writer) {
	was, is := t.Stored.lines(), t.Replayed.lines()
	for len(was) > 0 && len(is) > 0 && was[0] == is[0] { // what both say first
		fmt.Fprintln(w, "    "+was[0])
		was, is = was[1:], is[1:]
	}
	for _, l := range was {
		fmt.Fprintln(w, "  - "+l)
	}
	for _, l := range is {
		fmt.Fprintln(w, "  + "+l)
	}
	for _, c := range t.State {
		from, _ := json.Marshal(c.From) // of decoded JSON: cannot fail
		to, _ := json.Marshal(c.To)
		fmt.Fprintf(w, "    %s: %s → %s\n", strings.ReplaceAll(strings.TrimPrefix(c.Path, "/"), "/", "."), from, to)
	}
	for _, n := range t.Notes {
		fmt.Fprintln(w, "  ! "+n)
	}
}

// lines are a turn's messages, and where it led.
func (r *replayResult) lines() []string {
	if r == nil {
		return nil
	}
	var out []string
	for _, m := range r.Messages {
		if m.Type == "text" {
			out = append(out, m.Text)
		} else {
			out = append(out, strings.TrimSpace("["+m.Type+"] "+m.URL+" "+m.Alt))
		}
	}
	if r.CurrentNode != "" {
		return append(out, "(waits at "+r.CurrentNode+")")
	}
	return append(out, "("+r.Status+")")
}
