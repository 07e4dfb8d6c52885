package flow

import (
	"encoding/json"
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	celref "cel.dev/cel-go/common/types/ref"
)

const (
	celCost   = 10_000 // steps; docs/flow.md, Condition
	maxCEL    = 4096   // characters of an expression
	celNested = 50     // levels of parentheses and operators
)

// An expression is a compiled CEL program. Its names are the scopes; another
// name is a variable of the bare scope.
type expression struct {
	source  string
	bare    string
	program cel.Program
}

var celEnv = sync.OnceValues(func() (*cel.Env, error) {
	opts := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.ParserRecursionLimit(celNested),
		cel.ParserExpressionSizeLimit(maxCEL),
	}
	return cel.NewEnv(append(opts, append(celFunctions(), celHeard()...)...)...)
})

func compileCEL(source, bare string) (*expression, error) {
	if len(source) > maxCEL {
		return nil, fmt.Errorf("the expression is longer than %d characters", maxCEL)
	}
	env, err := celEnv()
	if err != nil {
		return nil, fmt.Errorf("cel: %w", err)
	}
	ast, iss := env.Parse(source)
	if err := iss.Err(); err != nil {
		return nil, err
	}
	p, err := env.Program(ast, cel.CostLimit(celCost), cel.EvalOptions(cel.OptTrackCost))
	if err != nil {
		return nil, err
	}
	return &expression{source, bare, p}, nil
}

// celScope lets a program read a turn's state.
type celScope struct {
	t     *turn
	bare  string
	extra map[string]any
}

func (s celScope) ResolveName(name string) (any, bool) {
	if v, ok := s.extra[name]; ok {
		return celValue(v), true
	}
	if name == heardName {
		list := make([]any, len(s.t.s.System.HeardAll))
		for i, h := range s.t.s.System.HeardAll {
			list[i] = h
		}
		return list, true
	}
	if name == "session" {
		return celValue(s.t.s.Session.object()), true
	}
	if scopes[name] {
		m := s.t.scope(name)
		return celValue(m), m != nil
	}
	v, ok := s.t.scope(s.bare)[name]
	return celValue(v), ok
}

func (s celScope) Parent() cel.Activation { return nil }

// eval runs an expression. Any error, cost included, is the caller's to judge.
func (t *turn) eval(e *expression, extra map[string]any) (any, error) {
	out, _, err := e.program.Eval(celScope{t, e.bare, extra})
	if err != nil {
		return nil, err
	}
	return fromCEL(out, MaxStateDepth)
}

// celBool is an expression as a condition: an error is false.
func (t *turn) celBool(e *expression) bool {
	v, err := t.eval(e, nil)
	if err != nil {
		t.warn("expression " + e.source + " has no value")
		return false
	}
	b, ok := v.(bool)
	return ok && b
}

// celValue hands a value to CEL: whole numbers as int, others as double.
func celValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return string(v)
		}
		return f
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = celValue(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = celValue(e)
		}
		return out
	}
	return v
}

// fromCEL takes a result back.
func fromCEL(v celref.Val, depth int) (any, error) {
	if depth < 0 {
		return nil, fmt.Errorf("the value is nested too deep")
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.String:
		return cleanText(string(v)), nil
	}
	native, err := celNative(v, depth)
	if err != nil {
		return nil, err
	}
	return clean(native, depth), nil
}
