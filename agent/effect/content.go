package effect

import (
	"context"
	"encoding/json"
	"slices"

	"parley/agent/flow"
)

// Contents finds published content of the tenant of ctx. What it knows may be
// up to a second old.
type Contents interface {
	// Candidates lists the ids of all that a want without an id may be, sorted.
	Candidates(ctx context.Context, w flow.Want) ([]string, error)
	// Contents returns those of ids that are there, with their variants, in any
	// order.
	Contents(ctx context.Context, ids []string) ([]flow.Content, error)
}

// fetch draws what is to be drawn, and loads all content at once.
func (p *Performer) fetch(ctx context.Context, e flow.Fetch) flow.Result {
	failed := func(why string) flow.Result { return flow.Result{Outcome: "error", Error: why} }
	if p.Contents == nil {
		return failed("this host has no content")
	}
	ids := make([]string, len(e.Wants))
	shown := slices.Clone(e.Shown)
	for i, w := range e.Wants {
		if ids[i] = w.Content; w.Content == "" {
			list, err := p.Contents.Candidates(ctx, w)
			if err != nil {
				p.log().Warn("content is not drawn", "node", e.Node, "error", err)
				return failed("the content is not answering")
			}
			ids[i] = draw(list, shown, w.Draw)
		}
		shown = append(shown, ids[i])
	}
	ask := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(ids))), func(id string) bool { return id == "" })
	found := map[string]*flow.Content{}
	if len(ask) > 0 {
		list, err := p.Contents.Contents(ctx, ask)
		if err != nil {
			p.log().Warn("content is not loaded", "node", e.Node, "error", err)
			return failed("the content is not answering")
		}
		for i := range list {
			found[list[i].ID] = &list[i]
		}
	}
	out := make([]*flow.Content, len(ids))
	for i, id := range ids {
		out[i] = found[id]
	}
	data, err := json.Marshal(out)
	if err != nil {
		return failed("the content cannot be read")
	}
	return flow.Result{Outcome: "success", Data: data}
}

// draw picks one of the ids that were shown least often; of several, not the
// one that was shown last. It returns "" where there are none.
func draw(ids, shown []string, at uint64) string {
	times := map[string]int{}
	for _, id := range shown {
		times[id]++
	}
	var least []string
	for _, id := range ids {
		if len(least) > 0 && times[id] < times[least[0]] {
			least = least[:0]
		}
		if len(least) == 0 || times[id] == times[least[0]] {
			least = append(least, id)
		}
	}
	if n := len(shown); n > 0 && len(least) > 1 {
		least = slices.DeleteFunc(least, func(id string) bool { return id == shown[n-1] })
	}
	if len(least) == 0 {
		return ""
	}
	return least[at%uint64(len(least))]
}
