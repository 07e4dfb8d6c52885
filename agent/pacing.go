package agent

import "time"

// A pacing learns how one caller pauses, so that the wait behind words that
// could be all or not fits them: longer for who thinks between words and was
// taken for finished, shorter for who answers in one go. It is pure; the zero
// value is a caller of whom nothing is known.
type pacing struct {
	pause  time.Duration // within their turns, smoothed; 0: none was seen
	factor float64       // of the agent's own waits; 0 counts as 1
}

const (
	hastiest  = 0.6  // least factor
	slowest   = 2.5  // most
	falseStep = 1.4  // up, when a turn was taken as ended and was not
	trueStep  = 0.92 // down, when it was
	// beyondPause is how much longer than the usual pause the wait is.
	beyondPause = 1.25
)

// wentOn takes a pause within a turn. late means that the agent had begun to
// answer: the wait was too short.
func (p *pacing) wentOn(d time.Duration, late bool) {
	if d <= 0 || d > 5*time.Second {
		return // no pause of one who searches for words
	}
	share := 0.3
	if late {
		share = 0.5
		p.factor = min(slowest, falseStep*max(1, p.known()))
	}
	if p.pause == 0 {
		p.pause = d
		return
	}
	p.pause += time.Duration(share * float64(d-p.pause))
}

// ended takes a turn that was over when it was taken as over.
func (p *pacing) ended() {
	p.factor = max(hastiest, trueStep*p.known())
	p.pause = time.Duration(0.9 * float64(p.pause))
}

func (p *pacing) known() float64 {
	if p.factor == 0 {
		return 1
	}
	return p.factor
}

// adapt returns e for this caller. Only what is undecided is answered sooner;
// what sounds complete is waited for longer once that has misled.
func (p *pacing) adapt(e Endpointing) Endpointing {
	if e.Steady {
		return e
	}
	f := p.known()
	scaled := func(d time.Duration, f float64) time.Duration { return time.Duration(f * float64(d)) }
	undecided := max(scaled(e.Undecided, f), scaled(p.pause, beyondPause))
	least := max(e.Complete, scaled(e.Undecided, hastiest))
	most := max(least, min(e.Patience, scaled(e.Undecided, slowest)))
	if f > 1 {
		e.Complete = min(scaled(e.Complete, f), max(e.Complete, e.Undecided))
	}
	e.Undecided = min(max(undecided, least), most)
	return e
}
