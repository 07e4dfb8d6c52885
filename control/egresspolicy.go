package control

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// An EgressPolicy is where a tenant's flows and webhooks may call, and how much
// in an hour. It narrows what the operator allows and never widens it.
type EgressPolicy struct {
	// Hosts that may be called: "api.example.com", "*.example.com" for all below
	// it, either with ":port". Empty: whatever is public.
	Hosts     []string
	Calls     int64 // an hour; 0: no bound of the tenant's own
	Bytes     int64 // of bodies, both ways
	Seconds   int64 // from sending to the whole answer
	Revision  int   // 0: nobody has said anything yet
	UpdatedAt time.Time
}

// EgressPolicies keeps them.
type EgressPolicies interface {
	// EgressPolicy returns that of ctx's tenant, the zero one if there is none.
	EgressPolicy(ctx context.Context) (EgressPolicy, error)
	// PutEgressPolicy replaces it, if its revision is as given; 0 for none yet;
	// -1 for whichever. ErrConflict.
	PutEgressPolicy(ctx context.Context, p EgressPolicy, revision int) (EgressPolicy, error)
}

// MaxEgressHosts is how many hosts a tenant may list.
const MaxEgressHosts = 200

var hostForm = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(:[1-9][0-9]{0,4})?$`)

// Clean returns the policy in the form that is kept, or an [*Invalid].
func (p EgressPolicy) Clean() (EgressPolicy, error) {
	if len(p.Hosts) > MaxEgressHosts {
		return p, Invalidf("hosts", "must be at most %d", MaxEgressHosts)
	}
	hosts := make([]string, 0, len(p.Hosts))
	for i, h := range p.Hosts {
		h = strings.ToLower(strings.TrimSpace(h))
		if _, err := netip.ParseAddr(strings.Trim(h, "[]")); err != nil && (len(h) > 253+6 || !hostForm.MatchString(h)) {
			return p, Invalidf(fmt.Sprintf("hosts[%d]", i), "must be a host such as api.example.com, *.example.com or api.example.com:8443")
		}
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	p.Hosts = slices.Compact(hosts)
	for field, n := range map[string]int64{"calls": p.Calls, "bytes": p.Bytes, "seconds": p.Seconds} {
		if n < 0 || n > 1<<50 {
			return p, Invalidf(field, "must be 0, for no bound, to %d", int64(1)<<50)
		}
	}
	return p, nil
}

// EgressRules tells processes what tenants' policies say, without asking
// storage each time. Safe for use by several goroutines.
type EgressRules struct {
	Store EgressPolicies
	// Fresh is how long a policy is taken for what it is. Default 5 s. Where
	// storage is away the last known one holds; who is unknown then may not call.
	Fresh time.Duration

	mu    sync.Mutex
	known map[uuid.UUID]knownPolicy
}

type knownPolicy struct {
	EgressPolicy
	at time.Time
}

// maxKnownPolicies bounds what is remembered; beyond, all is asked for again.
const maxKnownPolicies = 10_000

// Of returns the policy of ctx's tenant.
func (r *EgressRules) Of(ctx context.Context) (EgressPolicy, error) {
	tenant, ok := TenantOf(ctx)
	if !ok {
		return EgressPolicy{}, nil
	}
	r.mu.Lock()
	had, known := r.known[tenant]
	r.mu.Unlock()
	if known && time.Since(had.at) < cmp.Or(r.Fresh, 5*time.Second) {
		return had.EgressPolicy, nil
	}
	p, err := r.Store.EgressPolicy(ctx)
	if err != nil {
		if known {
			return had.EgressPolicy, nil
		}
		return p, fmt.Errorf("read where the tenant may call: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= maxKnownPolicies {
		r.known = map[uuid.UUID]knownPolicy{}
	}
	r.known[tenant] = knownPolicy{p, time.Now()}
	return p, nil
}
