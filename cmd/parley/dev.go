package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"parley/control"
	"parley/control/identity"
	"parley/examples"
	"parley/store/postgres"
)

// devCommand runs everything on one machine.
type devCommand struct {
	Settings

	TunnelWithoutSignature bool `help:"Take Twilio's webhooks unsigned, from anybody who finds the address. For a tunnel to this machine, while you try things."`
}

// Help shows an example.
func (devCommand) Help() string {
	return "Example:\n  parley dev --listen 127.0.0.1:8080 --data .parley\n\nThen open the page it prints, and talk."
}

// devFile is DATA/dev.json: where scripts find the running gateway.
type devFile struct {
	URL           string     `json:"url"`
	AdminEmail    string     `json:"admin_email"`
	AdminPassword string     `json:"admin_password"`
	APIKey        string     `json:"api_key"`
	Agents        []devAgent `json:"agents"`
}

type devAgent struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

const devAdmin = "admin@parley.localhost"

// Run runs the gateway until ctx ends.
func (c devCommand) Run(ctx context.Context, io stdio) error {
	s := c.Settings
	s.Drain = 0 // a developer's Ctrl-C says goodbye at once
	log := s.logger(io.err, "text")
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return fmt.Errorf("the data folder cannot be made: %w", err)
	}
	ring, err := devKeyring(&s)
	if err != nil {
		return err
	}
	if s.InternalURL != "" && s.InternalKeyFile == "" {
		s.InternalKeyFile = filepath.Join(s.Data, "internal.key")
		if err := ensureKey(s.InternalKeyFile); err != nil {
			return err
		}
	}
	// That a port is taken is said before anything is started.
	if s.Listen, err = freePort(s.Listen); err != nil {
		return err
	}
	if s.AdminListen, err = freePort(s.AdminListen); err != nil {
		log.Warn("metrics are not served", "err", err)
	}
	if s.PublicURL == "" {
		s.PublicURL = localURL(s.Listen)
	}
	stopServices, err := c.startServices(ctx, &s, ring, log)
	defer stopServices()
	if err != nil {
		return err
	}
	if err := localVoices(s); err != nil {
		return err
	}
	g, err := newGateway(ctx, s, ring, true, c.TunnelWithoutSignature, log)
	if err != nil {
		return err
	}
	file, err := g.demo(ctx)
	if err != nil {
		g.close()
		return err
	}
	return g.run(ctx, func() { welcome(io, file, s) })
}

// localVoices says what is missing for the agent to hear and speak.
func localVoices(s Settings) error {
	v := newVendors(s, nil, slog.New(slog.DiscardHandler))
	switch {
	case len(v.defaults("tts")) == 0:
		return errors.New("the agent has no voice: install flite (apt-get install flite), or set OPENAI_API_KEY")
	case len(v.defaults("stt")) == 0:
		return errors.New("the agent cannot hear: install PocketSphinx (apt-get install pocketsphinx pocketsphinx-en-us), or set DEEPGRAM_API_KEY or OPENAI_API_KEY")
	}
	return nil
}

// startServices gives s a database and a Redis where it names none. The
// function it returns stops them, also after an error.
func (c devCommand) startServices(ctx context.Context, s *Settings, ring *control.Keyring, log *slog.Logger) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
	if s.DatabaseURL == "" {
		pg, err := startPostgres(ctx, s.Data, log)
		if err != nil {
			return stop, err
		}
		stops = append(stops, func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := pg.Stop(ctx); err != nil {
				log.Error("the database did not stop", "err", err)
			}
		})
		s.DatabaseURL = pg.AppURL()
	} else if err := adoptDatabase(ctx, s, ring); err != nil {
		return stop, err
	}
	if s.RedisURL == "" {
		r, err := startRedis()
		if err != nil {
			return stop, err
		}
		stops = append(stops, r.Stop)
		s.RedisURL = r.URL()
	}
	return stop, nil
}

// adoptDatabase makes roles and schema in a database that the developer named
// as its superuser, and goes on as the application role.
func adoptDatabase(ctx context.Context, s *Settings, ring *control.Keyring) error {
	super, err := postgres.IsSuperuser(ctx, s.DatabaseURL)
	if err != nil || !super {
		return err
	}
	pw := postgres.Passwords{Migrate: ring.Password("postgres/migrate"), App: ring.Password("postgres/app")}
	if err := postgres.Bootstrap(ctx, s.DatabaseURL, pw); err != nil {
		return err
	}
	owner, err := postgres.WithRole(s.DatabaseURL, postgres.RoleMigrate, pw.Migrate)
	if err != nil {
		return err
	}
	if err := postgres.MigrateUp(ctx, owner); err != nil {
		return err
	}
	s.DatabaseURL, err = postgres.WithRole(s.DatabaseURL, postgres.RoleApp, pw.App)
	return err
}

// devKeyring reads the key file, or makes one in the data folder.
func devKeyring(s *Settings) (*control.Keyring, error) {
	if s.KeyFile != "" {
		return readKeyring(s.KeyFile)
	}
	path := filepath.Join(s.Data, "key")
	if err := ensureKey(path); err != nil {
		return nil, err
	}
	return readKeyring(path)
}

// ensureKey makes a key file of 32 random bytes where there is none.
func ensureKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // whoever reads it says what is wrong with it
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	if err := os.WriteFile(path, key, 0o600); err != nil {
		return fmt.Errorf("the key file cannot be made: %w", err)
	}
	return nil
}

func readKeyring(path string) (*control.Keyring, error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the key file cannot be read: %w", err)
	}
	return control.NewKeyring(key)
}

// demo makes what is missing of the demo tenant and writes dev.json.
func (g *gateway) demo(ctx context.Context) (devFile, error) {
	path := filepath.Join(g.settings.Data, "dev.json")
	var f devFile
	old, err := os.ReadFile(path)
	known := err == nil && json.Unmarshal(old, &f) == nil && f.AdminPassword != "" && f.APIKey != ""
	if known {
		_, err := g.keys.Verify(ctx, f.APIKey, identity.Visit{Peek: true})
		known = err == nil
	}
	if !known {
		f = devFile{AdminPassword: password()}
	}
	made, err := identity.EnsureDemo(ctx, identity.DemoServices{Users: g.people.users, Tenants: g.db, Keys: g.keys, Flows: g.flows, Agents: g.agents},
		identity.Demo{AdminEmail: devAdmin, AdminPassword: f.AdminPassword, Flow: examples.FrontDesk, Prompt: g.desk.vendors.has("openai")}, !known)
	if err != nil {
		return f, err
	}
	if made.APIKey != "" {
		f.APIKey = made.APIKey
	}
	f.URL, f.AdminEmail, f.Agents = localURL(g.address()), devAdmin, nil
	for _, a := range made.Agents {
		f.Agents = append(f.Agents, devAgent{a.ID.String(), a.Name})
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return f, fmt.Errorf("write dev.json: %w", err)
	}
	// Whole or not at all: a script may read it at any time.
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return f, fmt.Errorf("write dev.json: %w", err)
	}
	return f, os.Rename(path+".new", path)
}

func password() string {
	b := make([]byte, 15)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// freePort returns address with a port that is free: its own, or any for port 0.
func freePort(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("%s cannot be listened on (%w): stop what uses it, or choose another with --listen", address, bare(err))
	}
	return l.Addr().String(), l.Close()
}

// localURL is how a browser on this machine reaches a listen address.
func localURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// welcome tells where to go.
func welcome(io stdio, f devFile, s Settings) {
	var b strings.Builder
	b.WriteString("\nParley is ready. Open a page and talk:\n\n")
	for _, a := range f.Agents {
		fmt.Fprintf(&b, "  %-12s %s/call/%s\n", a.Name, f.URL, a.Name)
	}
	fmt.Fprintf(&b, "\n  API          %s/docs\n  sign in      %s  %s\n  API key      %s\n", f.URL, f.AdminEmail, f.AdminPassword, f.APIKey)
	if s.AdminListen != "" {
		fmt.Fprintf(&b, "  metrics      %s/metrics\n", localURL(s.AdminListen))
	}
	fmt.Fprintf(&b, "\nAll of this is in %s. Ctrl-C stops it; the data stays.\n\n", filepath.Join(s.Data, "dev.json"))
	fmt.Fprint(io.out, b.String())
}
