package stt

import "time"

// finalizes are the requests to finish that a vendor has not answered, oldest
// first. Answers come in order, but some not at all, and some after they were
// given up: only the answer to the last one flushes. It is pure.
type finalizes struct {
	at      []time.Duration // where in the audio each was sent
	givenUp int             // of the oldest: the session was told something in their stead
}

// finalizeSlack is by how much an answer's end may miss the request's place.
const finalizeSlack = 150 * time.Millisecond

// mostFinalizes are remembered of a vendor that answers none.
const mostFinalizes = 32

// sent notes a request.
func (f *finalizes) sent(at time.Duration) {
	if f.at = append(f.at, at); len(f.at) > mostFinalizes {
		f.at, f.givenUp = f.at[1:], max(0, f.givenUp-1)
	}
}

// late gives up those that are unanswered, and returns the place of the last.
func (f *finalizes) late() (at time.Duration, ok bool) {
	if f.givenUp == len(f.at) {
		return 0, false
	}
	f.givenUp = len(f.at)
	return f.at[len(f.at)-1], true
}

// answered takes an answer whose audio ends at a place. It reports whether it
// answers the last request, and nobody has in its stead.
func (f *finalizes) answered(end time.Duration) bool {
	n := 0
	for n < len(f.at) && f.at[n] <= end+finalizeSlack {
		n++
	}
	n = min(max(n, 1), len(f.at))
	wanted := len(f.at) > f.givenUp
	f.at = f.at[n:]
	f.givenUp = max(0, f.givenUp-n)
	return wanted && len(f.at) == 0
}

// waiting reports whether an answer is still wanted.
func (f *finalizes) waiting() bool { return len(f.at) > f.givenUp }
