package flow

func compileWebhook(c *compiler, n *node) any {
	s := c.call(n.content, n.at)
	m, _ := n.content["response_mapping"].(map[string]any)
	for _, variable := range sortedKeys(m) {
		c.mapInto(s, str(m[variable]), variable, n.at+"/response_mapping/"+escapePointer(variable))
	}
	return s
}

func enterWebhook(t *turn, n *node) move {
	s := n.body.(*callSpec)
	if m, ok := t.give(n, s, 0); ok {
		return m
	}
	outcome, _ := t.mapped(s, Result{Outcome: "error", Error: "the call cannot be made"})
	return move{outcome: outcome}
}

func resultWebhook(t *turn, n *node, r Result) move {
	outcome, _ := t.mapped(n.body.(*callSpec), r)
	if outcome == "stale" { // an old answer is as good as a new one where nobody minds
		return move{outcome: outcome, also: []string{"success"}}
	}
	return move{outcome: outcome}
}

// mapped stores what a call brought back. It reports the outcome, and false
// where the call failed without a fallback.
func (t *turn) mapped(s *callSpec, r Result) (string, bool) {
	outcome, data := "success", any(nil)
	if r.Outcome != "success" && s.failure != nil {
		t.set(*s.failure, cleanText(r.Error))
	}
	switch {
	case r.Outcome == "success" || r.Outcome == Cached:
		if v, err := decodeValue(r.Data); err == nil {
			data = clean(v, MaxStateDepth-8)
		}
		if r.Outcome == Cached {
			outcome = "stale"
			t.emit("stale_answer", map[string]any{"node": t.frame().Node, "reason": cleanText(r.Error)})
		}
	case s.fallback == nil || r.Outcome == Stale:
		return "error", false
	default:
		outcome, data = "fallback", s.fallback
	}
	if s.whole != nil {
		t.set(*s.whole, data)
	}
	for _, m := range s.mapping {
		if v, ok := m.find(data); ok && !t.set(*m.into, v) {
			return "error", false
		}
	}
	return outcome, true
}

// find returns what the path points to; the library's panics on odd data are
// a path that finds nothing.
func (m mapping) find(data any) (v any, ok bool) {
	defer func() {
		if recover() != nil {
			v, ok = nil, false
		}
	}()
	found := m.path.Get(data)
	switch {
	case len(found) == 0:
		return nil, false
	case len(found) == 1 && m.path.Normal():
		return clean(found[0], MaxStateDepth-8), true
	}
	return clean(found, MaxStateDepth-8), true
}
