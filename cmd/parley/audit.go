package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
	"parley/store/postgres"
)

// newAuditMetrics counts what is sealed.
func newAuditMetrics(reg prometheus.Registerer) func(int) {
	sealed := prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_audit_sealed_total", Help: "Entries of audit trails that this process has sealed."})
	reg.MustRegister(sealed)
	return func(n int) { sealed.Add(float64(n)) }
}

// auditCommand looks at the audit trail, without a server.
type auditCommand struct {
	Verify auditVerify `cmd:"" help:"Find what was edited, moved, removed or cut off in the audit trail."`
	Export auditExport `cmd:"" help:"Write a tenant's audit trail with its seals, a JSON object a line."`
}

type auditFlags struct {
	databaseFlag
	KeyFile []string `name:"key-file" env:"PARLEY_KEY_FILE" help:"The gateway's key file. Where it was changed: all of them, the oldest first. Default: the one that parley dev made in the data folder."`
}

func (f auditFlags) open(ctx context.Context) (*postgres.Store, []*control.Keyring, error) {
	address, err := f.url()
	if err != nil {
		return nil, nil, err
	}
	if len(f.KeyFile) == 0 {
		f.KeyFile = []string{filepath.Join(f.Data, "key")}
	}
	var rings []*control.Keyring
	for _, path := range f.KeyFile {
		ring, err := readKeyring(path)
		if err != nil {
			return nil, nil, usageError{err}
		}
		rings = append(rings, ring)
	}
	store, err := postgres.Open(ctx, address, postgres.Options{MaxConns: 2, Statement: time.Minute})
	if err != nil {
		return nil, nil, usageError{err}
	}
	if err := store.Verify(ctx); err != nil {
		store.Close()
		return nil, nil, usageError{err}
	}
	return store, rings, nil
}

type auditVerify struct {
	auditFlags
	Anchor   []string    `name:"anchor" placeholder:"PATH" help:"File or folder of anchors; give all there are. Default: PARLEY_AUDIT_ANCHOR, else audit-anchors in the data folder."`
	Setting  string      `name:"audit-anchor" env:"PARLEY_AUDIT_ANCHOR" hidden:""`
	NoAnchor bool        `name:"no-anchor" help:"Look at the chains alone: what was cut off their ends does not show."`
	Deleted  []uuid.UUID `name:"deleted" placeholder:"TENANT" help:"A tenant that was deleted on purpose."`
	JSON     bool        `name:"json" help:"Print one JSON object."`
}

// Help shows an example.
func (auditVerify) Help() string {
	return "Example:\n  parley audit verify --key-file /run/secrets/parley --anchor /mnt/worm/parley\n\n" +
		"Exit status: 0 it holds, 1 something was found, 2 it could not be looked at, or the command was called wrongly."
}

// verdict is what is printed as JSON.
type verdict struct {
	Holds    bool                   `json:"holds"`
	Tenants  int                    `json:"tenants"`
	Entries  int64                  `json:"entries"`
	Pending  int64                  `json:"pending"`
	Anchors  int                    `json:"anchors"`
	Anchored *time.Time             `json:"anchored_at"`
	Findings []control.AuditFinding `json:"findings"`
	More     int                    `json:"more_findings,omitempty"`
	Seconds  float64                `json:"seconds"`
}

// Run verifies all tenants' trails.
func (c auditVerify) Run(ctx context.Context, io stdio) error {
	store, rings, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	v := &control.AuditVerifier{Store: store}
	for _, ring := range rings {
		v.Chains = append(v.Chains, control.NewAuditChain(ring))
	}
	out := verdict{Findings: []control.AuditFinding{}}
	if !c.NoAnchor {
		if v.Anchors, err = c.anchors(rings); err != nil {
			return usageError{err}
		}
		for _, t := range c.Deleted {
			delete(v.Anchors.Heads, t)
		}
		out.Anchors, out.Anchored = v.Anchors.Records, &v.Anchors.Newest
	}
	began := time.Now()
	report, err := v.Verify(ctx)
	if err != nil {
		return usageError{err} // not that it does not hold: that nobody knows
	}
	out.Holds, out.Tenants, out.Entries, out.Pending, out.More = report.Holds(), report.Tenants, report.Entries, report.Pending, report.More
	out.Findings = append(out.Findings, report.Findings...)
	out.Seconds = math.Round(time.Since(began).Seconds()*1000) / 1000
	c.print(io, out)
	if !out.Holds {
		return errSaid
	}
	return nil
}

// anchors reads those that are named, or those of the settings.
func (c auditVerify) anchors(rings []*control.Keyring) (*control.Anchored, error) {
	paths := c.Anchor
	if len(paths) == 0 {
		paths = []string{Settings{AuditAnchor: c.Setting, Data: c.Data}.anchorPath()}
	}
	a, err := readAnchors(paths, rings)
	if err == nil && a.Records == 0 && len(a.Faults) == 0 {
		err = errors.New("there are no anchors: name them by --anchor, or say --no-anchor")
	}
	return a, err
}

func (c auditVerify) print(io stdio, v verdict) {
	if c.JSON {
		printJSON(io.out, v)
		return
	}
	for _, f := range v.Findings {
		if f.Kind == control.AuditAnchors {
			fmt.Fprintf(io.out, "%-9s %s\n", f.Kind, f.Text)
			continue
		}
		at := fmt.Sprintf("entry %d", f.Seq)
		if f.Last > f.Seq {
			at = fmt.Sprintf("entries %d to %d", f.Seq, f.Last)
		}
		fmt.Fprintf(io.out, "%-9s tenant %s, %s: %s\n", f.Kind, f.Tenant, at, f.Text)
	}
	word := "holds"
	if !v.Holds {
		word = fmt.Sprintf("does not hold: %d findings", len(v.Findings)+v.More)
	}
	fmt.Fprintf(io.out, "The audit trail %s. %d entries of %d tenants in %.1f s, %d not sealed yet, %d anchors.\n",
		word, v.Entries, v.Tenants, v.Seconds, v.Pending, v.Anchors)
}

type auditExport struct {
	auditFlags
	Tenant uuid.UUID `name:"tenant" required:"" help:"Whose trail."`
	After  int64     `name:"after" help:"Begin behind this entry."`
}

// Help shows an example.
func (auditExport) Help() string {
	return "Example:\n  parley audit export --tenant 0192f0c1-2345-7000-8000-000000000001 > audit.ndjson\n\nThe export itself is noted in the trail."
}

// Run writes the trail to standard output.
func (c auditExport) Run(ctx context.Context, io stdio) error {
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if all, err := store.LocateAudited(ctx, before(c.Tenant), 1); err != nil || !slices.Contains(all, c.Tenant) {
		return usageError{errors.Join(err, errors.New("there is no such tenant"))}
	}
	out := json.NewEncoder(io.out)
	x := control.AuditExport{After: c.After, Most: math.MaxInt64}
	_, _, err = x.Write(control.WithTenant(ctx, c.Tenant), store, store, func(e control.SealedEntry) error {
		return out.Encode(e.Line(c.Tenant.String()))
	})
	return err
}

// before is the id that comes before another in order.
func before(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]--; id[i] != 0xff {
			break
		}
	}
	return id
}
