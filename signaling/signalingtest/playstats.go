package signalingtest

import (
	"time"

	"parley/media"
)

// PlayStats tell how the gateway's audio came to a carrier.
type PlayStats struct {
	Messages int           // of media
	Longest  time.Duration // of audio in one message
	Played   time.Duration // of audio that sounded

	// Lead is the most that waited to be heard: what a clear has to drop.
	Lead time.Duration

	// Late is how far behind the pace of its spurt the latest message came. A
	// spurt begins with a message on an empty buffer; its pace is that of its
	// own audio.
	Late time.Duration

	// Underruns counts holes of at most half a second, where speech ran dry and
	// went on; Silence is how much of them a caller heard.
	Underruns int
	Silence   time.Duration
}

// maxHole is a pause that may still be an underrun; a longer one is an end.
const maxHole = 500 * time.Millisecond

// A playMeter watches a playout. The stream's lock is held.
type playMeter struct {
	PlayStats
	paceAt time.Time     // when the spurt began
	pace   time.Duration // of audio that it has brought
	dry    time.Duration // since sound ended; below 0: nothing has sounded, or it was cleared
}

// took notes a message of n bytes, behind ahead bytes that wait.
func (m *playMeter) took(n, ahead int, now time.Time) {
	m.Messages++
	length := media.Duration(int64(n), 8000)
	m.Longest = max(m.Longest, length)
	m.Lead = max(m.Lead, media.Duration(int64(n+ahead), 8000))
	if m.paceAt.IsZero() || ahead == 0 && now.Sub(m.paceAt)-m.pace > maxHole {
		m.paceAt, m.pace = now, 0
	}
	m.Late = max(m.Late, now.Sub(m.paceAt)-m.pace)
	m.pace += length
}

// sounded notes a tick in which n bytes sound.
func (m *playMeter) sounded(n int) {
	length := media.Duration(int64(n), 8000)
	m.Played += length
	hole := media.Ptime - length
	switch {
	case n == 0 && m.dry >= 0:
		if m.dry += hole; m.dry > maxHole {
			m.dry = -1
		}
	case n > 0:
		if m.dry > 0 {
			m.Underruns++
			m.Silence += m.dry
		}
		m.dry = hole
	}
}

// cleared notes that the gateway ended what was playing.
func (m *playMeter) cleared() {
	m.dry, m.paceAt = -1, time.Time{}
}

// add sums up two streams' statistics.
func (p PlayStats) add(q PlayStats) PlayStats {
	return PlayStats{
		Messages: p.Messages + q.Messages, Longest: max(p.Longest, q.Longest), Played: p.Played + q.Played,
		Lead: max(p.Lead, q.Lead), Late: max(p.Late, q.Late),
		Underruns: p.Underruns + q.Underruns, Silence: p.Silence + q.Silence,
	}
}

// Stats tell how the gateway's audio has come so far, over all streams.
func (c *CarrierCall) Stats() PlayStats {
	c.mu.Lock()
	s, before := c.stream, c.stats
	c.mu.Unlock()
	if s == nil {
		return before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return before.add(s.meter.PlayStats)
}
