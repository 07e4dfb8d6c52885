package control

import (
	"context"
	"encoding/json"

	"parley/agent/effect"
	"parley/agent/flow"
)

// maxSimulated is how many answers one simulation takes.
const maxSimulated = 500

// A Simulation is a conversation that is tried without being held: nothing is
// stored, and nothing is sent.
type Simulation struct {
	Session string // decides every random draw; default "simulation"
	Locale  string
	State   map[string]any // initial values by scope
	Inputs  []Answer
	// Results are what calls and other effects come to, by node, in turn; the
	// last repeats. An effect of a node without any fails.
	Results map[string][]Simulated

	contents effect.Contents
}

// A Simulated result of an effect.
type Simulated struct {
	Outcome string
	Data    json.RawMessage
}

// A SimulatedTurn is what followed one event: the start, or an answer.
type SimulatedTurn struct {
	Node     string
	Status   string
	Messages []flow.Message
	Takes    *flow.Takes
	Trace    json.RawMessage // as [Entry.Trace]
	State    flow.State
}

// Simulate runs a document from its start over all answers, or until it ends.
// Composites find the published flows of the tenant. Errors: [Invalid].
func (s *Flows) Simulate(ctx context.Context, g *Graphs, document []byte, sim Simulation) ([]SimulatedTurn, error) {
	if len(sim.Inputs) > maxSimulated {
		return nil, Invalidf("inputs", "must be at most %d", maxSimulated)
	}
	if err := s.check(document); err != nil {
		return nil, err
	}
	f, err := flow.Parse(document, s.Types)
	if err == nil {
		f, _, err = g.withSubflows(ctx, f, Live)
	}
	if err != nil {
		return nil, err
	}
	sim.contents = s.Contents
	if sim.Session == "" {
		sim.Session = "simulation"
	}
	state, err := initialState(f, sim.Session, Beginning{Locale: sim.Locale, State: sim.State})
	if err != nil {
		return nil, err
	}
	var turns []SimulatedTurn
	var ev flow.Event = flow.Start{At: at()}
	for i := 0; ; i++ {
		var t SimulatedTurn
		if t, err = simulate(ctx, f, state, ev, sim); err != nil {
			return nil, err
		}
		turns, state = append(turns, t), t.State
		if i >= len(sim.Inputs) || state.Session.Status != flow.Active {
			return turns, nil
		}
		ev = flow.Input{At: at(), Text: sim.Inputs[i].Text, Mode: sim.Inputs[i].Mode}
	}
}

// simulate runs one turn.
func simulate(ctx context.Context, f *flow.Flow, state flow.State, ev flow.Event, sim Simulation) (SimulatedTurn, error) {
	var t SimulatedTurn
	var effects []flow.Effect
	read := &effect.Performer{Contents: sim.contents}
	host := &effect.TextHost{Flow: f,
		Perform: func(ctx context.Context, e flow.Effect) flow.Result {
			if _, ok := e.(flow.Fetch); ok {
				return read.Perform(ctx, e)
			}
			return simulated(e, sim.Results)
		},
		Commit: func(_ context.Context, st effect.Step) error {
			t.Messages = append(t.Messages, st.Messages()...)
			effects = append(effects, st.Effects...)
			return nil
		},
	}
	var err error
	if t.State, err = host.Turn(ctx, state, ev); err != nil {
		return t, Invalidf("inputs", "%s", err)
	}
	t.Trace, err = traceOf(effects)
	t.Node, t.Status, t.Takes = t.State.Session.CurrentNode, t.State.Session.Status, takes(t.State)
	return t, err
}

// simulated is the next result of the effect's node.
func simulated(e flow.Effect, results map[string][]Simulated) flow.Result {
	node, id := "", ""
	switch e := e.(type) {
	case flow.Call:
		node, id = e.Node, e.ID
	case flow.Model:
		node, id = e.Node, e.ID
	case flow.Record:
		node, id = e.Node, e.ID
	case flow.Wait:
		return flow.Result{At: at(), ID: e.ID, Outcome: "timeout"}
	default:
		return flow.Result{}
	}
	r := flow.Result{At: at(), ID: id, Outcome: "error", Error: "nothing is sent in a simulation"}
	if list := results[node]; len(list) > 0 {
		r.Outcome, r.Data, r.Error = list[0].Outcome, list[0].Data, ""
		if len(list) > 1 {
			results[node] = list[1:]
		}
	}
	return r
}
