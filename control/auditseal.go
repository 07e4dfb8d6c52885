package control

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// An AuditSeal is the chain's MAC of an entry.
type AuditSeal struct {
	Seq int64
	MAC []byte
}

// An AuditHead is the newest seal of a tenant.
type AuditHead struct {
	Tenant uuid.UUID
	AuditSeal
}

// A SealedEntry is an entry with its seal. What is missing of the two is nil.
type SealedEntry struct {
	Seq   int64
	Entry *AuditEntry
	MAC   []byte
}

// AuditSeals keeps the seals beside the entries.
type AuditSeals interface {
	// LocateUnsealed returns some tenants with entries that are not sealed.
	LocateUnsealed(ctx context.Context) ([]Located, error)
	// LocateAudited returns the tenants whose ids come after one, in their order.
	LocateAudited(ctx context.Context, after uuid.UUID, most int) ([]uuid.UUID, error)
	// SealAudit gives seal the last seal of ctx's tenant (Seq 0: none) and at
	// most so many entries behind it, and writes what it returns. Where another
	// process is at it, nothing happens. It returns how many were sealed.
	SealAudit(ctx context.Context, most int, seal func(last AuditSeal, entries []AuditEntry) ([]AuditSeal, error)) (int, error)
	// AuditHeads returns the heads of tenants that have one.
	AuditHeads(ctx context.Context, tenants []uuid.UUID) ([]AuditHead, error)
	// SealedAudit returns ctx's tenant's entries and seals after a seq, in order.
	SealedAudit(ctx context.Context, after int64, most int) ([]SealedEntry, error)
}

const (
	sealEvery   = 500 * time.Millisecond
	sealBatch   = 1000
	anchorEvery = time.Minute
	sealLast    = 2 * time.Second // for sealing once more at the end
)

// An AuditSealer seals what commits, and anchors it. All processes run one: who
// comes first to a tenant seals it, and each anchors for itself.
type AuditSealer struct {
	Store  AuditSeals
	Chain  *AuditChain
	Anchor *AuditAnchor // nil: none
	Log    *slog.Logger
	// Noted is told how many entries were sealed. It may be nil.
	Noted func(n int)
	// Every is the time between two looks, AnchorEvery between anchors. Defaults
	// 500 ms and a minute. A look over very many tenants takes longer, and is
	// then made less often.
	Every, AnchorEvery time.Duration

	heads map[uuid.UUID]AuditSeal // the last that this process has sealed
}

// Run seals until ctx ends, and once more after it.
func (s *AuditSealer) Run(ctx context.Context) error {
	anchor := time.NewTicker(cmp.Or(s.AnchorEvery, anchorEvery))
	defer anchor.Stop()
	look := time.NewTimer(0)
	defer look.Stop()
	first, away := true, false
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-anchor.C:
			s.anchor(ctx)
		case <-look.C:
			began := time.Now()
			err := s.Pass(ctx)
			if err != nil && ctx.Err() == nil && !(away && errors.Is(err, ErrUnavailable)) {
				s.Log.Error("entries of the audit trail are not sealed yet", "error", err)
			}
			away = err != nil
			if first && err == nil {
				s.anchor(ctx)
				first = false
			}
			look.Reset(max(cmp.Or(s.Every, sealEvery), 20*time.Since(began)))
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), sealLast)
	defer cancel()
	if err := s.Pass(last); err != nil {
		s.Log.Warn("the last entries of the audit trail are sealed by another process, or at the next start", "error", err)
		return nil
	}
	s.anchor(last)
	return nil
}

// Pass seals all that is not sealed.
func (s *AuditSealer) Pass(ctx context.Context) error {
	for {
		list, err := s.Store.LocateUnsealed(ctx)
		if err != nil || len(list) == 0 {
			return err
		}
		sealed := 0
		for _, at := range list {
			n, err := s.seal(WithTenant(ctx, at.Tenant), at.Tenant)
			sealed += n
			if err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
				s.Log.Error("a tenant's audit trail is not sealed", "tenant", at.Tenant, "error", err)
				continue
			}
			if err != nil {
				return err
			}
		}
		if sealed == 0 { // others are at it
			return nil
		}
	}
}

// seal seals what a tenant has.
func (s *AuditSealer) seal(ctx context.Context, tenant uuid.UUID) (sealed int, err error) {
	for n := sealBatch; n == sealBatch; sealed += n {
		var head AuditSeal
		n, err = s.Store.SealAudit(ctx, sealBatch, func(last AuditSeal, entries []AuditEntry) ([]AuditSeal, error) {
			s.check(tenant, last)
			seals, err := s.extend(tenant, last, entries)
			if len(seals) > 0 {
				head = seals[len(seals)-1]
			}
			return seals, err
		})
		if err != nil {
			return sealed, err
		}
		if n > 0 {
			if s.heads == nil {
				s.heads = map[uuid.UUID]AuditSeal{}
			}
			s.heads[tenant] = head
		}
		if n > 0 && s.Noted != nil {
			s.Noted(n)
		}
	}
	return sealed, nil
}

// check tells of a chain that has become shorter, or another, since this
// process saw it: nothing of ours does that.
func (s *AuditSealer) check(tenant uuid.UUID, last AuditSeal) {
	had, ok := s.heads[tenant]
	if ok && (last.Seq < had.Seq || last.Seq == had.Seq && !bytes.Equal(last.MAC, had.MAC)) {
		s.Log.Error("the audit trail was altered in the database: run parley audit verify", "tenant", tenant, "had", had.Seq, "has", last.Seq)
	}
}

// extend seals entries that follow last. Where one is missing it goes on all
// the same: that it is missing shows by its number.
func (s *AuditSealer) extend(tenant uuid.UUID, last AuditSeal, entries []AuditEntry) ([]AuditSeal, error) {
	prev, seq := last.MAC, last.Seq
	if seq == 0 {
		prev = s.Chain.Origin(tenant)
	}
	seals := make([]AuditSeal, 0, len(entries))
	for _, e := range entries {
		if e.Seq != seq+1 {
			s.Log.Error("entries of the audit trail were removed before they were sealed", "tenant", tenant, "first", seq+1, "last", e.Seq-1)
		}
		mac, err := s.Chain.Next(prev, tenant, e)
		if err != nil {
			return nil, err
		}
		prev, seq = mac, e.Seq
		seals = append(seals, AuditSeal{e.Seq, mac})
	}
	return seals, nil
}

// AnchorNow puts the heads outside.
func (s *AuditSealer) AnchorNow(ctx context.Context) error {
	if s.Anchor == nil {
		return nil
	}
	return s.Anchor.take(ctx, s.Store)
}

func (s *AuditSealer) anchor(ctx context.Context) {
	if err := s.AnchorNow(ctx); err != nil && ctx.Err() == nil {
		s.Log.Error("the audit trail is not anchored: what is cut off its end would not show", "error", err)
	}
}
