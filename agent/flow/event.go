package flow

import (
	"encoding/json"
	"fmt"
)

// EncodeEvent writes an event as JSON, with its "type".
func EncodeEvent(ev Event) ([]byte, error) {
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
