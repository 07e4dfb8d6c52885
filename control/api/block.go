package api

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"parley/control"
	"parley/control/ingress"
)

type blockJSON struct {
	Network string    `json:"network" doc:"An address, or a network such as 2001:db8::/64."`
	Until   time.Time `json:"until"`
	Reason  string    `json:"reason" doc:"The signal that made it, or an administrator's words."`
	By      string    `json:"by,omitempty" doc:"Who made it; absent if the program did."`
}

func newBlockJSON(b ingress.Block) blockJSON {
	return blockJSON{ingress.Name(b.Network), b.Until.UTC().Truncate(time.Second), b.Reason, b.By}
}

// blocks are routes of the list that keeps networks out, of all tenants at
// once: platform administrators' alone.
func (s *Server) blocks() error {
	return errors.Join(
		operation(s, reads("/v1/security/blocks", control.Platform), "list-blocks", "List networks that are kept out", 200, s.listBlocks),
		operation(s, writes("POST", "/v1/security/blocks", control.Platform, 4<<10), "add-block", "Keep a network out for a time", 201, s.addBlock),
		operation(s, writes("POST", "/v1/security/blocks/lift", control.Platform, 4<<10), "lift-block", "Let a network in again", 204, s.liftBlock),
	)
}

var errNoBlocks = newProblem(503, "unavailable", "this server keeps no list of blocked networks")

func (s *Server) listBlocks(context.Context, *struct{}) (*listOut[blockJSON], error) {
	if s.o.Gate.Blocks == nil {
		return nil, errNoBlocks
	}
	all := s.o.Gate.Blocks.All()
	slices.SortFunc(all, func(a, b ingress.Block) int {
		return cmp.Or(a.Until.Compare(b.Until), strings.Compare(a.Network.String(), b.Network.String()))
	})
	out := &listOut[blockJSON]{Body: list[blockJSON]{Items: make([]blockJSON, len(all))}}
	for i, b := range all {
		out.Body.Items[i] = newBlockJSON(b)
	}
	return out, nil
}

// BlockIn names a network; exported for huma, which fills it.
type BlockIn struct {
	Network string `json:"network" maxLength:"50" doc:"An address, or a network such as 192.0.2.0/24. Of an IPv6 address its /64 is meant."`
}

func (in BlockIn) network() (netip.Prefix, error) {
	if a, err := netip.ParseAddr(in.Network); err == nil && a.Zone() == "" {
		return ingress.Network(a), nil
	}
	p, err := netip.ParsePrefix(in.Network)
	if err != nil {
		return p, control.Invalidf("network", "must be an address or a network such as 192.0.2.0/24")
	}
	return p.Masked(), nil
}

func (s *Server) addBlock(ctx context.Context, in *struct {
	Body struct {
		BlockIn
		Seconds int    `json:"seconds" minimum:"1" maximum:"2592000"`
		Reason  string `json:"reason" minLength:"1" maxLength:"200"`
	}
}) (*reply[blockJSON], error) {
	network, err := in.Body.network()
	if err != nil {
		return nil, err
	}
	if s.o.Gate.Blocks == nil {
		return nil, errNoBlocks
	}
	b := ingress.Block{Network: network, Until: time.Now().Add(time.Duration(in.Body.Seconds) * time.Second),
		Reason: in.Body.Reason, By: control.ActorOf(ctx)}
	switch err := s.o.Gate.Blocks.Add(ctx, b); {
	case errors.Is(err, ingress.ErrExempt):
		return nil, control.Invalidf("network", "holds this machine or a trusted proxy, or is wider than a /8")
	case errors.Is(err, ingress.ErrBlockFull):
		return nil, newProblem(409, "full", "as many networks are blocked as can be; lift some first")
	case err != nil:
		s.o.Log.Error("a block holds on this node alone", "error", err)
		return nil, newProblem(503, "unavailable", "it holds on one node alone; try again shortly")
	}
	return &reply[blockJSON]{newBlockJSON(b)}, s.noteBlock(ctx, "block.add", b.Network)
}

func (s *Server) liftBlock(ctx context.Context, in *struct{ Body BlockIn }) (*struct{}, error) {
	network, err := in.Body.network()
	if err != nil {
		return nil, err
	}
	if s.o.Gate.Blocks == nil {
		return nil, errNoBlocks
	}
	there, err := s.o.Gate.Blocks.Lift(ctx, network)
	if err != nil {
		s.o.Log.Error("a block is not lifted", "error", err)
		return nil, newProblem(503, "unavailable", "try again shortly")
	}
	if !there {
		return nil, control.ErrNotFound
	}
	return nil, s.noteBlock(ctx, "block.lift", network)
}

// noteBlock audits a change of the list, in the tenant of who made it. The
// network is the client's, hence a pseudonym.
func (s *Server) noteBlock(ctx context.Context, action string, network netip.Prefix) error {
	return s.o.Audit.Note(ctx, control.AuditEntry{Action: action, Object: "network:" + ingress.Pseudonym(s.o.Gate.Key, ingress.Name(network))})
}
