package api

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
)

// What the records of a call say beside its row.

// CallJSON is callJSON under a name with which others can hold it: the framework
// sees no fields of one that is not exported.
type CallJSON = callJSON

type callFullJSON struct {
	CallJSON
	Cost             []moneyJSON    `json:"cost" doc:"So far, a currency each; see /v1/calls/{id}/usage."`
	Latency          []figureJSON   `json:"latency" doc:"Of the agent's answers."`
	AfterCall        *afterworkJSON `json:"after_call,omitempty" doc:"What was made of the call after its end, where its agent asks for any."`
	RecordingFailure string         `json:"recording_failure,omitempty" doc:"Why there is no recording, or not all of it."`
}

type figureJSON struct {
	Step  string  `json:"step" enum:"end_of_turn,final_transcript,first_token,first_clause,first_speech,first_audio"`
	Turns int     `json:"turns"`
	P50MS float64 `json:"p50_ms"`
	P95MS float64 `json:"p95_ms"`
}

type afterworkJSON struct {
	Status    string          `json:"status" enum:"pending,done,failed"`
	Failure   string          `json:"failure,omitempty" doc:"Why it failed for good or, while it is pending, why it is not done yet."`
	Summary   string          `json:"summary,omitempty"`
	Outcome   string          `json:"outcome,omitempty"`
	Extracted json.RawMessage `json:"extracted,omitempty" doc:"As the schema of the agent's settings has it."`
	Partial   bool            `json:"partial,omitempty" doc:"The call was too long to be read whole: its middle was left out."`
	Attempts  int             `json:"attempts" doc:"Begun so far."`
	At        time.Time       `json:"at" doc:"When it was done or given up; while it is pending, when the call ended."`
}

// fullCall is a call with its cost, its figures and what came after it.
func (s *Server) fullCall(ctx context.Context, c control.Call, row callJSON) (callFullJSON, error) {
	out := callFullJSON{CallJSON: row, Cost: []moneyJSON{}, Latency: []figureJSON{}}
	if s.o.Ledger == nil {
		return out, nil
	}
	costs, err := s.o.Ledger.CallCosts(ctx, []uuid.UUID{c.ID})
	if err != nil {
		return out, err
	}
	out.Cost = newMoneyJSON(costs[c.ID])
	f, err := s.o.Ledger.CallMeasures(ctx, c.ID)
	if err != nil {
		return out, err
	}
	out.RecordingFailure = f.RecordingFailure
	for _, l := range f.Latency {
		out.Latency = append(out.Latency, figureJSON{l.Step, l.Turns, l.P50, l.P95})
	}
	w, err := s.o.Ledger.Afterwork(ctx, c.ID)
	switch {
	case errors.Is(err, control.ErrNotFound):
	case errors.Is(err, control.ErrErased):
		out.AfterCall = &afterworkJSON{Status: w.Status, Failure: "its key was destroyed", At: w.At}
	case err != nil:
		return out, err
	default:
		out.AfterCall = &afterworkJSON{w.Status, w.Failure, w.Summary, w.Outcome, w.Extracted, w.Partial, w.Attempts, w.At}
	}
	return out, nil
}

// orderAfterwork asks again for what has failed.
func (s *Server) orderAfterwork(ctx context.Context, in *CallPath) (*callOut, error) {
	if err := s.o.Ledger.OrderAfterwork(ctx, in.ID); err != nil {
		return nil, err
	}
	return s.getCall(ctx, in)
}

type segmentJSON struct {
	Name string  `json:"name" enum:"final_transcript,end_of_turn,first_token,first_clause,first_speech,first_audio" doc:"What ends it."`
	MS   float64 `json:"ms"`
}

func newWaterfallJSON(l agent.Latency) []segmentJSON {
	var out []segmentJSON
	for _, s := range l.Waterfall() {
		out = append(out, segmentJSON{s.Name, float64(s.Took) / float64(time.Millisecond)})
	}
	return out
}

// cutOff is what of an agent's turn was made and not heard.
func cutOff(t agent.Turn) string {
	if t.Speaker != "agent" {
		return ""
	}
	if rest, ok := strings.CutPrefix(t.Generated, t.Heard); ok {
		return strings.TrimSpace(rest)
	}
	return ""
}

type foundJSON struct {
	CallJSON
	Snippets []snippetJSON `json:"snippets"`
}

type snippetJSON struct {
	Turn    int      `json:"turn"`
	Speaker string   `json:"speaker" enum:"caller,agent"`
	Text    string   `json:"text"`
	Marks   [][2]int `json:"marks" doc:"What of the text matches: from which byte to before which."`
	Cut     bool     `json:"cut" doc:"What was said goes on before or behind it."`
}

func (s *Server) searchCalls(ctx context.Context, in *struct {
	PageQuery
	Q string `query:"q" required:"true" maxLength:"500" doc:"Words that one turn must hold, in any order; \"in quotes\" side by side; a minus before what it must not hold. Anything else is text."`
}) (*listOut[foundJSON], error) {
	q, err := control.ParseWordQuery(in.Q)
	if err != nil {
		return nil, err
	}
	rows, err := s.o.Ledger.SearchCalls(ctx, q, in.page())
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, func(f control.Found) foundJSON {
		out := foundJSON{newCallJSON(f.Call), []snippetJSON{}}
		for _, n := range f.Snippets {
			out.Snippets = append(out.Snippets, snippetJSON{n.Index, n.Speaker, n.Text, n.Marks, n.Cut})
		}
		return out
	}, func(f control.Found) uuid.UUID { return f.Call.ID }), nil
}

func (s *Server) callSearch() error {
	if s.o.Ledger == nil {
		return nil
	}
	return operation(s, reads("/v1/calls/search", control.CallsRead), "search-calls", "Find calls by what was said", 200, s.searchCalls)
}
