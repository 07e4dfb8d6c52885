package flow

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	celref "cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// maxHeardAll bounds what a conversation remembers of what the caller heard.
const maxHeardAll = 16 << 10

// heardName is what CEL's heard("…") reads.
const heardName = "@heard"

// Heard returns s, now that the caller has heard text of the last speech. A
// host with audio calls it before the event that follows.
func (f *Flow) Heard(s State, text string) State {
	s.System.Heard = cleanText(text)
	if f.hears {
		s.System.HeardAll = remember(s.System.HeardAll, s.System.Heard)
	}
	return s
}

// remember adds what was heard; more of the same speech takes its place. It
// never changes the list that it is given.
func remember(list []string, heard string) []string {
	if heard == "" {
		return list
	}
	list = slices.Clone(list)
	if n := len(list); n > 0 && strings.HasPrefix(heard, list[n-1]) {
		list = list[:n-1]
	}
	list = append(list, heard)
	size := 0
	for i := len(list) - 1; i >= 0; i-- {
		if size += len(list[i]); size > maxHeardAll {
			return list[i+1:]
		}
	}
	return list
}

// shown notes what a host without audio shows: it counts as heard.
func (t *turn) shown(messages []Message) {
	if t.f.hears && !t.s.System.Voice {
		t.s.System.HeardAll = remember(t.s.System.HeardAll, Text(messages))
	}
}

// saysIn tells whether phrase stands in what was heard, word by word.
func saysIn(heard, phrase string) bool {
	phrase = plainWords(phrase)
	return phrase != "" && strings.Contains(" "+plainWords(heard)+" ", " "+phrase+" ")
}

// celHeard is heard("…"): whether the caller has heard these words, at any
// time in the conversation.
func celHeard() []cel.EnvOption {
	macro := cel.GlobalMacro("heard", 1, func(f cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
		return f.NewCall("heard_in", f.NewIdent(heardName), args[0]), nil
	})
	call := func(list, phrase celref.Val) celref.Val {
		l, ok := list.(traits.Lister)
		s, text := phrase.(types.String)
		if !ok || !text {
			return types.NewErr("heard takes a text")
		}
		for it := l.Iterator(); it.HasNext() == types.True; {
			if h, ok := it.Next().(types.String); ok && saysIn(string(h), string(s)) {
				return types.True
			}
		}
		return types.False
	}
	return []cel.EnvOption{cel.Macros(macro), cel.Function("heard_in",
		cel.Overload("heard_in_2", []*cel.Type{cel.DynType, cel.DynType}, cel.BoolType, cel.BinaryBinding(call)))}
}

// mustHear reads must_hear: of all messages of a node, or of one.
func (b *messageBody) mustHear(n *node) {
	all := boolean(n.content["must_hear"])
	for i := range b.messages {
		b.messages[i].must = b.messages[i].must || all
		b.must = b.must || b.messages[i].must
	}
}

// unheard says again, from its beginning and this time not to be interrupted,
// what the caller must hear and has not. It reports whether there is such.
func (t *turn) unheard(n *node, whole bool) bool {
	b, ok := n.body.(*messageBody)
	if !ok || !b.must || whole {
		return false
	}
	var again []Message
	for _, m := range b.messages {
		if !m.must {
			continue
		}
		for _, msg := range t.show([]messageTemplate{m}) {
			if s := Text([]Message{msg}); s != "" && !saysIn(t.s.System.Heard, s) {
				again = append(again, msg)
			}
		}
	}
	if len(again) == 0 {
		return false
	}
	t.emit("said_again", map[string]any{"node": n.id})
	e := Say{ID: t.id(), Node: n.id, Messages: again, Voice: t.voice(n)}
	e.Voice.BargeIn = BargeIn{Off: true}
	t.out = append(t.out, e)
	t.audible(e.ID, "say", e)
	t.waitFor(ForPlayed, e.ID)
	return true
}
