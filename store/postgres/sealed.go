package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"parley/control"
	"parley/control/seal"
)

// SealWith has the texts of callers sealed from now on, and those that are
// sealed opened; before it, or with nil, they are written in clear. It is called
// once, before the Store is used.
func (s *Store) SealWith(k control.Sealer) { s.sealer = k }

// KeysChanged has told called, besides those of other calls, whenever data keys
// may have been destroyed or signing keys revoked, by whatever process, while
// [Store.Listen] runs. It is called before that.
func (s *Store) KeysChanged(told func()) { s.keysChanged = append(s.keysChanged, told) }

var errNoKeys = errors.New("postgres: a sealed text is read without keys")

// seal returns v as sealed JSON, or nil where nothing is sealed.
func (s *Store) seal(ctx context.Context, place string, v any) ([]byte, error) {
	if s.sealer == nil {
		return nil, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return s.sealer.Seal(ctx, place, text)
}

// unseal reads into v what seal has sealed; nil leaves it as it is.
func (s *Store) unseal(ctx context.Context, place string, sealed []byte, v any) error {
	if sealed == nil {
		return nil
	}
	if s.sealer == nil {
		return errNoKeys
	}
	text, err := s.sealer.Open(ctx, place, sealed)
	if err != nil {
		return fmt.Errorf("open %s: %w", place, err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("open %s: what was sealed is not ours", place)
	}
	return nil
}

// countedFields are what figures are counted from, by the type of the event:
// they stay in clear. Of other events that a flow reports nothing does.
var countedFields = map[string][]string{
	"content_shown":      {"content_id", "variant"},
	"content_engaged":    {"content_id", "variant"},
	"experiment_arm":     {"experiment", "arm"},
	"experiment_engaged": {"experiment", "arm"},
	"goal":               {"goal"},
	"no_input":           {"node"},
	"no_match":           {"node"},
}

// sealedData is the field of an event's data that holds all of them sealed. Data
// are an object, and one that a flow reports is sealed itself, so that nobody
// can report this field in clear.
const sealedData = "$sealed"

func eventPlace(session, kind string) string { return "events/" + session + "/" + kind }

// sealEvent returns the data of an event that a flow reports as they are stored.
func (s *Store) sealEvent(ctx context.Context, session, kind string, data json.RawMessage) (json.RawMessage, error) {
	if s.sealer == nil {
		return data, nil
	}
	sealed, err := s.sealer.Seal(ctx, eventPlace(session, kind), data)
	if err != nil {
		return nil, err
	}
	out := map[string]any{sealedData: sealed}
	if fields := countedFields[kind]; fields != nil {
		var all map[string]json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			return nil, fmt.Errorf("seal an event: %w", err)
		}
		for _, f := range fields {
			if v, ok := all[f]; ok {
				out[f] = v
			}
		}
	}
	return json.Marshal(out)
}

// openEvents opens the data of events. Those whose key was destroyed, and those
// that were altered, say so instead.
func (s *Store) openEvents(ctx context.Context, events []control.Event) error {
	for i := range events {
		if err := s.openEvent(ctx, &events[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) openEvent(ctx context.Context, e *control.Event) error {
	var held struct {
		Sealed []byte `json:"$sealed"`
	}
	if json.Unmarshal(e.Data, &held) != nil || held.Sealed == nil {
		return nil
	}
	if s.sealer == nil {
		return errNoKeys
	}
	data, err := s.sealer.Open(ctx, eventPlace(e.Session.String(), e.Type), held.Sealed)
	switch {
	case errors.Is(err, control.ErrErased):
		e.Data = json.RawMessage(`{"erased":true}`)
	case errors.Is(err, seal.ErrDamaged): // it must not hold up those behind it
		e.Data = json.RawMessage(`{"unreadable":true}`)
	case err != nil:
		return fmt.Errorf("open event %d: %w", e.ID, err)
	default:
		e.Data = data
	}
	return nil
}
