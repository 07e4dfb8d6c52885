package flow

import (
	"fmt"
	"slices"
)

// A Change is one difference between two documents.
type Change struct {
	Op   string `json:"op" enum:"add,remove,replace"`
	Path string `json:"path"` // JSON pointer (RFC 6901); objects of a list are named by their id
	From any    `json:"from,omitempty"`
	To   any    `json:"to,omitempty"`
}

// Diff tells what changed from document a to document b, in the order of
// paths. Lists whose elements have an id each (nodes, globals, …) are compared
// by id, so that moving a node is no change; other lists are compared whole.
func Diff(a, b []byte) ([]Change, error) {
	x, err := decodeValue(a)
	if err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	y, err := decodeValue(b)
	if err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	return diff(nil, "", x, y), nil
}

func diff(out []Change, path string, a, b any) []Change {
	if x, y := byName(a), byName(b); x != nil && y != nil {
		keys := sortedKeys(x)
		for k := range y {
			if _, ok := x[k]; !ok {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			at := path + "/" + escapePointer(k)
			v, was := x[k]
			w, is := y[k]
			switch {
			case !was:
				out = append(out, Change{Op: "add", Path: at, To: w})
			case !is:
				out = append(out, Change{Op: "remove", Path: at, From: v})
			default:
				out = diff(out, at, v, w)
			}
		}
		return out
	}
	if !equal(a, b, false) {
		out = append(out, Change{Op: "replace", Path: path, From: a, To: b})
	}
	return out
}

// byName returns an object's values by name, or a list's by their ids; nil for
// all else.
func byName(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		return v
	case []any:
		out := make(map[string]any, len(v))
		for _, e := range v {
			m, _ := e.(map[string]any)
			id := str(m["id"])
			if _, twice := out[id]; id == "" || twice {
				return nil
			}
			out[id] = e
		}
		return out
	}
	return nil
}
