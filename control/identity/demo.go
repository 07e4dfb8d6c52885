package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"parley/control"
)

// Demo is what `parley dev` starts with.
type Demo struct {
	AdminEmail    string
	AdminPassword string // used where the admin is made; else left alone
	Flow          []byte // document of the front desk
	Prompt        bool   // a model is at hand: make the prompt agent too
}

// DemoMade tells what is there now.
type DemoMade struct {
	Tenant  uuid.UUID
	Agents  []control.Agent
	Created bool   // the tenant was made just now; AdminPassword is in force
	APIKey  string // only if it was made just now
}

// DemoServices are what EnsureDemo works with.
type DemoServices struct {
	Users   *Users
	Tenants TenantStore
	Keys    *Keys
	Flows   *control.Flows
	Agents  *control.Agents
}

// EnsureDemo makes what is missing of the demo tenant and changes nothing that
// is there. With renew it makes a new API key and sets the admin's password:
// for a start that has lost the file with the old ones.
func EnsureDemo(ctx context.Context, s DemoServices, d Demo, renew bool) (DemoMade, error) {
	var made DemoMade
	all, err := s.Users.Store.LocateUser(ctx, d.AdminEmail)
	if err != nil {
		return made, err
	}
	at := control.Located{Tenant: control.NewID(), ID: control.NewID()}
	if len(all) > 0 {
		at = all[0]
	} else {
		made.Created, renew = true, false
		hash, err := s.Users.Hasher.Hash(ctx, d.AdminPassword)
		if err != nil {
			return made, err
		}
		u := User{ID: at.ID, Email: d.AdminEmail, Name: "Administrator", PasswordHash: hash, Role: control.RoleOwner, Platform: true}
		if err := s.Tenants.InsertTenant(ctx, Tenant{ID: at.Tenant, Name: "Demo"}, u); err != nil {
			return made, fmt.Errorf("make the demo tenant: %w", err)
		}
	}
	made.Tenant = at.Tenant
	ctx = control.WithTenant(ctx, at.Tenant)
	if err := s.Users.Store.SetPlatform(ctx, at.ID, true); err != nil {
		return made, fmt.Errorf("make the demo admin look after tenants: %w", err)
	}
	if renew {
		hash, err := s.Users.Hasher.Hash(ctx, d.AdminPassword)
		if err == nil {
			err = s.Users.Store.SetPassword(ctx, at.ID, hash)
		}
		if err != nil {
			return made, fmt.Errorf("set the demo admin's password: %w", err)
		}
	}
	if made.Created || renew {
		if _, made.APIKey, err = s.Keys.Create(ctx, Key{Name: "demo", Scopes: control.Scopes()}); err != nil {
			return made, err
		}
	}
	return made, ensureDemoAgents(ctx, s, d, &made)
}

func ensureDemoAgents(ctx context.Context, s DemoServices, d Demo, made *DemoMade) error {
	f, err := s.Flows.Store.FlowByName(ctx, "front-desk")
	if errors.Is(err, control.ErrNotFound) {
		f, _, err = s.Flows.Create(ctx, "front-desk", d.Flow)
	}
	if err == nil && f.In(control.Live).Published == uuid.Nil {
		_, err = s.Flows.Releases().Publish(ctx, f.ID, control.Release{}, 0)
	}
	if err != nil {
		return fmt.Errorf("make the demo flow: %w", err)
	}
	want := []control.Agent{{Name: "front-desk", Public: true, Settings: control.AgentSettings{
		Kind: control.KindFlow, FlowID: f.ID, Language: "en-US", Record: true}}}
	if d.Prompt {
		want = append(want, control.Agent{Name: "assistant", Public: true, Settings: control.AgentSettings{
			Kind: control.KindPrompt, Language: "en-US", Record: true,
			Greeting: "Hello, this is Parley. How can I help?",
			Prompt: "You answer the telephone for Parley, a voice agent gateway. Speak in one or two short " +
				"sentences, plainly and warmly. Say so when you do not know. End the call when the caller is done.",
			Tools: []string{"end_call"}}})
	}
	for _, a := range want {
		have, err := s.Agents.Store.AgentByName(ctx, a.Name)
		if errors.Is(err, control.ErrNotFound) {
			have, err = s.Agents.Create(ctx, a)
		}
		if err != nil {
			return fmt.Errorf("make the demo agent %s: %w", a.Name, err)
		}
		made.Agents = append(made.Agents, have)
	}
	return nil
}
