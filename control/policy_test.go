package control

import (
	"errors"
	"testing"

	"github.com/google/uuid"
)

func TestAllow(t *testing.T) {
	tenant, other, ag := uuid.New(), uuid.New(), uuid.New()
	tests := []struct {
		name string
		p    Principal
		perm Permission
		o    Object
		want error
	}{
		{"nobody", Principal{}, CallsRead, Object{}, ErrCredentials},
		{"public", Principal{}, Anyone, Object{}, nil},
		{"key-scope", Principal{Kind: PrincipalKey, Tenant: tenant, Scopes: []Permission{CallsRead}}, CallsRead, Object{Tenant: tenant}, nil},
		{"key-without", Principal{Kind: PrincipalKey, Tenant: tenant, Scopes: []Permission{CallsRead}}, CallsListen, Object{}, ErrForbidden},
		{"other-tenant", Principal{Kind: PrincipalKey, Tenant: tenant, Scopes: Scopes()}, CallsRead, Object{Tenant: other}, ErrNotFound},
		{"viewer-reads", Principal{Kind: PrincipalUser, Tenant: tenant, Role: RoleViewer}, CallsRead, Object{}, nil},
		{"viewer-writes", Principal{Kind: PrincipalUser, Tenant: tenant, Role: RoleViewer}, AgentsWrite, Object{}, ErrForbidden},
		{"owner", Principal{Kind: PrincipalUser, Tenant: tenant, Role: RoleOwner}, KeysManage, Object{}, nil},
		{"no-role", Principal{Kind: PrincipalUser, Tenant: tenant, Role: "x"}, CallsRead, Object{}, ErrForbidden},
		{"token-its-agent", Principal{Kind: PrincipalCallToken, Tenant: tenant, Agent: ag, Scopes: []Permission{CallsStart}}, CallsStart, Object{Agent: ag}, nil},
		{"token-other-agent", Principal{Kind: PrincipalCallToken, Tenant: tenant, Agent: ag, Scopes: []Permission{CallsStart}}, CallsStart, Object{Agent: other}, ErrForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := Allow(tt.p, tt.perm, tt.o); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("Allow = %v, want %v", err, tt.want)
			}
		})
	}
}
