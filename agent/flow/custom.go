package flow

import "time"

// Types are node types of a program's own, by name in lower case. Those of the
// format cannot be replaced.
type Types map[string]NodeType

// A NodeType runs nodes that the format does not know: it looks at the state
// and says what follows. Like [Step] it must be a pure function, so that a
// conversation can be replayed: no I/O, no clock, no randomness. A panic ends
// the conversation, as a fault of the engine would.
type NodeType struct {
	// Check tells what is wrong with a node's content, for [Flow.Check]; the
	// pointers are relative to the content. It may be nil.
	Check func(content map[string]any) []Problem
	Enter func(Visit) Outcome
}

// A Visit is a node that is entered.
type Visit struct {
	Node    string
	Content any       // the node's, references filled in
	State   State     // must not be changed
	At      time.Time // of the event
}

// An Outcome is what a node of a program's own comes to.
type Outcome struct {
	Name     string         // picks the connection; "" is default
	Messages []Message      // shown or spoken first
	Set      map[string]any // values by variable, as of the action set_variable
}

type customBody struct {
	typ  NodeType
	spec valueTemplate
}

// custom returns a type that the program brought along.
func (c *compiler) custom(typ string) kind {
	for _, types := range c.types {
		if own, ok := types[typ]; ok && own.Enter != nil {
			return kind{enter: enterCustom, compile: func(c *compiler, n *node) any {
				b := &customBody{own, parseValue(n.content, c.flow.bare)}
				c.noSecret(b.spec, n.at)
				if own.Check != nil {
					for _, p := range own.Check(n.content) {
						c.problem(p.Severity, n.at+p.Pointer, p.Code, p.Message, p.Fix)
					}
				}
				return b
			}}
		}
	}
	return kind{}
}

func enterCustom(t *turn, n *node) move {
	b := n.body.(*customBody)
	out := b.typ.Enter(Visit{Node: n.id, Content: t.value(b.spec), State: t.s, At: t.ev.Time()})
	t.say(out.Messages)
	for _, name := range sortedKeys(out.Set) {
		if !isName(name, true) || !t.set(parseRef(name, t.f.bare), clean(out.Set[name], MaxStateDepth-8)) {
			t.warn("{" + name + "} may not be written")
			return move{outcome: "error"}
		}
	}
	if out.Name == "" {
		out.Name = "default"
	}
	return move{outcome: out.Name}
}
