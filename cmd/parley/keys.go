package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/store/blob"
	"parley/store/postgres"
	"parley/store/vault"
)

// keysCommand looks after the keys that seal what callers say.
type keysCommand struct {
	List    keysList    `cmd:"" help:"List a tenant's data keys; never what they are."`
	Rotate  keysRotate  `cmd:"" help:"Give a tenant a new data key. What the one before has sealed stays readable."`
	Rewrap  keysRewrap  `cmd:"" help:"Wrap data keys again, after the provider's key was rotated, or another provider was set."`
	Seal    keysSeal    `cmd:"" help:"Seal texts and recordings that are older than the keys."`
	Destroy keysDestroy `cmd:"" help:"Destroy a tenant's data keys, so that nobody can read what they sealed, and erase what stands in clear."`
}

// keysFlags are what all of them need: the gateway's own settings.
type keysFlags struct {
	Settings
}

// An openKeys is what the commands work with.
type openKeys struct {
	*control.DataKeys
	db    *postgres.Store
	blobs *blob.Folder
	close func()
}

func (f keysFlags) open(ctx context.Context, io stdio) (o openKeys, err error) {
	address, err := databaseFlag{f.DatabaseURL, f.Data}.url()
	if err != nil {
		return o, err
	}
	ring, err := readKeyring(cmp.Or(f.KeyFile, filepath.Join(f.Data, "key")))
	if err != nil {
		return o, usageError{err}
	}
	log := f.logger(io.err, "text")
	var end []func()
	o.close = func() {
		for _, f := range slices.Backward(end) {
			f()
		}
	}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	p := keyProviders{ring: ring}
	if f.VaultAddr != "" {
		if p.vault, err = openVault(f.Settings, log); err != nil {
			return o, usageError{err}
		}
		end = append(end, signedIn(ctx, p.vault))
	}
	if o.db, err = postgres.Open(ctx, address, postgres.Options{MaxConns: 4}); err != nil {
		return o, usageError{err}
	}
	end = append(end, o.db.Close)
	if err := o.db.Verify(ctx); err != nil {
		return o, err
	}
	if o.DataKeys, err = newDataKeys(f.Settings, p, o.db, log); err != nil {
		return o, usageError{err}
	}
	if o.blobs, err = blob.Open(filepath.Join(f.Data, "recordings")); err != nil {
		return o, err
	}
	end = append(end, func() { _ = o.blobs.Close() })
	return o, nil
}

// openAsking is open for what needs the provider.
func (f keysFlags) openAsking(ctx context.Context, io stdio) (openKeys, error) {
	o, err := f.open(ctx, io)
	if err != nil {
		return o, err
	}
	if err := tryKeys(ctx, o.Provider); err != nil {
		o.close()
		return o, fmt.Errorf("the key provider %s does not answer: %w", o.Provider.Name(), err)
	}
	return o, nil
}

// signedIn keeps a client signed in until what it returns is called.
func signedIn(ctx context.Context, c *vault.Client) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
		c.Close()
	}
}

// tenants calls do for one tenant, or for all that have keys.
func (o openKeys) tenants(ctx context.Context, one string, do func(context.Context, uuid.UUID) error) error {
	if one != "" {
		id, err := parseTenant(one)
		if err != nil {
			return err
		}
		return do(control.WithTenant(ctx, id), id)
	}
	for after := uuid.Nil; ; {
		list, err := o.Store.LocateDataKeys(ctx, after)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, l := range list {
			if err := do(control.WithTenant(ctx, l.Tenant), l.Tenant); err != nil {
				return fmt.Errorf("tenant %s: %w", l.Tenant, err)
			}
			after = l.Tenant
		}
	}
}

func parseTenant(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil {
		return id, usageError{fmt.Errorf("--tenant: %w", err)}
	}
	return id, nil
}

type keysList struct {
	Tenant string `required:"" placeholder:"ID" help:"Whose."`
	JSON   bool   `name:"json" help:"Print one JSON object a key."`
	keysFlags
}

// Help shows an example.
func (keysList) Help() string {
	return "Example:\n  parley keys list --tenant 0199f1c2-7d1e-7c3a-9f6e-0d3f5a2b1c4d"
}

// Run lists keys, the newest first.
func (c keysList) Run(ctx context.Context, io stdio) error {
	o, err := c.open(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	return o.tenants(ctx, c.Tenant, func(ctx context.Context, _ uuid.UUID) error {
		list, err := o.Store.DataKeys(ctx)
		for _, k := range list {
			state := "current"
			if !k.RetiredAt.IsZero() {
				state = "retired"
			}
			if !k.DestroyedAt.IsZero() {
				state = "destroyed"
			}
			if c.JSON {
				printJSON(io.out, map[string]any{"id": k.ID, "state": state, "provider": k.Provider, "created_at": k.CreatedAt})
				continue
			}
			fmt.Fprintf(io.out, "%s  %-9s  %s  %s\n", k.ID, state, k.CreatedAt.Format(time.DateTime), k.Provider)
		}
		return err
	})
}

type keysRotate struct {
	Tenant string `required:"" placeholder:"ID" help:"Whose."`
	JSON   bool   `name:"json" help:"Print one JSON object."`
	keysFlags
}

// Help shows an example.
func (keysRotate) Help() string {
	return "Example:\n  parley keys rotate --tenant 0199f1c2-7d1e-7c3a-9f6e-0d3f5a2b1c4d"
}

// Run makes the new key.
func (c keysRotate) Run(ctx context.Context, io stdio) error {
	o, err := c.openAsking(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	return o.tenants(ctx, c.Tenant, func(ctx context.Context, _ uuid.UUID) error {
		id, err := o.Rotate(ctx)
		if err != nil {
			return err
		}
		say(io, c.JSON, map[string]any{"id": id}, "data key %s is the current one\n", id)
		return nil
	})
}

// say prints a result for scripts or for people.
func say(io stdio, asJSON bool, v any, format string, args ...any) {
	if asJSON {
		printJSON(io.out, v)
		return
	}
	fmt.Fprintf(io.out, format, args...)
}

type keysRewrap struct {
	Tenant string `placeholder:"ID" help:"Whose. Default: all tenants that have data keys."`
	JSON   bool   `name:"json" help:"Print one JSON object."`
	keysFlags
}

// Help shows an example.
func (keysRewrap) Help() string {
	return "Example:\n  PARLEY_KEY_PROVIDER=vault-transit://transit/parley parley keys rewrap\n\n" +
		"Keys that another provider has wrapped are unwrapped by that one, which must answer too."
}

// Run wraps keys again.
func (c keysRewrap) Run(ctx context.Context, io stdio) error {
	o, err := c.openAsking(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	all := 0
	err = o.tenants(ctx, c.Tenant, func(ctx context.Context, _ uuid.UUID) error {
		n, err := o.Rewrap(ctx)
		all += n
		return err
	})
	say(io, c.JSON, map[string]any{"keys": all}, "%d data keys are wrapped by %s\n", all, o.Provider.Name())
	return err
}

type keysSeal struct {
	Tenant string `placeholder:"ID" help:"Whose. Default: all tenants that have data keys."`
	JSON   bool   `name:"json" help:"Print one JSON object."`
	keysFlags
}

// Help shows an example.
func (keysSeal) Help() string {
	return "Example:\n  parley keys seal\n\nIt may run beside the gateway, be stopped at any time and run again."
}

// Run seals what stands in clear.
func (c keysSeal) Run(ctx context.Context, io stdio) error {
	o, err := c.openAsking(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	rows, files := 0, 0
	sealed := &control.SealedBlobs{Blobs: o.blobs, Keys: o.DataKeys}
	err = o.tenants(ctx, c.Tenant, func(ctx context.Context, tenant uuid.UUID) error {
		n, err := o.Store.SealClear(ctx)
		rows += n
		if err != nil {
			return err
		}
		return o.blobs.Keys(tenant, func(key string) error {
			did, err := sealed.SealBlob(ctx, key)
			if did {
				files++
			}
			return control.NotFoundIs(err, nil)
		})
	})
	say(io, c.JSON, map[string]any{"rows": rows, "recordings": files}, "%d rows and %d recordings are sealed that stood in clear\n", rows, files)
	return err
}

type keysDestroy struct {
	Tenant string `required:"" placeholder:"ID" help:"Whose."`
	Key    string `placeholder:"ID" help:"One retired key alone: what it sealed can no longer be read, and nothing else is erased. Default: all keys, and all that stands in clear."`
	Yes    bool   `required:"" help:"Confirms that this cannot be undone."`
	JSON   bool   `name:"json" help:"Print one JSON object."`
	keysFlags
}

// Help shows an example.
func (keysDestroy) Help() string {
	return "Example:\n  parley keys destroy --tenant 0199f1c2-7d1e-7c3a-9f6e-0d3f5a2b1c4d --yes\n\n" +
		"Transcripts, histories, recordings, events' contents and what conversations remember are gone for ever.\n" +
		"Times, numbers, counts and the audit log stay. See docs/encryption.md for what old backups hold."
}

// Run destroys.
func (c keysDestroy) Run(ctx context.Context, io stdio) error {
	o, err := c.open(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	return o.tenants(ctx, c.Tenant, func(ctx context.Context, _ uuid.UUID) error {
		if c.Key != "" {
			id, err := uuid.Parse(c.Key)
			if err != nil {
				return usageError{fmt.Errorf("--key: %w", err)}
			}
			if err := o.Destroy(ctx, id); err != nil {
				return err
			}
			say(io, c.JSON, control.Shredding{Keys: 1}, "data key %s is destroyed\n", id)
			return nil
		}
		done, err := o.Shred(ctx, o.blobs)
		say(io, c.JSON, done, "%d data keys are destroyed, %d rows erased\n", done.Keys, done.Rows)
		return err
	})
}
