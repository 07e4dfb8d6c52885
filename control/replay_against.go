package control

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
)

// maxReplayed bounds the effects that may follow one input.
const maxReplayed = 200

// A rerun gives the inputs of a stored conversation to another flow. What its
// effects come to is taken from the history, by node and kind.
type rerun struct {
	f     *flow.Flow
	h     *recorded
	state flow.State
	used  map[string]bool // results by the id of their effect
	said  []flow.Message
	notes []string
}

// against compares each turn with what the flow makes of its input.
func (h *recorded) against(f *flow.Flow) (Replay, error) {
	state, err := flow.DecodeState(h.steps[0].entry.Base, "")
	if err != nil {
		return impossible("the state that it began with cannot be read"), nil
	}
	r := &rerun{f: f, h: h, state: state, used: map[string]bool{}}
	out := Replay{Verdict: ReplayEqual}
	for i := 0; i < len(h.steps); {
		end := i + 1
		for end < len(h.steps) && h.steps[end].follows() {
			end++
		}
		t, err := r.turn(h.steps[i:end])
		if err != nil {
			return Replay{}, err
		}
		if out.Turns = append(out.Turns, t); !t.Equal && out.Verdict == ReplayEqual {
			out.Verdict, out.Reason = ReplayDifferent, fmt.Sprintf("different from turn %d on", len(out.Turns))
		}
		i = end
	}
	return out, nil
}

// turn gives one input, with what the caller heard after it, to the flow.
func (r *rerun) turn(steps []recordedStep) (ReplayedTurn, error) {
	first, last := steps[0], steps[len(steps)-1]
	t := first.turn()
	t.Stored = &TurnResult{Node: last.entry.Node, Status: last.entry.Status}
	for _, s := range steps {
		t.Stored.Messages = append(t.Stored.Messages, s.messages...)
	}
	if r.state.Session.Status != flow.Active && first.kind != "start" {
		t.Equal, t.Notes = false, []string{"the conversation is over: this is not asked any more"}
		return t, nil
	}
	r.said, r.notes = nil, nil
	if in, ok := first.event.(flow.Input); ok && in.Text == "" && in.Mode != "dtmf" {
		r.note("the answer is not stored: an empty one is given")
	}
	// A caller who answered while the agent spoke does so here as well; one who
	// had heard it all has heard it all.
	if _, ok := first.event.(flow.Input); ok && (first.before == nil || first.before.System.Waiting.For != flow.ForPlayed) {
		r.play(flow.Played{At: timeOf(first.event)})
	}
	r.give(first.event)
	for _, s := range steps[1:] {
		if p, ok := s.event.(flow.Played); ok {
			r.play(p)
		}
	}
	t.Replayed = &TurnResult{r.said, r.state.Session.CurrentNode, r.state.Session.Status}
	t.Notes = r.notes
	if last.after != nil {
		var err error
		if t.State, err = scopesDiff(*last.after, r.state); err != nil {
			return t, err
		}
	} else {
		t.Notes = append(t.Notes, "the stored state is not known here")
	}
	t.Equal = len(t.State) == 0 && t.Stored.Node == t.Replayed.Node && t.Stored.Status == t.Replayed.Status &&
		sameMessages(t.Stored.Messages, t.Replayed.Messages)
	return t, nil
}

func (r *rerun) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// play says that the caller has heard what the flow waits for, if it does.
func (r *rerun) play(p flow.Played) {
	if r.state.System.Waiting.For != flow.ForPlayed {
		return
	}
	p.ID = r.state.System.Playing
	r.give(p)
}

// give takes an event, and the results of what it sets off.
func (r *rerun) give(ev flow.Event) {
	when := timeOf(ev)
	for range maxReplayed {
		next, effects := flow.Step(r.f, r.state, ev)
		r.state = next
		r.said = append(r.said, effect.Step{Effects: effects}.Messages()...)
		e := effect.Unfinished(next)
		if e == nil {
			return
		}
		ev = r.result(e, next.System.Waiting.ID, when)
	}
	r.note("the flow does not come to rest")
}

// result finds what an effect came to: that of the same node and kind, else of
// the same kind and address, in the order of the history.
func (r *rerun) result(e flow.Effect, id string, when flow.At) flow.Result {
	want := traceOne(e)
	best, found := flow.Result{}, 0
	for _, s := range r.h.steps {
		res, ok := s.event.(flow.Result)
		was := r.h.sent[res.ID]
		if !ok || r.used[res.ID] || was.Effect != want.Effect {
			continue
		}
		fit := 0
		switch {
		case was.Node == want.Node && was.What == want.What:
			fit = 3
		case was.What == want.What && want.Effect == "call":
			fit = 2
		case was.Node == want.Node:
			fit = 1
		}
		if fit > found {
			best, found = res, fit
		}
	}
	if found > 0 {
		r.used[best.ID] = true
		if found == 1 {
			r.note("%s: what it came to is stored of another request (%s)", describe(want), r.h.sent[best.ID].What)
		}
		best.ID, best.At = id, when
		return best
	}
	out := flow.Result{At: when, ID: id, Outcome: "error", Error: "not in the history"}
	if _, ok := e.(flow.Wait); ok {
		out.Outcome, out.Error = "timeout", ""
		return out
	}
	r.note("%s: the history does not say what it came to; taken as an error", describe(want))
	return out
}

func describe(t traced) string {
	s := t.Effect + " at " + t.Node
	if t.What != "" {
		s += " (" + t.What + ")"
	}
	return s
}

// traceOne describes an effect as the history does.
func traceOne(e flow.Effect) traced {
	var list []traced
	b, err := traceOf([]flow.Effect{e})
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil || len(list) == 0 {
		return traced{Effect: fmt.Sprintf("%T", e)}
	}
	return list[0]
}

// An OtherVersion is what a conversation is replayed against: a document, else
// the newest version that is in a range of the documents' own, else a version by
// its number, 0 for the newest.
type OtherVersion struct {
	Number   int
	Version  string
	Document []byte
}

// Against compiles another version of a conversation's flow, with the flows
// that it calls as they are published now.
func (s *Chats) Against(ctx context.Context, c Conversation, o OtherVersion) (*flow.Flow, error) {
	if len(o.Document) > 0 {
		f, err := flow.Parse(o.Document, s.Graphs.Types)
		if err != nil {
			return nil, Invalidf("document", "%s", err)
		}
		f, _, err = s.Graphs.withSubflows(ctx, f, Live)
		return f, err
	}
	v, err := s.Flows.Releases().Version(ctx, c.Flow, o.Number)
	if o.Version != "" {
		v, err = s.labelled(ctx, c.Flow, o.Version)
	}
	if err != nil {
		return nil, err
	}
	f, _, err := s.Graphs.Pin(ctx, v.ID, Live)
	return f, err
}

// labelled finds the newest version, published or not, in a range.
func (s *Chats) labelled(ctx context.Context, id uuid.UUID, versions string) (best Version, err error) {
	in, err := flow.ParseRange(versions)
	if err != nil {
		return best, Invalidf("version", "must be a version or a range, such as 1.4.0 or ^1.4")
	}
	for page := (Page{Limit: 200}); ; {
		list, err := s.Flows.Store.Versions(ctx, SubjectFlow, id, page)
		if err != nil {
			return best, err
		}
		for _, v := range list { // the newest first
			if in.Has(v.Label) && (best.ID == uuid.Nil || flow.Newer(v.Label, best.Label)) {
				best = v
			}
			page.After = v.ID
		}
		switch {
		case len(list) == page.Limit:
		case best.ID == uuid.Nil:
			return best, ErrNotFound
		default:
			return best, nil
		}
	}
}
