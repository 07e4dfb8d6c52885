package flow

import (
	"encoding/json"
	"fmt"
)

// maxEventDepth is how deep a result may be, in levels of JSON.
const maxEventDepth = 64

// storable returns an event as it can be stored: texts and keys without U+0000
// and invalid UTF-8, no number that jsonb cannot hold, and no data that is not
// JSON. [Step] reads no more of an event than that, so that a replay of what
// was stored is exact.
func storable(ev Event) Event {
	switch ev := ev.(type) {
	case Input:
		ev.Text, ev.Mode = cleanText(ev.Text), cleanText(ev.Mode)
		return ev
	case Played:
		ev.ID, ev.Heard = cleanText(ev.ID), cleanText(ev.Heard)
		return ev
	case Result:
		ev.ID, ev.Outcome, ev.Error = cleanText(ev.ID), cleanText(ev.Outcome), cleanText(ev.Error)
		if v, err := decodeValue(ev.Data); err == nil {
			ev.Data = rawJSON(clean(v, maxEventDepth))
		} else {
			ev.Data = nil
		}
		return ev
	case Patch:
		ev.Updates, _ = clean(ev.Updates, maxEventDepth).(map[string]any)
		return ev
	case Close:
		ev.Status = cleanText(ev.Status)
		return ev
	}
	return ev
}

// EncodeEvent writes an event as JSON, with its "type". What cannot be stored
// of it, such as U+0000, is left out.
func EncodeEvent(ev Event) ([]byte, error) {
	ev = storable(ev)
	name := ""
	switch ev.(type) {
	case Start:
		name = "start"
	case Input:
		name = "input"
	case Silence:
		name = "silence"
	case Played:
		name = "played"
	case Result:
		name = "result"
	case Happened:
		name = "happened"
	case Hangup:
		name = "hangup"
	case Patch:
		name = "patch"
	case Close:
		name = "close"
	default:
		return nil, fmt.Errorf("encode event: unknown %T", ev)
	}
	b, err := json.Marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return append([]byte(`{"type":"`+name+`",`), b[1:]...), nil
}

// DecodeEvent reads what [EncodeEvent] wrote.
func DecodeEvent(data []byte) (Event, error) {
	var head struct{ Type string }
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	switch head.Type {
	case "start":
		return decodeEvent[Start](data)
	case "input":
		return decodeEvent[Input](data)
	case "silence":
		return decodeEvent[Silence](data)
	case "played":
		return decodeEvent[Played](data)
	case "result":
		return decodeEvent[Result](data)
	case "happened":
		return decodeEvent[Happened](data)
	case "hangup":
		return decodeEvent[Hangup](data)
	case "patch":
		return decodeEvent[Patch](data)
	case "close":
		return decodeEvent[Close](data)
	}
	return nil, fmt.Errorf("decode event: unknown type %q", head.Type)
}

func decodeEvent[E Event](data []byte) (Event, error) {
	var e E
	if err := decodeInto(data, &e); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	return e, nil
}
