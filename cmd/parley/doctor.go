package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// doctorCommand looks for what keeps a gateway from working, or from being safe.
type doctorCommand struct {
	Settings
	JSON    bool          `name:"json" help:"One JSON object instead of lines."`
	Brief   bool          `name:"brief" help:"Without the checklists."`
	Timeout time.Duration `name:"timeout" default:"10s" help:"Longest time of one check; all run at once."`
}

// Help shows an example.
func (doctorCommand) Help() string {
	return "Looks with the settings of `parley serve`, and changes nothing. Each line says pass, warn or fail, and the cure.\n\n" +
		"Exit status: 0 where nothing fails, 1 where something does, 2 for a wrong call.\n\n" +
		"Example:\n  parley doctor --json | jq '.checks[] | select(.state != \"pass\")'"
}

// States of a finding.
const (
	statePass = "pass"
	stateWarn = "warn" // it works, and should be better
	stateFail = "fail"
)

// A finding is what a check came to.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"`
	Said  string `json:"said"`
	Cure  string `json:"cure,omitempty"`
}

func pass(said string, args ...any) finding {
	return finding{State: statePass, Said: fmt.Sprintf(said, args...)}
}

func warn(cure, said string, args ...any) finding {
	return finding{State: stateWarn, Said: fmt.Sprintf(said, args...), Cure: cure}
}

func fail(cure, said string, args ...any) finding {
	return finding{State: stateFail, Said: fmt.Sprintf(said, args...), Cure: cure}
}

// A check looks at one thing. It holds no secret in what it says.
type check struct {
	name string
	look func(context.Context) finding
}

// Run looks at all there is, and prints it.
func (c doctorCommand) Run(ctx context.Context, std stdio) error {
	found := examine(ctx, c.Settings.checks(), c.Timeout)
	lists := checklists(found)
	if c.JSON {
		out := map[string]any{"checks": found}
		if !c.Brief {
			out["checklists"] = lists
		}
		e := json.NewEncoder(std.out)
		e.SetIndent("", "  ")
		if err := e.Encode(out); err != nil {
			return err
		}
	} else {
		printFindings(std.out, found)
		if !c.Brief {
			printChecklists(std.out, lists)
		}
	}
	if slices.ContainsFunc(found, func(f finding) bool { return f.State == stateFail }) {
		return errSaid
	}
	return nil
}

// examine runs all checks at once, each bounded, and keeps their order.
func examine(ctx context.Context, checks []check, bound time.Duration) []finding {
	found := make([]finding, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, bound)
			defer cancel()
			found[i] = c.look(ctx)
			found[i].Check = c.name
		})
	}
	all.Wait()
	return found
}

func printFindings(w io.Writer, found []finding) {
	count := map[string]int{}
	for _, f := range found {
		count[f.State]++
		fmt.Fprintf(w, "%-4s  %-16s %s\n", f.State, f.Check, f.Said)
		if f.Cure != "" {
			fmt.Fprintf(w, "      %-16s -> %s\n", "", f.Cure)
		}
	}
	fmt.Fprintf(w, "\n%d pass, %d warn, %d fail\n", count[statePass], count[stateWarn], count[stateFail])
}

// A checklist is what to go through at one time of a gateway's life.
type checklist struct {
	When  string     `json:"when"`
	Items []listItem `json:"items"`
}

// A listItem is held by checks, or is for a person to look at.
type listItem struct {
	State string `json:"state"` // of its checks, the worst; "look" for a person
	What  string `json:"what"`
	by    []string
}

func checklists(found []finding) []checklist {
	lists := []checklist{
		{"development", []listItem{
			{What: "every route says who may come (make test)"},
			{What: "no secret in a flow, a test or a commit (make test, publishing refuses)"},
			{What: "no known hole in what is built in (make vuln)"},
			{What: "what meets the internet is fuzzed (make fuzz)"},
		}},
		{"deployment", []listItem{
			{What: "the settings are complete and safe", by: []string{"settings"}},
			{What: "the database binds this program to its rows", by: []string{"database", "database-server"}},
			{What: "what leaves the machine is encrypted", by: []string{"database-server", "redis", "public-address", "listeners"}},
			{What: "the key file is this program's alone", by: []string{"key-file"}},
			{What: "carriers and vendors are reached", by: []string{"twilio", "openai", "deepgram", "elevenlabs"}},
			{What: "metrics and profiles are not reached from outside", by: []string{"admin-listener"}},
			{What: "media finds its way in", by: []string{"media"}},
			{What: "a copy of the key file lies elsewhere than the database's backups"},
		}},
		{"operation", []listItem{
			{What: "clocks agree", by: []string{"database-server"}},
			{What: "there is room for recordings", by: []string{"data-folder"}},
			{What: "owners and admins have a second factor, and the tenant demands it"},
			{What: "the audit trail holds (parley audit verify), and its anchor is elsewhere"},
			{What: "backups are made, and one was restored this quarter"},
			{What: "keys that nobody has used for 90 days are revoked"},
			{What: "alerts reach somebody: refused sign-ins, blocks, failed webhooks"},
		}},
	}
	worst := map[string]string{}
	for _, f := range found {
		worst[f.Check] = f.State
	}
	for _, l := range lists {
		for i := range l.Items {
			l.Items[i].State = "look"
			for _, name := range l.Items[i].by {
				s := worst[name]
				if l.Items[i].State == "look" || s == stateFail || s == stateWarn && l.Items[i].State == statePass {
					l.Items[i].State = s
				}
			}
		}
	}
	return lists
}

func printChecklists(w io.Writer, lists []checklist) {
	for _, l := range lists {
		fmt.Fprintf(w, "\n%s\n", strings.ToUpper(l.When[:1])+l.When[1:])
		for _, i := range l.Items {
			fmt.Fprintf(w, "  [%s] %s\n", i.State, i.What)
		}
	}
}
