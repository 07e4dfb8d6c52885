package flow

import (
	"cmp"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strconv"
)

// An aggregate folds a list (or maps) into one value. It is a function of CEL
// and an operation of the action "aggregate".
type aggregate struct {
	name     string
	min, max int // number of arguments
	call     func(args []any) (any, error)
}

var aggregates = []aggregate{
	{"sum", 1, 1, func(a []any) (any, error) { return sum(a[0]) }},
	{"avg", 1, 1, func(a []any) (any, error) { return average(a[0]) }},
	{"max", 1, 2, func(a []any) (any, error) { return extreme(a, 1) }},
	{"min", 1, 2, func(a []any) (any, error) { return extreme(a, -1) }},
	{"count", 1, 1, func(a []any) (any, error) { return count(a[0]) }},
	{"merge", 1, 2, func(a []any) (any, error) { return mergeBy(a, addUp) }},
	{"merge_sum", 1, 2, func(a []any) (any, error) { return mergeBy(a, addUp) }},
	{"merge_max", 1, 2, func(a []any) (any, error) { return mergeBy(a, higher) }},
	{"merge_last", 1, 2, func(a []any) (any, error) { return mergeBy(a, func(_, b any) any { return b }) }},
	{"flatten", 1, 1, func(a []any) (any, error) { return flatten(a[0]) }},
	{"collect", 2, 2, func(a []any) (any, error) { return collect(a[0], a[1]) }},
	{"top_keys", 2, 2, func(a []any) (any, error) { return topKeys(a[0], a[1]) }},
}

var (
	errNoList   = errors.New("not a list")
	errNoMap    = errors.New("not an object")
	errNoNumber = errors.New("not a number")
)

// items returns a list's elements, or an object's values in the order of keys.
func items(v any) ([]any, error) {
	switch v := v.(type) {
	case []any:
		return v, nil
	case map[string]any:
		out := make([]any, 0, len(v))
		for _, k := range sortedKeys(v) {
			out = append(out, v[k])
		}
		return out, nil
	case nil:
		return nil, nil
	}
	return nil, errNoList
}

func rat(v any) (*big.Rat, bool) {
	n, ok := numeric(v, true)
	if !ok {
		return nil, false
	}
	return new(big.Rat).SetString(string(n))
}

func total(v any) (*big.Rat, int, error) {
	list, err := items(v)
	if err != nil {
		return nil, 0, err
	}
	out, n := new(big.Rat), 0
	for _, e := range list {
		if e == nil {
			continue
		}
		x, ok := rat(e)
		if !ok {
			return nil, 0, errNoNumber
		}
		out.Add(out, x)
		n++
	}
	return out, n, nil
}

func asNumber(r *big.Rat) (any, error) {
	n, ok := ratNumber(r)
	if !ok {
		return nil, errNoNumber
	}
	return n, nil
}

func sum(v any) (any, error) {
	r, _, err := total(v)
	if err != nil {
		return nil, err
	}
	return asNumber(r)
}

// average of nothing is null.
func average(v any) (any, error) {
	r, n, err := total(v)
	if err != nil || n == 0 {
		return nil, err
	}
	return asNumber(r.Quo(r, big.NewRat(int64(n), 1)))
}

// extreme of nothing is null. Texts are compared as texts.
func extreme(args []any, sign int) (any, error) {
	list := args
	if len(args) == 1 {
		var err error
		if list, err = items(args[0]); err != nil {
			return nil, err
		}
	}
	var best any
	for _, e := range list {
		if e == nil {
			continue
		}
		if best == nil {
			best = e
			continue
		}
		n, ok := order(e, best)
		if !ok {
			return nil, errNoNumber
		}
		if n*sign > 0 {
			best = e
		}
	}
	return best, nil
}

func count(v any) (any, error) {
	if s, ok := v.(string); ok {
		return json.Number(strconv.Itoa(len([]rune(s)))), nil
	}
	list, err := items(v)
	if err != nil {
		return nil, err
	}
	return json.Number(strconv.Itoa(len(list))), nil
}

// mergeBy joins the objects of a list, or two objects. Values of equal keys
// are joined by join, objects among them key by key.
func mergeBy(args []any, join func(a, b any) any) (any, error) {
	list := args
	if l, ok := args[0].([]any); ok && len(args) == 1 {
		list = l
	}
	out := map[string]any{}
	for _, e := range list {
		m, ok := e.(map[string]any)
		if e == nil {
			continue
		}
		if !ok {
			return nil, errNoMap
		}
		joinInto(out, m, join)
	}
	return out, nil
}

func joinInto(out, m map[string]any, join func(a, b any) any) {
	for k, v := range m {
		old, twice := out[k]
		am, aok := old.(map[string]any)
		bm, bok := v.(map[string]any)
		switch {
		case !twice:
			out[k] = v
		case aok && bok:
			sub := make(map[string]any, len(am)+len(bm))
			joinInto(sub, am, join)
			joinInto(sub, bm, join)
			out[k] = sub
		default:
			out[k] = join(old, v)
		}
	}
}

// addUp adds numbers; of other values the last stays.
func addUp(a, b any) any {
	x, okx := numeric(a, false)
	y, oky := numeric(b, false)
	if okx && oky {
		if n, ok := addNumbers(x, y, false); ok {
			return n
		}
	}
	return b
}

func higher(a, b any) any {
	if n, ok := order(a, b); ok && n > 0 {
		return a
	}
	return b
}

func flatten(v any) (any, error) {
	list, err := items(v)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, e := range list {
		if l, ok := e.([]any); ok {
			out = append(out, l...)
		} else {
			out = append(out, e)
		}
	}
	return out, nil
}

// collect takes a field of every object in a list; those without are left out.
func collect(v, field any) (any, error) {
	list, err := items(v)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, e := range list {
		if got, ok := lookup(e, pathOf(text(field))); ok {
			out = append(out, got)
		}
	}
	return out, nil
}

// topKeys returns the n keys of the highest values, ties by key.
func topKeys(v, n any) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errNoMap
	}
	limit, ok := integer(n)
	if !ok || limit < 0 {
		return nil, errNoNumber
	}
	keys := sortedKeys(m)
	slices.SortStableFunc(keys, func(a, b string) int {
		x, okx := numeric(m[a], true)
		y, oky := numeric(m[b], true)
		if !okx || !oky {
			return cmp.Compare(btoi(oky), btoi(okx))
		}
		return compareNumbers(y, x)
	})
	out := []any{}
	for _, k := range keys[:min(limit, len(keys))] {
		out = append(out, k)
	}
	return out, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
