package agent

import (
	"slices"
	"time"
)

// A clauseQueue gives clauses to the voice one by one, or a few in one when the
// vendor counts them.
type clauseQueue struct {
	in   <-chan clause
	held *clause // taken from in, and not joined to the one before
}

const (
	// joinLimit is how long joined clauses may become, in characters: what is
	// interrupted in their middle is made for nothing.
	joinLimit = 400
	// joinSpare is the speech that must be left to hear when the voice goes on.
	joinSpare = 1500 * time.Millisecond
)

// next returns the next clause, and false when there is none. thrifty says that
// it may be joined with those behind it, which are waited for as long as the
// speech that is left to hear allows.
func (q *clauseQueue) next(thrifty func() bool, left func() time.Duration) (clause, bool) {
	c, ok := q.take()
	if !ok || !c.joins(c) || !thrifty() {
		return c, ok
	}
	wait := time.NewTimer(max(0, left()-joinSpare))
	defer wait.Stop()
	for q.held == nil {
		select {
		case more, ok := <-q.in:
			switch {
			case !ok:
				return c, true
			case !c.joins(more) || len(c.spoken)+len(more.spoken) > joinLimit:
				q.held = &more
			default:
				c.text += " " + more.text
				c.spoken += " " + more.spoken
			}
		case <-wait.C:
			return c, true
		}
	}
	return c, true
}

func (q *clauseQueue) take() (clause, bool) {
	if c := q.held; c != nil {
		q.held = nil
		return *c, true
	}
	c, ok := <-q.in
	return c, ok
}

// joins reports whether more may be said in one piece with c.
func (c clause) joins(more clause) bool {
	alone := func(c clause) bool { return c.fixed || c.sounds() || c.ssml != "" || c.fits != nil }
	return !alone(c) && !alone(more) && c.node == more.node && c.policy == more.policy && c.how == more.how
}

// thrifty reports whether the vendor in use has taken half of the clauses that it
// takes in a minute.
func (v *voice) thrifty() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tts == nil || v.vendors[v.current].PerMinute == 0 {
		return false
	}
	old := time.Now().Add(-time.Minute)
	v.asked = slices.DeleteFunc(v.asked, func(at time.Time) bool { return !at.After(old) })
	return len(v.asked) >= v.vendors[v.current].PerMinute/2
}
