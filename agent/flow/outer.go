package flow

import (
	"encoding/json"
	"fmt"
)

// Events that come from beside the conversation: from a program that holds it.
type (
	// Patch merges values into the scopes user, variables, context and temp:
	// objects into objects, all else over what was there. [CheckPatch] tells
	// before whether it may.
	Patch struct {
		At
		Updates map[string]any `json:"updates"`
	}

	// Close ends the conversation with a status, without a word.
	Close struct {
		At
		Status string `json:"status"`
	}
)

// A PatchError says where updates are not as they may be, and why. It repeats
// no value.
type PatchError struct{ Path, Reason string }

// Error implements error.
func (e *PatchError) Error() string { return e.Path + ": " + e.Reason }

// patchable are the scopes of a Patch.
var patchable = []string{"user", "variables", "context", "temp"}

// CheckPatch reports why updates may not be merged into s: a scope that is not
// a program's to write, a value that is no object, or a state that would be
// deeper than [MaxStateDepth] or larger than [MaxStateBytes]. It is a
// *[PatchError].
func CheckPatch(s State, updates map[string]any) error {
	for _, name := range sortedKeys(updates) {
		if s.scope(name) == nil {
			return &PatchError{"/" + escapePointer(name), "may not be written; user, variables, context and temp may"}
		}
		if _, ok := updates[name].(map[string]any); !ok {
			return &PatchError{"/" + name, "must be an object"}
		}
	}
	if path, ok := tooDeep(updates, MaxStateDepth-1, ""); ok {
		return &PatchError{path, fmt.Sprintf("lies deeper than %d levels", MaxStateDepth)}
	}
	s.patch(updates)
	b, err := json.Marshal(s)
	if err != nil {
		return &PatchError{"/", "cannot be stored"}
	}
	if len(b) > MaxStateBytes {
		return &PatchError{"/", fmt.Sprintf("would make the state larger than %d bytes", MaxStateBytes)}
	}
	return nil
}

// scope returns a scope that a Patch may write, nil for any other.
func (s *State) scope(name string) *map[string]any {
	switch name {
	case "user":
		return &s.User
	case "variables":
		return &s.Variables
	case "context":
		return &s.Context
	case "temp":
		return &s.Temp
	}
	return nil
}

// patch merges updates; s shares with its former self what did not change.
func (s *State) patch(updates map[string]any) {
	for _, name := range patchable {
		m, ok := clean(updates[name], MaxStateDepth-2).(map[string]any)
		if ok && len(m) > 0 {
			scope := s.scope(name)
			*scope = merge(*scope, m)
		}
	}
}

// close ends a conversation on a program's word.
func (t *turn) close(ev Close) {
	t.s.System.Pending, t.s.System.Playing = nil, ""
	status := ev.Status
	switch status {
	case Completed, Abandoned, Failed, Transferred:
	default:
		status = Abandoned
	}
	t.unwait()
	t.s.Session.Status, t.s.Session.CurrentNode = status, ""
	t.out = append(t.out, End{Status: status})
}
