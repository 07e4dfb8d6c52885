package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"

	"parley/media"
)

const (
	phoneRate  = 8000
	frameBytes = phoneRate / 50 // 20 ms of µ-law
	streamSID  = "MZ00000000000000000000000000000000"
)

// A wireFrame is a websocket frame from a client with one of Twilio's media
// messages, ready to be written. Its mask is zero: masking would be the load's
// cost, unmasking costs the server the same.
type wireFrame []byte

// textFrame wraps a message as a client sends it (RFC 6455 §5.2).
func textFrame(msg []byte) wireFrame {
	f := []byte{0x81}
	switch n := len(msg); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	default:
		f = append(f, 0x80|126)
		f = binary.BigEndian.AppendUint16(f, uint16(n))
	}
	f = append(f, 0, 0, 0, 0)
	return append(f, msg...)
}

func mediaFrame(ulaw []byte) wireFrame {
	return textFrame(fmt.Appendf(nil,
		`{"event":"media","sequenceNumber":"1234","media":{"track":"inbound","chunk":"1233","timestamp":"24660","payload":"%s"},"streamSid":"%s"}`,
		base64.StdEncoding.EncodeToString(ulaw), streamSID))
}

// The voices that callers have.
type voices struct {
	silence wireFrame
	speech  []wireFrame // as of a person near the telephone; played in a loop
	whisper []wireFrame // too soft for voice activity detection, not for a recognizer
	click   wireFrame   // 20 ms, loud
}

func makeVoices() *voices {
	v := &voices{silence: mediaFrame(ulawSilence())}
	loud := vowels(phoneRate, 0.25)
	for i := 0; i+frameBytes <= len(loud); i += frameBytes {
		v.speech = append(v.speech, mediaFrame(media.EncodePCMU(nil, loud[i:i+frameBytes])))
	}
	soft := make([]int16, frameBytes)
	for i := range soft {
		soft[i] = int16(16 * (i / 20 % 2)) // 200 Hz, -66 dBFS
	}
	v.whisper = []wireFrame{mediaFrame(media.EncodePCMU(nil, soft))}
	bang := make([]int16, frameBytes)
	for i := range bang {
		bang[i] = int16(12000 * math.Exp(-float64(i)/40) * math.Cos(float64(i)*1.3))
	}
	v.click = mediaFrame(media.EncodePCMU(nil, bang))
	return v
}

func ulawSilence() []byte {
	b := make([]byte, frameBytes)
	for i := range b {
		b[i] = 0xff
	}
	return b
}

// vowels is a second of what sounds like a voice to a detector: harmonics of
// 120 Hz under two formants, four syllables.
func vowels(rate int, peak float64) []int16 {
	pcm := make([]float64, rate)
	most := 0.0
	for i := range pcm {
		t := float64(i) / float64(rate)
		first := 550 + 200*math.Sin(2*math.Pi*2*t)
		for h := 1; h <= 28; h++ {
			hz := 120 * float64(h)
			gain := resonance(hz, first, 90) + 0.5*resonance(hz, 1500, 140) + 0.2*resonance(hz, 2500, 200)
			pcm[i] += gain * math.Sin(2*math.Pi*hz*t+float64(h*h))
		}
		pcm[i] *= 0.65 + 0.35*math.Cos(2*math.Pi*4*t)
		most = max(most, math.Abs(pcm[i]))
	}
	out := make([]int16, rate)
	for i, x := range pcm {
		out[i] = int16(x / most * peak * 32767)
	}
	return out
}

func resonance(hz, center, width float64) float64 {
	d := (hz - center) / width
	return 1 / (1 + d*d)
}

// A call tells the recognizer's stand-in who it is by a frame of its audio, too
// soft to be speech: marks are loud nibbles of a number that only a stand-in
// reads.
const (
	nameBits  = 12
	nameStep  = frameBytes / (nameBits + 2)
	nameLevel = 8 // of 32768: µ-law's least step
)

func nameFrame(id int) wireFrame {
	pcm := make([]int16, frameBytes)
	set := func(slot int) {
		for i := range nameStep {
			pcm[slot*nameStep+i] = -nameLevel
		}
	}
	set(0) // says that a name follows
	for b := range nameBits {
		if id>>b&1 == 1 {
			set(b + 1)
		}
	}
	return mediaFrame(media.EncodePCMU(nil, pcm))
}

// nameIn reads a frame as nameFrame wrote it.
func nameIn(pcm []int16) (id int, ok bool) {
	at := func(slot int) bool { return pcm[slot*nameStep+nameStep/2] == -nameLevel }
	if len(pcm) < frameBytes || !at(0) || at(nameBits+1) {
		return 0, false
	}
	for b := range nameBits {
		if at(b + 1) {
			id |= 1 << b
		}
	}
	return id, true
}

// heard tells whether a recognizer hears speech in a frame, be it soft.
func heard(pcm []int16) bool {
	for _, s := range pcm {
		if s > nameLevel || s < -nameLevel {
			return true
		}
	}
	return false
}
