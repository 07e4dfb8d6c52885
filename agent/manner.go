package agent

import "cmp"

// A Delivery is how something is spoken, where that is not the agent's usual
// way. The zero value is.
type Delivery struct {
	// Voice is one of the first vendor's, or "vendor/voice" of any. Vendors that
	// are not meant speak with their own.
	Voice string
	Rate  float64 // times as fast, 0.5 to 2; 0: the usual
}

// A Hearing is how a recognizer is to listen.
type Hearing struct {
	Rate     int    // samples per second of the frames
	Language string // BCP 47; empty: the agent's
	// Model is one of the first vendor's, or "vendor/model" of any; empty: the
	// agent's.
	Model string
	// Terms are words to be heard before others, one a line, and Boost how much
	// they weigh (0: the vendor's measure), for vendors that are told as they are
	// dialed. [STT].Expect tells the others.
	Terms string
	Boost float64
}

// in returns h in a language, if it names none.
func (h Hearing) in(language string) Hearing {
	h.Language = cmp.Or(h.Language, language)
	return h
}
