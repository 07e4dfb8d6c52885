package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
)

// tenantCommand makes the first tenants, before anybody can sign in.
type tenantCommand struct {
	Create tenantCreate `cmd:"" help:"Make a tenant, and print the link that its owner joins by, once."`
	List   tenantList   `cmd:"" help:"List all tenants."`
}

type tenantFlags struct {
	databaseFlag
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

func (f tenantFlags) open(ctx context.Context) (*postgres.Store, error) {
	if u, err := url.Parse(f.DatabaseURL); err == nil && os.Getenv("DATABASE_URL") != f.DatabaseURL {
		if _, set := u.User.Password(); set || u.Query().Has("password") {
			return nil, usageError{fmt.Errorf("everybody on this machine can read a password on the command line: set DATABASE_URL in the environment instead")}
		}
	}
	address, err := f.url()
	if err != nil {
		return nil, err
	}
	store, err := postgres.Open(ctx, address, postgres.Options{MaxConns: 2})
	if err != nil {
		return nil, usageError{err}
	}
	if err := store.Verify(ctx); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}

type tenantCreate struct {
	tenantFlags
	Name      string `arg:"" help:"What it is called."`
	Owner     string `name:"owner" required:"" placeholder:"EMAIL" help:"E-mail address of its owner."`
	Platform  bool   `name:"platform" help:"Make the owner a platform administrator too, who looks after all tenants."`
	PublicURL string `name:"public-url" env:"PARLEY_PUBLIC_URL" help:"Address of the gateway, for the link. Empty: only the token is printed."`
	KeyFile   string `name:"key-file" env:"PARLEY_KEY_FILE" help:"The gateway's key file. Default: the one that parley dev made in the data folder."`
}

// Help shows an example.
func (tenantCreate) Help() string {
	return "Example:\n  DATABASE_URL=postgres://parley_app@db/parley PARLEY_KEY_FILE=/run/secrets/parley \\\n" +
		"  PARLEY_PUBLIC_URL=https://voice.example.com parley tenant create \"Acme Ltd\" --owner boss@acme.example --platform"
}

// tenantMade is what is printed as JSON.
type tenantMade struct {
	ID        uuid.UUID `json:"id"`
	Name      string    `json:"name"`
	Owner     string    `json:"owner"`
	Token     string    `json:"token"`
	Link      string    `json:"link,omitempty"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Run makes the tenant.
func (c tenantCreate) Run(ctx context.Context, io stdio) error {
	if c.KeyFile == "" {
		c.KeyFile = filepath.Join(c.Data, "key")
	}
	ring, err := readKeyring(c.KeyFile)
	if err != nil {
		return usageError{err}
	}
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	t, invited, err := newPeople(store, ring, c.PublicURL).tenants.Create(ctx, c.Name, c.Owner, c.Platform)
	if err != nil {
		return err
	}
	made := tenantMade{t.ID, t.Name, invited.Email, invited.Link.Token, invited.Link.URL, invited.Link.ExpiresAt}
	if c.JSON {
		return json.NewEncoder(io.out).Encode(made)
	}
	way := "Join by this link:\n\n  " + made.Link
	if made.Link == "" {
		way = "Join by this token, sent to POST /v1/auth/accept-invitation:\n\n  " + made.Token
	}
	_, err = fmt.Fprintf(io.out, "Made %s (%s).\n\n%s\n\nIt is shown this once, is good for one use until %s, and is for %s alone.\n",
		made.Name, made.ID, way, made.ExpiresAt.Format(time.DateTime+" MST"), made.Owner)
	return err
}

type tenantList struct{ tenantFlags }

// Help shows an example.
func (tenantList) Help() string {
	return "Example:\n  DATABASE_URL=postgres://parley_app@db/parley parley tenant list --json"
}

// Run lists them, the newest first.
func (c tenantList) Run(ctx context.Context, io stdio) error {
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	page := control.Page{Limit: 200}
	for {
		list, err := store.Tenants(ctx, page)
		if err != nil {
			return err
		}
		for _, t := range list {
			if err := c.print(io, t); err != nil {
				return err
			}
		}
		if len(list) < page.Limit {
			return nil
		}
		page.After = list[len(list)-1].ID
	}
}

func (c tenantList) print(io stdio, t identity.Tenant) error {
	if c.JSON {
		return json.NewEncoder(io.out).Encode(map[string]any{"id": t.ID, "name": t.Name, "created_at": t.CreatedAt, "suspended": !t.SuspendedAt.IsZero()})
	}
	state := ""
	if !t.SuspendedAt.IsZero() {
		state = "  suspended"
	}
	_, err := fmt.Fprintf(io.out, "%s  %s  %s%s\n", t.ID, t.CreatedAt.Format(time.DateOnly), t.Name, state)
	return err
}
