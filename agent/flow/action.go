package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// actionBody is a compiled action node.
type actionBody struct {
	actions []action
	goOn    bool // on_error: continue
}

// An action changes the state at once, or gives out an effect.
type action struct {
	do   func(t *turn) error
	call *callSpec
	typ  string
}

// laterActions are those of the format that this engine does not run yet.
var laterActions = regexp.MustCompile(`^(send_sms|send_whatsapp|send_email|crm\..+|calendar\..+|tag|log|start_recording|stop_recording|hold_music)$`)

var errReadOnly = errors.New("the variable may not be written")

func compileAction(c *compiler, n *node) any {
	b := &actionBody{goOn: fold(str(n.content["on_error"])) == "continue"}
	list, ok := n.content["actions"].([]any)
	if !ok {
		c.problem("error", n.at+"/actions", "missing-field", "the action node has no list of actions", "add \"actions\"")
	}
	for i, e := range list {
		ptr := n.at + "/actions/" + strconv.Itoa(i)
		m, ok := e.(map[string]any)
		if !ok {
			c.fault(ptr, "type", "an action is an object", "write {\"type\": \"set_variable\", ...}")
			continue
		}
		a := c.action(m, ptr)
		if a.call != nil {
			a.call.async = a.call.async || boolean(n.content["async"])
		}
		b.actions = append(b.actions, a)
	}
	return b
}

// action compiles one action. An unknown one fails when it is reached.
func (c *compiler) action(m map[string]any, ptr string) action {
	a := action{typ: fold(str(m["type"]))}
	into := func(names ...string) *ref {
		for _, k := range names {
			if str(m[k]) != "" {
				return c.target(m[k], ptr+"/"+k)
			}
		}
		c.problem("error", ptr, "missing-field", "the action names no "+names[0], "add \""+names[0]+"\"")
		return nil
	}
	value := parseValue(m["value"], c.flow.bare)
	c.noSecret(value, ptr+"/value")
	switch a.typ {
	case "set_variable":
		a.do = change(into("variable", "target"), func(t *turn, _ any, _ bool) (any, error) { return t.value(value), nil })
	case "increment", "decrement":
		amount := value
		if v, ok := m["amount"]; ok {
			amount = parseValue(v, c.flow.bare)
		} else if m["value"] == nil {
			amount = valueTemplate{literal: json.Number("1")}
		}
		minus := a.typ == "decrement"
		a.do = change(into("variable"), func(t *turn, old any, found bool) (any, error) { return count1(old, found, t.value(amount), minus) })
	case "append":
		a.do = change(into("variable"), func(t *turn, old any, found bool) (any, error) {
			list, ok := old.([]any)
			if !ok && found && old != nil {
				return nil, errNoList
			}
			return append(slices.Clip(list), t.value(value)), nil
		})
	case "remove":
		a.do = change(into("variable"), func(t *turn, old any, found bool) (any, error) { return removeFrom(old, found, t.value(value)) })
	case "delete_variable":
		r := into("variable")
		a.do = func(t *turn) error {
			if r == nil || !t.unset(*r) {
				return errReadOnly
			}
			return nil
		}
	case "aggregate":
		a.do = c.aggregate(m, ptr, into("target", "variable"))
	case "api_call":
		a.call = c.apiCall(m, ptr)
	case "goal":
		name := first(m, "goal", "name")
		if name == "" {
			c.problem("error", ptr, "missing-field", "the action names no goal", "add \"goal\"")
		}
		c.goalNames[name] = true
		a.do = func(t *turn) error {
			t.goal(name, t.value(value))
			return nil
		}
	default:
		code, message := "unknown-type", fmt.Sprintf("there is no action %q", a.typ)
		if laterActions.MatchString(a.typ) {
			code, message = "later-type", fmt.Sprintf("action %q is not supported yet", a.typ)
		}
		c.problem("error", ptr+"/type", code, message,
			"use set_variable, increment, decrement, delete_variable, append, remove, aggregate, goal or api_call")
	}
	return a
}

// noSecret refuses a secret where it would come into the state.
func (c *compiler) noSecret(v valueTemplate, ptr string) {
	v.walk(func(t template) {
		if t.secrets() {
			c.problem("error", ptr, "secret-in-state", "a secret may not be stored in a variable", "use it in a header, the body or the query of a call")
		}
	})
}

// change makes an action of a function from the old value to the new.
func change(r *ref, next func(t *turn, old any, found bool) (any, error)) func(*turn) error {
	return func(t *turn) error {
		if r == nil {
			return errReadOnly
		}
		old, found := t.resolve(r)
		v, err := next(t, old, found)
		if err != nil {
			return fmt.Errorf("%s: %w", r.source, err)
		}
		if t.missed() {
			return fmt.Errorf("%s: %w", r.source, errMissing)
		}
		if !t.set(*r, v) {
			return fmt.Errorf("%s: %w", r.source, errReadOnly)
		}
		return nil
	}
}

// count1 adds to a number; a missing one counts as 0.
func count1(old any, found bool, by any, minus bool) (any, error) {
	if !found || old == nil {
		old = json.Number("0")
	}
	x, ok := numeric(old, true)
	y, ok2 := numeric(by, true)
	if !ok || !ok2 {
		return nil, errNoNumber
	}
	n, ok := addNumbers(x, y, minus)
	if !ok {
		return nil, errNoNumber
	}
	return n, nil
}

// removeFrom takes every element equal to v out of a list.
func removeFrom(old any, found bool, v any) (any, error) {
	if !found || old == nil {
		return []any{}, nil
	}
	list, ok := old.([]any)
	if !ok {
		return nil, errNoList
	}
	out := []any{}
	for _, e := range list {
		if !equal(e, v, false) {
			out = append(out, e)
		}
	}
	return out, nil
}

// aggregate compiles {expression, target} or {source, field, operation, target}.
func (c *compiler) aggregate(m map[string]any, ptr string, into *ref) func(*turn) error {
	if s := str(m["expression"]); s != "" {
		e, err := compileCEL(s, c.flow.bare)
		if err != nil {
			c.problem("error", ptr+"/expression", "bad-expression", err.Error(), "correct the CEL expression")
			return nil
		}
		return change(into, func(t *turn, _ any, _ bool) (any, error) { return t.eval(e, nil) })
	}
	op := fold(str(m["operation"]))
	i := slices.IndexFunc(aggregates, func(a aggregate) bool { return a.name == op })
	if i < 0 {
		c.problem("error", ptr+"/operation", "unknown-value", fmt.Sprintf("there is no operation %q", op), "use sum, avg, min, max, count or merge")
		return nil
	}
	source := parseValue(m["source"], c.flow.bare)
	if s := strings.TrimSpace(str(m["source"])); isName(s, true) {
		r := parseRef(s, c.flow.bare)
		source = valueTemplate{text: template{{ref: &r}}}
	}
	field := str(m["field"])
	return change(into, func(t *turn, _ any, _ bool) (any, error) {
		v := t.value(source)
		if field != "" {
			var err error
			if v, err = collect(v, field); err != nil {
				return nil, err
			}
		}
		return aggregates[i].call([]any{v})
	})
}

func enterAction(t *turn, n *node) move {
	t.frame().Index = 0
	t.frame().Failed = false
	return t.runActions(n, n.body.(*actionBody))
}

// runActions goes on with the frame's next action until one waits. The first
// failure stops the node; what went before stays.
func (t *turn) runActions(n *node, b *actionBody) move {
	for fr := t.frame(); fr.Index < len(b.actions); fr.Index++ {
		a := b.actions[fr.Index]
		if a.call != nil {
			if m, ok := t.give(n, a.call, max(fr.Index, t.effects)); ok {
				return m
			}
			if !t.failedAction(b, a, errors.New("the call cannot be made")) {
				return move{outcome: "error"}
			}
			continue
		}
		err := errors.New("no such action")
		if a.do != nil {
			err = a.do(t)
		}
		if err != nil && !t.failedAction(b, a, err) {
			return move{outcome: "error"}
		}
	}
	if t.frame().Failed {
		return move{outcome: "error"}
	}
	return move{outcome: "success"}
}

// failedAction notes a failure and tells whether the node goes on.
func (t *turn) failedAction(b *actionBody, a action, err error) bool {
	t.warn("action " + a.typ + ": " + err.Error())
	t.frame().Failed = true
	return b.goOn
}

func resultAction(t *turn, n *node, r Result) move {
	return t.resultActions(n, n.body.(*actionBody), r)
}

// resultActions goes on after the effect of an action.
func (t *turn) resultActions(n *node, b *actionBody, r Result) move {
	fr := t.frame()
	if fr.Index >= len(b.actions) || b.actions[fr.Index].call == nil {
		return move{outcome: "error"}
	}
	a := b.actions[fr.Index]
	if _, ok := t.mapped(a.call, r); !ok && !t.failedAction(b, a, errors.New("the call failed")) {
		return move{outcome: "error"}
	}
	fr.Index++
	return t.runActions(n, b)
}
