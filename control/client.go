package control

import (
	"context"
	"net/netip"
)

type clientKey struct{}

// WithClient returns ctx for work that a request from this address asked for:
// the client's own, as far as trusted proxies tell.
func WithClient(ctx context.Context, a netip.Addr) context.Context {
	return context.WithValue(ctx, clientKey{}, a)
}

// ClientOf returns the address of the client that asked for the work of ctx;
// an invalid one if none did.
func ClientOf(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(clientKey{}).(netip.Addr)
	return a
}
