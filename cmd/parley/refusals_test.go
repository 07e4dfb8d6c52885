package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/egress"
)

// A trail keeps notes by tenant.
type trail struct {
	control.Audit
	notes map[uuid.UUID][]control.AuditEntry
}

func (r *trail) Note(ctx context.Context, e control.AuditEntry) error {
	if r.notes == nil {
		r.notes = map[uuid.UUID][]control.AuditEntry{}
	}
	of, _ := control.TenantOf(ctx)
	r.notes[of] = append(r.notes[of], e)
	return nil
}

func (r *trail) of(tenant uuid.UUID) string {
	var out []string
	for _, e := range r.notes[tenant] {
		out = append(out, e.Action+" "+e.Object)
	}
	return strings.Join(out, ", ")
}

// What a redirect or a name that changes its mind leads to inside is audited as
// an address is.
func TestRefusalsAreAudited(t *testing.T) {
	for name, tt := range map[string]struct {
		answers []string // of the name, one a look-up
		want    string
	}{
		"name":      {[]string{"10.0.0.7"}, "egress.refuse host:shop.example:80"},
		"rebinding": {[]string{"93.184.216.34", "127.0.0.1"}, "egress.refuse host:shop.example:80"},
		"redirect":  {[]string{"93.184.216.34"}, "egress.refuse host:192.168.0.1:80"},
	} {
		t.Run(name, func(t *testing.T) {
			var trail trail
			client, err := egress.New(egress.Options{
				Resolver: names{&tt.answers}, Audit: refusals(&trail, slog.New(slog.DiscardHandler)),
				Dial: func(context.Context, string, string) (net.Conn, error) {
					return redirecting(t, "http://192.168.0.1/"), nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			tenant := uuid.New()
			ctx := control.WithTenant(t.Context(), tenant)
			for range len(tt.answers) { // a connection each: what was looked up before does not count
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://shop.example/", nil)
				_, err = client.Do(req)
				client.Close()
			}
			var refused *egress.Refusal
			if !errors.As(err, &refused) || !strings.HasSuffix(trail.of(tenant), tt.want) {
				t.Errorf("%v, audited %q, want %q", err, trail.of(tenant), tt.want)
			}
			for _, e := range trail.notes[tenant] {
				if strings.Contains(string(e.Detail), ".0.") {
					t.Errorf("the tenant is told an address: %s", e.Detail)
				}
			}
		})
	}
}

// names answers every look-up with the next address; the last one stays.
type names struct{ left *[]string }

func (n names) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	a := (*n.left)[0]
	if len(*n.left) > 1 {
		*n.left = (*n.left)[1:]
	}
	return []netip.Addr{netip.MustParseAddr(a)}, nil
}

// redirecting is a server's connection that answers one request.
func redirecting(t *testing.T, to string) net.Conn {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = theirs.Close() })
	go func() {
		defer theirs.Close()
		if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
			fmt.Fprintf(theirs, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", to)
		}
	}()
	return ours
}
