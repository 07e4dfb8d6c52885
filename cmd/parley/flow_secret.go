package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/control"
)

// flowSecret keeps secrets in the data folder's encrypted file. A gateway that
// runs on the same folder sees a change at once.
type flowSecret struct {
	Set    secretSet    `cmd:"" help:"Store or replace a secret; its value is one line of standard input."`
	List   secretList   `cmd:"" help:"List keys and hosts; never values."`
	Delete secretDelete `cmd:"" help:"Forget a secret."`
}

type secretFlags struct {
	Data    string `name:"data" default:".parley" help:"Data folder of the gateway."`
	KeyFile string `name:"key-file" help:"The gateway's key file. Default: the one that parley dev made in the data folder."`
	Tenant  string `name:"tenant" placeholder:"ID" help:"Whose secret it is. Default: every tenant's of this gateway."`
}

// open returns the store, and a context for the tenant.
func (f secretFlags) open(ctx context.Context) (context.Context, control.Secrets, error) {
	if f.Tenant != "" {
		id, err := uuid.Parse(f.Tenant)
		if err != nil {
			return nil, nil, usageError{fmt.Errorf("--tenant: %w", err)}
		}
		ctx = control.WithTenant(ctx, id)
	}
	path := f.KeyFile
	if path == "" {
		path = filepath.Join(f.Data, "key")
	}
	ring, err := readKeyring(path)
	if err != nil {
		return nil, nil, usageError{err}
	}
	s, err := openSecrets(f.Data, ring)
	return ctx, s, err
}

type secretSet struct {
	Key  string   `arg:"" help:"Name, as in {secret:name}."`
	Host []string `required:"" help:"Host that it may be sent to, over TLS: api.example.com, api.example.com:8443; in clear: http://10.0.0.7:9000."`
	secretFlags
}

// Help shows an example.
func (secretSet) Help() string {
	return "Example:\n  parley flow secret set crm_token --host api.example.com < token.txt"
}

// Run stores the secret.
func (c secretSet) Run(ctx context.Context, io stdio) error {
	ctx, s, err := c.open(ctx)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(io.in)
	if in.Buffer(nil, 128<<10); !in.Scan() {
		return usageError{errors.New("no value came by standard input")}
	}
	err = s.PutSecret(ctx, control.SecretEntry{Key: c.Key, Hosts: c.Host}, effect.Secret(strings.TrimRight(in.Text(), "\r")))
	var invalid *control.Invalid
	if errors.As(err, &invalid) {
		return usageError{err}
	}
	return err
}

type secretList struct {
	JSON bool `name:"json" help:"Print one JSON object a secret."`
	secretFlags
}

// Run lists what is there.
func (c secretList) Run(ctx context.Context, io stdio) error {
	ctx, s, err := c.open(ctx)
	if err != nil {
		return err
	}
	list, err := s.SecretEntries(ctx)
	for _, e := range list {
		if c.JSON {
			printJSON(io.out, map[string]any{"key": e.Key, "hosts": e.Hosts, "updated_at": e.UpdatedAt})
			continue
		}
		fmt.Fprintf(io.out, "%-30s %s  %s\n", e.Key, e.UpdatedAt.Format(time.DateTime), strings.Join(e.Hosts, ", "))
	}
	return err
}

type secretDelete struct {
	Key string `arg:"" help:"Name, as in {secret:name}."`
	secretFlags
}

// Run forgets the secret.
func (c secretDelete) Run(ctx context.Context) error {
	ctx, s, err := c.open(ctx)
	if err != nil {
		return err
	}
	return s.DeleteSecret(ctx, c.Key)
}
