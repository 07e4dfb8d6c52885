package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// decodeInto reads JSON into v, numbers in free values as text.
func decodeInto(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}

// MarshalJSON implements [json.Marshaler]: extra fields stand beside the others.
func (m Message) MarshalJSON() ([]byte, error) {
	type plain Message
	b, err := json.Marshal(plain(m))
	if err != nil || len(m.Extra) == 0 {
		return b, err
	}
	all := map[string]json.RawMessage{}
	for k, v := range m.Extra {
		all[k] = v
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (m *Message) UnmarshalJSON(b []byte) error {
	type plain Message
	if err := decodeInto(b, (*plain)(m)); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for _, k := range []string{"type", "text", "ssml", "url", "alt"} {
		delete(all, k)
	}
	if m.Extra = nil; len(all) > 0 {
		m.Extra = all
	}
	return nil
}

// UnmarshalJSON implements [json.Unmarshaler]: Kind names the effect's type.
func (p *Pending) UnmarshalJSON(b []byte) error {
	var raw struct {
		ID, Kind string
		Effect   json.RawMessage
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	p.ID, p.Kind = raw.ID, raw.Kind
	var err error
	switch raw.Kind {
	case "say":
		p.Effect, err = decodeEffect[Say](raw.Effect)
	case "ask":
		p.Effect, err = decodeEffect[Ask](raw.Effect)
	case "transfer":
		p.Effect, err = decodeEffect[Transfer](raw.Effect)
	case "call":
		p.Effect, err = decodeEffect[Call](raw.Effect)
	case "wait":
		p.Effect, err = decodeEffect[Wait](raw.Effect)
	case "record":
		p.Effect, err = decodeEffect[Record](raw.Effect)
	case "fetch":
		p.Effect, err = decodeEffect[Fetch](raw.Effect)
	case "model":
		p.Effect, err = decodeEffect[Model](raw.Effect)
	default:
		err = fmt.Errorf("unknown pending effect %q", raw.Kind)
	}
	return err
}

func decodeEffect[E Effect](b []byte) (Effect, error) {
	var e E
	err := decodeInto(b, &e)
	return e, err
}
