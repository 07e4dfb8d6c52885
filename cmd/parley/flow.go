package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
	"parley/agent/flow/flowtest"
	"parley/control"
)

// flowCommand works on flow documents without a server.
type flowCommand struct {
	Lint    flowLint    `cmd:"" help:"Say what keeps flows from being published, and how to mend it."`
	Run     flowRun     `cmd:"" help:"Talk to a flow in the terminal."`
	Test    flowTest    `cmd:"" help:"Run files of cases, and the tests that flows carry."`
	Publish flowPublish `cmd:"" help:"Send flows to a gateway, for new conversations."`
	Secret  flowSecret  `cmd:"" help:"Keep the secrets that flows name, on this machine."`
	Export  flowExport  `cmd:"" help:"Print a flow as canonical JSON: equal flows are equal bytes."`
}

// errSaid is a failure whose reasons stand in the output already.
var errSaid = errors.New("it did not hold")

// flowLint checks documents.
type flowLint struct {
	Files []string `arg:"" name:"file" help:"Flow documents; - reads standard input."`
	JSON  bool     `name:"json" help:"Print one JSON object a problem."`
}

// Help shows an example.
func (flowLint) Help() string {
	return "Example:\n  parley flow lint front-desk.json\n\nExit status: 0 nothing but warnings and infos, 1 errors, 2 a file cannot be read."
}

// Run prints each problem with a pointer into the document and a way to mend it.
func (c flowLint) Run(io stdio) error {
	docs, err := readFiles(c.Files, io.in)
	if err != nil {
		return usageError{err}
	}
	count := map[string]int{}
	for i, doc := range docs {
		for _, p := range flow.Lint(doc) {
			count[p.Severity]++
			if c.JSON {
				printJSON(io.out, struct {
					File string `json:"file"`
					flow.Problem
				}{c.Files[i], p})
				continue
			}
			fmt.Fprintf(io.out, "%s: %s %s: %s\n    at  %s\n    fix %s\n", c.Files[i], p.Severity, p.Code, p.Message, pointer(p.Pointer), p.Fix)
		}
	}
	if !c.JSON {
		fmt.Fprintf(io.out, "%d errors, %d warnings, %d infos\n", count[flow.SeverityError], count[flow.SeverityWarning], count[flow.SeverityInfo])
	}
	if count[flow.SeverityError] > 0 {
		return errSaid
	}
	return nil
}

// pointer shows the document itself as a slash.
func pointer(p string) string {
	if p == "" {
		return "/"
	}
	return p
}

// flowTest runs cases.
type flowTest struct {
	Files   []string `arg:"" name:"file" help:"Files of cases, or flow documents with tests; - reads standard input."`
	Pattern string   `name:"run" placeholder:"REGEXP" help:"Run only cases whose name matches."`
	JSON    bool     `name:"json" help:"Print one JSON object a case."`
}

// Help shows an example.
func (flowTest) Help() string {
	return "Examples:\n  parley flow test front-desk.json cases.json\n  parley flow test --run '^silence' front-desk.json\n\n" +
		"Exit status: 0 every case holds, 1 one does not, 2 a file cannot be read."
}

// Run runs the cases of all files, in order.
func (c flowTest) Run(io stdio) error {
	only, err := regexp.Compile(c.Pattern)
	if err != nil {
		return usageError{fmt.Errorf("--run: %w", err)}
	}
	docs, err := readFiles(c.Files, io.in)
	if err != nil {
		return usageError{err}
	}
	var cases []flowtest.Case
	for i, doc := range docs {
		list, err := flowtest.Parse(doc)
		if err != nil {
			return usageError{fmt.Errorf("%s: %w", c.Files[i], err)}
		}
		for k := range list {
			if err := list[k].Load(beside(c.Files[i])); err != nil {
				return usageError{fmt.Errorf("%s: %w", c.Files[i], err)}
			}
		}
		cases = append(cases, list...)
	}
	passed, failed := 0, 0
	for _, k := range cases {
		if !only.MatchString(k.Name) {
			continue
		}
		r := flowtest.Run(k)
		if r.OK {
			passed++
		} else {
			failed++
		}
		switch {
		case c.JSON:
			printJSON(io.out, r)
		case !r.OK:
			fmt.Fprintf(io.out, "FAIL %s, step %d\n    want %s\n    got  %s\n", r.Name, r.Step, r.Want, r.Got)
		}
	}
	if !c.JSON {
		fmt.Fprintf(io.out, "%d passed, %d failed\n", passed, failed)
	}
	if failed > 0 {
		return errSaid
	}
	return nil
}

// beside reads files whose names are relative to that of another.
func beside(file string) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) && file != "-" {
			name = filepath.Join(filepath.Dir(file), name)
		}
		return os.ReadFile(name)
	}
}

// flowExport prints documents.
type flowExport struct {
	File string `arg:"" name:"file" help:"Flow document; - reads standard input."`
}

// Help shows an example.
func (flowExport) Help() string {
	return "Example:\n  parley flow export front-desk.json > canonical.json"
}

// Run prints the document with sorted keys and without blanks; nothing of it is lost.
func (c flowExport) Run(io stdio) error {
	docs, err := readFiles([]string{c.File}, io.in)
	if err != nil {
		return usageError{err}
	}
	f, err := flow.Parse(docs[0])
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	_, err = fmt.Fprintf(io.out, "%s\n", f.Canonical())
	return err
}

// readFiles reads them all before anything is done; "-" is in.
func readFiles(names []string, in io.Reader) ([][]byte, error) {
	out := make([][]byte, len(names))
	for i, name := range names {
		var err error
		if name == "-" {
			out[i], err = io.ReadAll(io.LimitReader(in, flow.MaxDocumentBytes+1))
		} else {
			out[i], err = os.ReadFile(name)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return out, nil
}

func printJSON(w io.Writer, v any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // of plain structs: nothing but w can fail, and w is the terminal
}

// flowRun talks to a flow.
type flowRun struct {
	Files  []string `arg:"" name:"file" help:"The flow, then the flows that it calls by their id."`
	Locale string   `help:"Language of the conversation, such as en-US. Default: the flow's."`
	JSON   bool     `name:"json" help:"Print one JSON object a message."`

	AllowHTTP   bool     `name:"allow-http" help:"Make the flow's calls; without, they fail. A secret {secret:api_key} is read from PARLEY_SECRET_API_KEY."`
	AllowModel  bool     `name:"allow-model" help:"Ask the language model of OPENAI_API_KEY, or of a server at OPENAI_BASE_URL; without, nodes that it helps do without it."`
	EgressAllow []string `name:"egress-allow" help:"Private host:port that the flow may call, besides public addresses."`
	Internal    string   `name:"internal" placeholder:"URL" help:"Address of the internal API, which URLs that begin with a slash go to. It may be private."`
	InternalKey string   `name:"internal-key-file" type:"existingfile" help:"File of the key by which the internal API knows who calls."`
	User        string   `name:"user" help:"Who the internal API is told that you are. Default: nobody."`
}

// Help shows an example.
func (flowRun) Help() string {
	return "Examples:\n  parley flow run front-desk.json\n" +
		"  parley flow run --allow-http --internal http://127.0.0.1:9100 bookbot.json\n\nEach line typed is an answer. Further: " + chatHelp + "\n" +
		"Exit status: 0 the conversation ended, 1 it failed, 2 called wrongly."
}

// Run holds the conversation until the flow or the input ends.
func (c flowRun) Run(ctx context.Context, io stdio) error {
	docs, err := readFiles(c.Files, io.in)
	if err != nil {
		return usageError{err}
	}
	flows := map[string]*flow.Flow{}
	var main *flow.Flow
	for i, doc := range docs {
		f, err := flow.Parse(doc)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Files[i], err)
		}
		if i == 0 {
			main = f
			continue
		}
		flows[f.ID] = f
	}
	main = main.With(flows)
	perform, err := c.performer(slog.New(slog.NewTextHandler(io.err, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return usageError{err}
	}
	k := &chat{f: main, json: c.JSON, io: io, perform: perform}
	return k.hold(ctx, flow.New(main, flow.Init{ID: "terminal", Channel: "chat", Locale: c.Locale, User: known(c.User)}))
}

// performer reaches the world if it is told to.
func (c flowRun) performer(log *slog.Logger) (func(context.Context, flow.Effect) flow.Result, error) {
	p := &effect.Performer{Log: log}
	if c.AllowModel {
		set := Settings{OpenAIKey: os.Getenv("OPENAI_API_KEY"), OpenAIBaseURL: os.Getenv("OPENAI_BASE_URL")}
		p.Models = newVendors(set, terminalSecrets(log), log).proposer("", nil, log)
	}
	if !c.AllowHTTP {
		return p.Perform, nil
	}
	within := reach{allow: c.EgressAllow, internal: c.Internal}
	if c.InternalKey != "" {
		var err error
		if within.key, err = readInternalKey(c.InternalKey); err != nil {
			return nil, err
		}
	}
	o, err := newOutside(within, envSecrets(os.Getenv), nil, log)
	if err != nil {
		return nil, err
	}
	p.HTTP, p.Secrets, p.Circuits, p.Answers, p.Internal = o.sender(), o.secrets, o.memory, o.memory, o.inside
	perform := o.budgeted(p, uuid.Nil)
	party := control.Party{Channel: control.ChannelChat, User: c.User}
	return func(ctx context.Context, e flow.Effect) flow.Result {
		return perform(control.WithParty(ctx, party), e)
	}, nil
}

// known is the user's scope of a conversation with id; empty: nobody is known.
func known(id string) map[string]any {
	if id == "" {
		return nil
	}
	return map[string]any{"id": id}
}
