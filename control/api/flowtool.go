package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"parley/agent/flow"
	"parley/control"
)

// flowTools are the routes that change nothing: they look at documents.
func (s *Server) flowTools() error {
	look := func(pattern string) Route { return writes("POST", pattern, control.FlowsRead, maxFlow) }
	return errors.Join(
		operation(s, look("/v1/flows/validate"), "validate-document", "Say what keeps a document from being published", 200, s.validateDocument),
		operation(s, look("/v1/flows/{flow}/validate"), "validate-flow", "The same of a version, or of a document to come", 200, s.validateFlow),
		operation(s, look("/v1/flows/{flow}/simulate"), "simulate-flow", "Try a conversation; nothing is stored or sent", 200, s.simulateFlow),
		operation(s, reads("/v1/flows/{flow}/diff", control.FlowsRead), "diff-flow", "Compare two versions", 200, s.diffFlow),
		operation(s, reads("/v1/flows/{flow}/export", control.FlowsRead), "export-flow", "The document as canonical JSON, unknown fields kept", 200, s.exportFlow),
	)
}

type validityJSON struct {
	Valid    bool        `json:"valid" doc:"No problem is an error: it may be published."`
	Problems []faultJSON `json:"problems"`
}

// faultJSON is a fault of a document.
type faultJSON flow.Problem

func validity(document []byte, types flow.Types) *reply[validityJSON] {
	out := validityJSON{true, []faultJSON{}}
	for _, p := range flow.Lint(document, types) {
		out.Problems = append(out.Problems, faultJSON(p))
		out.Valid = out.Valid && p.Severity != "error"
	}
	return &reply[validityJSON]{out}
}

func (s *Server) validateDocument(_ context.Context, in *struct {
	Body struct {
		Document json.RawMessage `json:"document"`
	}
}) (*reply[validityJSON], error) {
	return validity(in.Body.Document, s.o.Flows.Types), nil
}

// DocumentChoice is a version of a flow, or a document that is none yet;
// exported for huma, which fills it.
type DocumentChoice struct {
	Number   int             `json:"number,omitempty" minimum:"1" maximum:"2147483647" doc:"The version; the newest by default."`
	Document json.RawMessage `json:"document,omitempty" doc:"Looked at instead of a version."`
}

// document returns what was chosen; the flow must be there in any case.
func (s *Server) document(ctx context.Context, path FlowPath, d DocumentChoice) ([]byte, error) {
	v, err := s.o.Flows.Releases().Version(ctx, path.Flow, d.Number)
	if err != nil || len(d.Document) == 0 {
		return v.Document, err
	}
	return d.Document, nil
}

func (s *Server) validateFlow(ctx context.Context, in *struct {
	FlowPath
	Body *DocumentChoice
}) (*reply[validityJSON], error) {
	if in.Body == nil {
		in.Body = new(DocumentChoice)
	}
	doc, err := s.document(ctx, in.FlowPath, *in.Body)
	if err != nil {
		return nil, err
	}
	return validity(doc, s.o.Flows.Types), nil
}

type simulateIn struct {
	FlowPath
	Body struct {
		DocumentChoice
		SessionID    string                     `json:"session_id,omitempty" maxLength:"100" doc:"Decides random draws."`
		Locale       string                     `json:"locale,omitempty" maxLength:"35"`
		InitialState json.RawMessage            `json:"initial_state,omitempty" doc:"Values by scope: user, variables, context, temp."`
		Inputs       []json.RawMessage          `json:"inputs,omitempty" maxItems:"500" doc:"Answers in order: as of interact, or {\"input\", \"input_type\"}."`
		Results      map[string][]simulatedJSON `json:"results,omitempty" doc:"What calls come to, by node, in turn; the last repeats. Others fail: nothing is sent."`
	}
}

type simulatedJSON struct {
	Outcome string          `json:"outcome" doc:"success, error, timeout, …"`
	Data    json.RawMessage `json:"data,omitempty" doc:"The answer's body."`
}

type simulationJSON struct {
	Turns []simulatedTurnJSON `json:"turns" doc:"The start, then one an input, until the flow ends."`
	State stateJSON           `json:"state" doc:"At the end."`
}

type simulatedTurnJSON struct {
	CurrentNode string            `json:"current_node"`
	Status      string            `json:"status"`
	Messages    []json.RawMessage `json:"messages"`
	Input       *inputJSON        `json:"input"`
	Trace       json.RawMessage   `json:"trace" doc:"Calls and events that the flow gave out."`
}

func (s *Server) simulateFlow(ctx context.Context, in *simulateIn) (*reply[simulationJSON], error) {
	doc, err := s.document(ctx, in.FlowPath, in.Body.DocumentChoice)
	if err != nil {
		return nil, err
	}
	sim := control.Simulation{Session: in.Body.SessionID, Locale: in.Body.Locale, Results: map[string][]control.Simulated{}}
	if sim.State, err = readScopes("initial_state", in.Body.InitialState); err != nil {
		return nil, err
	}
	for i, raw := range in.Body.Inputs {
		a, err := readSimulated(raw)
		if err != nil {
			return nil, &control.Invalid{Field: fmt.Sprintf("inputs[%d]", i), Reason: "must be a text, number, boolean, list or option"}
		}
		sim.Inputs = append(sim.Inputs, a)
	}
	for node, list := range in.Body.Results {
		for _, r := range list {
			sim.Results[node] = append(sim.Results[node], control.Simulated{Outcome: r.Outcome, Data: r.Data})
		}
	}
	turns, err := s.o.Flows.Simulate(ctx, s.o.Chats.Graphs, doc, sim)
	if err != nil {
		return nil, err
	}
	out := &reply[simulationJSON]{}
	for _, t := range turns {
		messages, err := newMessages(t.Messages)
		if err != nil {
			return nil, err
		}
		out.Body.Turns = append(out.Body.Turns, simulatedTurnJSON{t.Node, t.Status, messages, newInputJSON(t.Takes), t.Trace})
		out.Body.State = newStateJSON(t.State)
	}
	return out, nil
}

// readSimulated reads an answer, bare or with its type.
func readSimulated(raw json.RawMessage) (control.Answer, error) {
	var typed struct {
		Input     json.RawMessage `json:"input"`
		InputType string          `json:"input_type"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) && json.Unmarshal(raw, &typed) == nil && len(typed.Input) > 0 {
		return readAnswer(typed.Input, typed.InputType)
	}
	return readAnswer(raw, "")
}

type diffJSON struct {
	From    int           `json:"from"`
	To      int           `json:"to"`
	Nodes   nodesJSON     `json:"nodes"`
	Changes []flow.Change `json:"changes"`
}

type nodesJSON struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
}

func (s *Server) diffFlow(ctx context.Context, in *struct {
	FlowPath
	From int `query:"from" minimum:"1" maximum:"2147483647" required:"true" doc:"Number of a version."`
	To   int `query:"to" minimum:"1" maximum:"2147483647" doc:"Number of a version; the newest by default."`
}) (*reply[diffJSON], error) {
	from, err := s.o.Flows.Releases().Version(ctx, in.Flow, in.From)
	if err != nil {
		return nil, err
	}
	to, err := s.o.Flows.Releases().Version(ctx, in.Flow, in.To)
	if err != nil {
		return nil, err
	}
	changes, err := flow.Diff(from.Document, to.Document)
	if err != nil {
		return nil, err
	}
	out := diffJSON{From: from.Number, To: to.Number, Changes: changes, Nodes: nodesJSON{[]string{}, []string{}, []string{}}}
	if out.Changes == nil {
		out.Changes = []flow.Change{}
	}
	out.Nodes.fill(changes)
	return &reply[diffJSON]{out}, nil
}

// fill tells which nodes the changes are of.
func (n *nodesJSON) fill(changes []flow.Change) {
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for _, c := range changes {
		rest, ok := strings.CutPrefix(c.Path, "/nodes/")
		if !ok {
			continue
		}
		id, _, inside := strings.Cut(rest, "/")
		id = unescape.Replace(id)
		switch {
		case !inside && c.Op == "add":
			n.Added = append(n.Added, id)
		case !inside && c.Op == "remove":
			n.Removed = append(n.Removed, id)
		case len(n.Changed) == 0 || n.Changed[len(n.Changed)-1] != id:
			n.Changed = append(n.Changed, id)
		}
	}
}

type exportOut struct {
	ContentType string `header:"Content-Type"`
	ETag        string `header:"ETag"`
	Body        []byte
}

func (s *Server) exportFlow(ctx context.Context, in *struct {
	FlowPath
	Number int `query:"number" minimum:"1" maximum:"2147483647" doc:"The version; the newest by default."`
}) (*exportOut, error) {
	v, err := s.o.Flows.Releases().Version(ctx, in.Flow, in.Number)
	if err != nil {
		return nil, err
	}
	f, err := flow.Parse(v.Document)
	if err != nil {
		return nil, err
	}
	return &exportOut{"application/json", fmt.Sprintf("%q", v.ID), f.Canonical()}, nil
}
