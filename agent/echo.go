package agent

import "math"

// An echoTracker knows how much of the agent's own voice comes back on the
// line, and how late: it follows the received level by the played one. It is
// pure, one call a frame; a call's echo is learned over the call.
//
// What is louder than expected may be somebody else, so little of it is
// learned, until a verdict says that it was nobody.
type echoTracker struct {
	played    [echoLags]float64    // amplitudes, the newest frame first
	heard     [onsetWindow]float64 // power received, the newest first
	loud      float64              // frames of the agent's voice that were learned from
	careful   coupling
	credulous coupling // as if all that is received were echo
}

// A coupling is how the received level follows the played one, at each lag.
type coupling struct {
	cross [echoLags]float64 // of played and received amplitudes
	power [echoLags]float64 // of played
	total float64           // power of received
}

const (
	// echoLags bounds how late an echo comes: 780 ms, in frames.
	echoLags = 40
	// echoKeep is the weight of the past: 3 s.
	echoKeep = 1 - 1.0/150
	// echoPrior is the amplitude an echo may have until it is measured: -12 dB.
	echoPrior = 0.25
	// echoTrust is how many frames of the agent's voice weigh as much as the
	// prior, and echoKnown how many tell the lag.
	echoTrust = 10
	echoKnown = 25
	// echoFit is the least correlation of the levels that tells a lag.
	echoFit = 0.7
	// echoRise is how much more than expected is learned of what comes back: what
	// is louder may be somebody else.
	echoRise = 1.5
	// echoVoice is the amplitude above which the agent is saying something: -45
	// dBFS.
	echoVoice = 0.0056
)

// frame takes the power that was played and received in a frame, and the noise
// under it. It returns the amplitude of echo that is to be expected in it, 0 if
// the agent is silent.
func (e *echoTracker) frame(played, received, noise float64) float64 {
	copy(e.played[1:], e.played[:])
	e.played[0] = math.Sqrt(played)
	copy(e.heard[1:], e.heard[:])
	e.heard[0] = received
	if e.loudest(0, echoLags) < echoVoice {
		return 0 // the agent is silent
	}
	expected := e.expected()
	y := math.Sqrt(max(0, received-noise))
	e.careful.learn(&e.played, min(y, echoRise*expected))
	e.credulous.learn(&e.played, min(y, echoMost*e.loudest(0, echoLags)))
	if e.played[0] > echoVoice {
		e.loud++
	}
	return expected
}

// nobody says that what was louder than expected was the agent's own voice, or
// nothing: all of the last seconds is learned.
func (e *echoTracker) nobody() { e.careful = e.credulous }

// expected is the amplitude of the echo in the newest frame.
func (e *echoTracker) expected() float64 {
	lag, gain, fit := e.careful.best()
	trust := e.loud / (e.loud + echoTrust)
	gain = trust*gain + (1-trust)*echoPrior
	from, to := max(0, lag-1), min(lag+2, echoLags)
	if e.loud < echoKnown || fit < echoFit {
		from, to = 0, echoLags
	}
	return gain * e.loudest(from, to)
}

// learn takes the amplitudes that were played, the newest first, and y, the one
// received.
func (c *coupling) learn(played *[echoLags]float64, y float64) {
	for k, x := range played {
		c.cross[k] = echoKeep*c.cross[k] + x*y
		c.power[k] = echoKeep*c.power[k] + x*x
	}
	c.total = echoKeep*c.total + y*y
}

// best returns the lag that explains most of what is received, the gain there
// and how well it fits.
func (c *coupling) best() (lag int, gain, fit float64) {
	if c.power[0] == 0 || c.total == 0 {
		return 0, 0, 0
	}
	most := 0.0
	for k := range c.cross {
		// Late lags have seen less at first: what they lack counts as no echo.
		if explained := c.cross[k] * c.cross[k] / max(c.power[k], c.power[0]); explained > most {
			most, lag = explained, k
		}
	}
	return lag, c.cross[lag] / max(c.power[lag], c.power[0]), math.Sqrt(most / c.total)
}

func (e *echoTracker) loudest(from, to int) (most float64) {
	for _, x := range e.played[from:to] {
		most = max(most, x)
	}
	return most
}

// A loudness tells what the agent's own voice could be, come back.
type loudness int

const (
	aloud loudness = iota // louder than any echo of what is played
	low                   // quieter than that, but well above the echo that this line has
	faint                 // an echo, for all that the level tells
)

const (
	// echoMost is the most of the agent's voice that comes back, as amplitude: -6 dB.
	echoMost = 0.5
	// echoClear is how far above a line's known echo is too far for it: 12 dB.
	echoClear = 16
	// echoSure is how many frames of the agent's voice make a line's echo known.
	echoSure = 100
)

// loudness judges the last onsetWindow frames.
func (e *echoTracker) loudness() loudness {
	received := 0.0
	for _, p := range e.heard {
		received += p
	}
	most := 0.0
	for k := 0; k+onsetWindow <= echoLags; k++ {
		sum := 0.0
		for _, x := range e.played[k : k+onsetWindow] {
			sum += x * x
		}
		most = max(most, sum)
	}
	if received > echoMost*echoMost*most {
		return aloud
	}
	if _, gain, _ := e.careful.best(); e.loud >= echoSure && received > echoClear*gain*gain*most {
		return low
	}
	return faint
}

// power is the mean power of a frame, of full scale.
func power(pcm []int16) float64 {
	sum := 0.0
	for _, s := range pcm {
		x := float64(s)
		sum += x * x
	}
	return sum / float64(max(1, len(pcm))) / (32768 * 32768)
}

// amplitude turns decibels of full scale into a part of it.
func amplitude(db float64) float64 { return math.Pow(10, db/20) }
