package control

import (
	"context"
	"crypto/hmac"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Kinds of an [AuditFinding].
const (
	AuditEdited   = "edited"   // entries are not what was sealed
	AuditMoved    = "moved"    // an entry stands under another's number
	AuditRemoved  = "removed"  // entries are missing
	AuditUnsealed = "unsealed" // entries without a seal, among others or for too long
	AuditResealed = "resealed" // all to the end is sealed under another key
	AuditCut      = "cut"      // the anchor has entries that are not there
	AuditForked   = "forked"   // the anchor has another seal of an entry
	AuditAnchors  = "anchors"  // the anchors themselves are damaged, or end too early
)

// An AuditFinding is what is wrong with an audit trail.
type AuditFinding struct {
	Kind   string    `json:"kind"`
	Tenant uuid.UUID `json:"tenant"` // zero for [AuditAnchors]
	Seq    int64     `json:"seq"`    // the first entry that it is about
	Last   int64     `json:"last"`
	Text   string    `json:"text"` // for people
}

// An AuditReport is what was looked at, and what was found.
type AuditReport struct {
	Tenants  int
	Entries  int64
	Pending  int64 // too young to be sealed
	Findings []AuditFinding
	More     int // findings beyond the first thousand
}

// Holds tells whether nothing was found.
func (r AuditReport) Holds() bool { return len(r.Findings) == 0 }

const (
	maxFindings   = 1000
	verifyPage    = 5000
	sealPatience  = time.Minute     // an older entry must be sealed
	anchorLag     = 5 * time.Minute // an entry may be newer than all anchors
	maxUnmatched  = 64              // entries that are looked for in each other's places
	resealedAtEnd = 3               // so many to the end that do not fit: another key
)

// An AuditVerifier goes through the trails of all tenants.
type AuditVerifier struct {
	Store AuditSeals
	// Chains are of the key files in the order of their use; one is enough where
	// it was never changed.
	Chains []*AuditChain
	// Anchors that were read, and finished. Nil: the ends are not checked.
	Anchors *Anchored
}

// Verify reads everything once. Its error is of storage.
func (v *AuditVerifier) Verify(ctx context.Context) (*AuditReport, error) {
	report := new(AuditReport)
	seen := map[uuid.UUID]bool{}
	var newest time.Time
	var after uuid.UUID
	for {
		tenants, err := v.Store.LocateAudited(ctx, after, anchorTenants)
		if err != nil {
			return report, fmt.Errorf("list tenants: %w", err)
		}
		if len(tenants) == 0 {
			break
		}
		for _, t := range tenants {
			w := &auditWalk{v: v, report: report, tenant: t, now: time.Now(), prev: v.Chains[0].Origin(t)}
			if err := w.run(ctx); err != nil {
				return report, fmt.Errorf("audit trail of tenant %s: %w", t, err)
			}
			report.Tenants++
			if seen[t] = true; w.newest.After(newest) {
				newest = w.newest
			}
		}
		after = tenants[len(tenants)-1]
	}
	if v.Anchors != nil {
		v.ends(report, seen, newest)
	}
	return report, nil
}

// ends looks at what the anchors tell besides the trails that are there.
func (v *AuditVerifier) ends(report *AuditReport, seen map[uuid.UUID]bool, newest time.Time) {
	for t, heads := range v.Anchors.Heads {
		if !seen[t] {
			report.add(AuditFinding{AuditCut, t, 1, newestOf(heads), "the tenant is not there; if it was deleted on purpose, say so by --deleted"})
		}
	}
	for _, fault := range v.Anchors.Faults {
		report.add(AuditFinding{Kind: AuditAnchors, Text: fault})
	}
	if newest.Sub(v.Anchors.Newest) > anchorLag {
		report.add(AuditFinding{Kind: AuditAnchors, Text: "the anchors end at " + v.Anchors.Newest.Format(time.RFC3339) +
			", entries at " + newest.Format(time.RFC3339) + ": anchors are missing"})
	}
}

func newestOf(heads map[int64][]byte) (last int64) {
	for seq := range heads {
		last = max(last, seq)
	}
	return last
}

func (r *AuditReport) add(f AuditFinding) {
	if len(r.Findings) >= maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, f)
}

// An auditWalk goes through one tenant's trail.
type auditWalk struct {
	v      *AuditVerifier
	report *AuditReport
	tenant uuid.UUID
	now    time.Time

	chain  int    // the one that fitted last
	prev   []byte // the MAC before
	last   int64  // the seq before
	newest time.Time

	bad      []misfit // the run of entries that do not fit, the last ones of it
	badFirst int64
	badCount int64
	odd      []misfit // such entries of finished runs
	unsealed []int64  // since the last seal, the first and the newest
	due      bool     // the first of them should be sealed
	forked   bool
}

// A misfit is an entry whose seal is another's.
type misfit struct {
	entry AuditEntry
	prev  []byte
	mac   []byte
}

func (w *auditWalk) run(ctx context.Context) error {
	ctx = WithTenant(ctx, w.tenant)
	for {
		page, err := w.v.Store.SealedAudit(ctx, w.last, verifyPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := w.step(e); err != nil {
				return err
			}
		}
		if len(page) < verifyPage {
			break
		}
	}
	w.end()
	return nil
}

func (w *auditWalk) find(kind string, from, to int64, text string) {
	w.report.add(AuditFinding{kind, w.tenant, from, to, text})
}

// step takes the next entry or seal.
func (w *auditWalk) step(e SealedEntry) error {
	gap := e.Seq != w.last+1
	if gap {
		w.flushBad(false)
		w.find(AuditRemoved, w.last+1, e.Seq-1, "entries are missing")
	}
	w.last = e.Seq
	w.anchored(e)
	if e.Entry == nil {
		w.flushBad(false)
		w.find(AuditRemoved, e.Seq, e.Seq, "the entry is missing, its seal is there")
		w.prev = e.MAC
		return nil
	}
	w.report.Entries++
	w.newest = e.Entry.At
	mac, ok, err := w.fits(e)
	if err != nil {
		return err
	}
	if e.MAC == nil {
		if w.unsealed = append(w.unsealed[:min(1, len(w.unsealed))], e.Seq); len(w.unsealed) == 1 {
			w.due = w.now.Sub(e.Entry.At) > sealPatience
		}
		w.prev = mac // who took the seal alone leaves the next one to fit
		return nil
	}
	w.flushUnsealed(true)
	switch {
	case ok:
		w.flushBad(false)
	case gap: // what it followed is gone with its seal: nothing can be said of it
	default:
		w.addBad(misfit{*e.Entry, w.prev, e.MAC})
	}
	w.prev = e.MAC
	return nil
}

// fits computes an entry's seal under the chain in use, or a later one.
func (w *auditWalk) fits(e SealedEntry) (mac []byte, ok bool, err error) {
	for i := w.chain; i < len(w.v.Chains); i++ {
		prev := w.prev
		if e.Seq == 1 {
			prev = w.v.Chains[i].Origin(w.tenant)
		}
		m, err := w.v.Chains[i].Next(prev, w.tenant, *e.Entry)
		if err != nil {
			return nil, false, err
		}
		if mac == nil {
			mac = m
		}
		if e.MAC != nil && hmac.Equal(m, e.MAC) {
			w.chain = i
			return m, true, nil
		}
	}
	return mac, false, nil
}

// anchored compares a seal with what the anchors have.
func (w *auditWalk) anchored(e SealedEntry) {
	if w.v.Anchors == nil || w.forked {
		return
	}
	if mac, ok := w.v.Anchors.Heads[w.tenant][e.Seq]; ok && e.MAC != nil && !hmac.Equal(mac, e.MAC) {
		w.forked = true
		w.find(AuditForked, e.Seq, e.Seq, "the anchor has another seal: what came before was written anew")
	}
}

func (w *auditWalk) addBad(m misfit) {
	if w.badCount == 0 {
		w.badFirst = m.entry.Seq
	}
	w.badCount++
	if len(w.bad) < maxUnmatched {
		w.bad = append(w.bad, m)
	}
}

// flushBad tells of a run of entries that do not fit.
func (w *auditWalk) flushBad(end bool) {
	if w.badCount == 0 {
		return
	}
	if end && w.badCount >= resealedAtEnd {
		w.find(AuditResealed, w.badFirst, w.badFirst+w.badCount-1, "sealed under another key, from here to the end")
	} else if w.badCount > maxUnmatched-int64(len(w.odd)) {
		w.find(AuditEdited, w.badFirst, w.badFirst+w.badCount-1, "entries are not what was sealed")
	} else {
		w.odd = append(w.odd, w.bad...)
	}
	w.bad, w.badCount = w.bad[:0], 0
}

func (w *auditWalk) flushUnsealed(among bool) {
	if n := len(w.unsealed); n > 0 && (among || w.due) {
		w.find(AuditUnsealed, w.unsealed[0], w.unsealed[n-1], "entries have no seal")
	} else if n > 0 {
		w.report.Pending += w.unsealed[n-1] - w.unsealed[0] + 1
	}
	w.unsealed = w.unsealed[:0]
}

// end tells of what is known only when all was seen.
func (w *auditWalk) end() {
	w.flushBad(true)
	w.flushUnsealed(false)
	for _, m := range w.odd {
		if seq := w.placeOf(m); seq != 0 {
			w.find(AuditMoved, m.entry.Seq, m.entry.Seq, fmt.Sprintf("this is entry %d", seq))
		} else {
			w.find(AuditEdited, m.entry.Seq, m.entry.Seq, "the entry is not what was sealed")
		}
	}
	if w.v.Anchors == nil {
		return
	}
	if last := newestOf(w.v.Anchors.Heads[w.tenant]); last > w.last {
		w.find(AuditCut, w.last+1, last, "the anchor has entries that are not there")
	}
}

// placeOf finds whose seal fits an entry; 0: nobody's.
func (w *auditWalk) placeOf(m misfit) int64 {
	for _, other := range w.odd {
		e := m.entry
		if e.Seq = other.entry.Seq; e.Seq == m.entry.Seq {
			continue
		}
		if mac, err := w.v.Chains[w.chain].Next(other.prev, w.tenant, e); err == nil && hmac.Equal(mac, other.mac) {
			return e.Seq
		}
	}
	return 0
}
