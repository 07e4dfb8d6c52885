package media

import (
	"encoding/binary"
	"errors"
)

// ErrTelephoneEvent is returned for a payload that is no telephone-event.
var ErrTelephoneEvent = errors.New("media: telephone-event payload is not 4 bytes")

// A TelephoneEvent is the payload of one RTP packet of type
// audio/telephone-event (RFC 4733 §2.3).
type TelephoneEvent struct {
	Event    byte   // 0-9, 10 for *, 11 for #, 12-15 for A-D (RFC 4733 §3.2); others are not digits
	End      bool   // the event has ended with this packet
	Volume   byte   // 0-63, in dB below 0 dBm0
	Duration uint16 // of the event so far, in units of the RTP clock
}

// ParseTelephoneEvent reads a payload of exactly 4 bytes, or returns
// [ErrTelephoneEvent].
func ParseTelephoneEvent(payload []byte) (TelephoneEvent, error) {
	if len(payload) != 4 {
		return TelephoneEvent{}, ErrTelephoneEvent
	}
	return TelephoneEvent{
		Event:    payload[0],
		End:      payload[1]&0x80 != 0,
		Volume:   payload[1] & 0x3f,
		Duration: binary.BigEndian.Uint16(payload[2:]),
	}, nil
}

// Digit returns the key that was pressed, one of 0-9 * # A-D, and false for
// other events such as a hook flash.
func (e TelephoneEvent) Digit() (byte, bool) {
	const digits = "0123456789*#ABCD"
	if int(e.Event) >= len(digits) {
		return 0, false
	}
	return digits[e.Event], true
}

const (
	// eventSegment is how far the timestamp moves between the segments of an
	// event that outgrows the 16 bits of its duration (RFC 4733 §2.5.1.3).
	eventSegment = 0xffff

	// eventLate is how old a timestamp may be and still belong to a packet that
	// was overtaken: 2.7 s of a 48 kHz clock. Older ones mean that the sender
	// began anew.
	eventLate = 1 << 17
)

// An EventDecoder turns the many packets of each telephone-event of one RTP
// stream into one digit. The zero value is ready.
type EventDecoder struct {
	started   bool
	timestamp uint32 // of the latest event, or of its latest segment
	event     byte
	ended     bool
}

// Packet takes one packet's RTP timestamp, which is that of the event's
// beginning, and its payload. It returns the digit at the first packet of an
// event that arrives, whichever of them were lost, and false for all others,
// for events that are no digits and for malformed payloads.
func (d *EventDecoder) Packet(timestamp uint32, payload []byte) (digit byte, ok bool) {
	e, err := ParseTelephoneEvent(payload)
	if err != nil {
		return 0, false
	}
	digit, ok = e.Digit()
	if !ok {
		return 0, false
	}
	if d.started {
		ahead := int32(timestamp - d.timestamp)
		switch {
		case ahead == 0:
			d.ended = d.ended || e.End
			return 0, false
		case ahead < 0 && ahead > -eventLate:
			return 0, false
		case ahead > 0 && ahead%eventSegment == 0 && e.Event == d.event && !d.ended:
			d.timestamp, d.ended = timestamp, e.End
			return 0, false
		}
	}
	d.started, d.timestamp, d.event, d.ended = true, timestamp, e.Event, e.End
	return digit, true
}
