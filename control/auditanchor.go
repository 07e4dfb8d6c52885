package control

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// An AuditAnchor notes the heads of all chains where whoever edits the database
// cannot. It is of one process, and not safe for use by several goroutines.
//
// Its records are JSON lines. A run of them begins with one that holds every
// head, goes on with those that have changed, and is a chain of MACs of its own,
// so that a record which is changed or missing within it shows. A new run begins
// with each process, each day, and after a record that could not be put.
type AuditAnchor struct {
	// Put adds a line, without its end, to what is only ever added to.
	Put  func(ctx context.Context, line []byte) error
	Log  *slog.Logger
	Ring *Keyring

	run  AuditRecord         // the last record put
	told map[uuid.UUID]int64 // seq that this run has told of each tenant
}

// An AuditRecord is a line of an anchor.
type AuditRecord struct {
	At      time.Time      `json:"at"`
	Run     uuid.UUID      `json:"run"`
	N       int            `json:"n"` // counts from 1 in the run
	Tenants int            `json:"tenants"`
	Heads   []AnchoredHead `json:"heads"`
	Prev    []byte         `json:"prev,omitempty"` // MAC of the record before in the run
	MAC     []byte         `json:"mac,omitempty"`
}

// An AnchoredHead is a chain's head as a record has it.
type AnchoredHead struct {
	Tenant uuid.UUID `json:"tenant"`
	Seq    int64     `json:"seq"`
	MAC    []byte    `json:"mac"`
}

// mac is the record's own, over all of it but that.
func (r AuditRecord) mac(ring *Keyring) ([]byte, error) {
	r.MAC = nil
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write an anchor: %w", err)
	}
	m := hmac.New(sha256.New, ring.Key("audit-anchor"))
	m.Write(text)
	return m.Sum(nil), nil
}

// anchorTenants is how many tenants' heads are read at once.
const anchorTenants = 500

// take puts a record of what has changed since the last.
func (a *AuditAnchor) take(ctx context.Context, store AuditSeals) (err error) {
	r := AuditRecord{At: time.Now().UTC().Truncate(time.Millisecond), Run: a.run.Run, N: a.run.N + 1, Prev: a.run.MAC, Heads: []AnchoredHead{}}
	if a.told == nil || r.At.YearDay() != a.run.At.YearDay() {
		a.told, r.Run, r.N, r.Prev = map[uuid.UUID]int64{}, NewID(), 1, nil
	}
	var after uuid.UUID
	for {
		tenants, err := store.LocateAudited(ctx, after, anchorTenants)
		if err != nil || len(tenants) == 0 {
			if err != nil {
				return err
			}
			break
		}
		heads, err := store.AuditHeads(ctx, tenants)
		if err != nil {
			return err
		}
		r.Tenants += len(tenants)
		for _, h := range heads {
			if a.told[h.Tenant] != h.Seq {
				r.Heads = append(r.Heads, AnchoredHead{h.Tenant, h.Seq, h.MAC})
			}
		}
		after = tenants[len(tenants)-1]
	}
	return a.put(ctx, r)
}

func (a *AuditAnchor) put(ctx context.Context, r AuditRecord) (err error) {
	if r.MAC, err = r.mac(a.Ring); err != nil {
		return err
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write an anchor: %w", err)
	}
	if err := a.Put(ctx, line); err != nil {
		a.told = nil // what arrived of it is unknown: another run
		return fmt.Errorf("put an anchor: %w", err)
	}
	for _, h := range r.Heads {
		a.told[h.Tenant] = h.Seq
	}
	a.run = r
	level := slog.LevelDebug
	if len(r.Heads) > 0 {
		level = slog.LevelInfo
	}
	a.Log.Log(ctx, level, "audit trail anchored", "run", r.Run, "number", r.N, "tenants", r.Tenants, "heads", len(r.Heads), "mac", base64.StdEncoding.EncodeToString(r.MAC))
	return nil
}

// Anchored is what anchors tell of the chains.
type Anchored struct {
	Records int
	Newest  time.Time                      // of the records
	Heads   map[uuid.UUID]map[int64][]byte // tenant, seq, MAC
	Faults  []string                       // what is wrong with the records themselves

	runs map[uuid.UUID]map[int]AuditRecord
}

// ReadAnchor adds a line to what anchors tell, in any order. What none of the
// rings has signed is a fault.
func (a *Anchored) ReadAnchor(line []byte, rings ...*Keyring) {
	var r AuditRecord
	if json.Unmarshal(line, &r) != nil || r.N < 1 {
		a.Faults = append(a.Faults, fmt.Sprintf("a line of %d bytes is no record", len(line)))
		return
	}
	if !signedBy(r, rings) {
		a.Faults = append(a.Faults, fmt.Sprintf("record %d of run %s is altered, or of another key file", r.N, r.Run))
		return
	}
	if a.runs == nil {
		a.runs, a.Heads = map[uuid.UUID]map[int]AuditRecord{}, map[uuid.UUID]map[int64][]byte{}
	}
	if a.runs[r.Run] == nil {
		a.runs[r.Run] = map[int]AuditRecord{}
	}
	for _, h := range r.Heads {
		if a.Heads[h.Tenant] == nil {
			a.Heads[h.Tenant] = map[int64][]byte{}
		}
		a.Heads[h.Tenant][h.Seq] = h.MAC
	}
	if r.At.After(a.Newest) {
		a.Newest = r.At
	}
	r.Heads = nil
	a.runs[r.Run][r.N] = r
	a.Records++
}

func signedBy(r AuditRecord, rings []*Keyring) bool {
	for _, ring := range rings {
		if mac, err := r.mac(ring); err == nil && hmac.Equal(mac, r.MAC) {
			return true
		}
	}
	return false
}

// Finish looks for records that are missing within their runs.
func (a *Anchored) Finish() {
	for run, records := range a.runs {
		last := 0
		for n := range records {
			last = max(last, n)
		}
		for n := 1; n <= last; n++ {
			r, ok := records[n]
			switch before, had := records[n-1]; {
			case !ok:
				a.Faults = append(a.Faults, fmt.Sprintf("record %d of run %s is missing", n, run))
			case had && !bytes.Equal(r.Prev, before.MAC):
				a.Faults = append(a.Faults, fmt.Sprintf("record %d of run %s does not follow the one before", n, run))
			}
		}
	}
	a.runs = nil
}
