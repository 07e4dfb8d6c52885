package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"parley/store/postgres"
)

// serveCommand runs the gateway in production.
type serveCommand struct {
	Settings
}

// Help shows an example.
func (serveCommand) Help() string {
	return "Example:\n  DATABASE_URL=postgres://parley_app@db/parley?sslmode=verify-full REDIS_URL=rediss://cache:6379 \\\n" +
		"  PARLEY_PUBLIC_URL=https://voice.example.com PARLEY_KEY_FILE=/run/secrets/parley \\\n" +
		"  TWILIO_ACCOUNT_SID=AC… TWILIO_AUTH_TOKEN=file:///run/secrets/twilio parley serve --listen :8080"
}

// Run serves until ctx ends.
func (c serveCommand) Run(ctx context.Context, io stdio) error {
	if err := c.Settings.unsafe(); err != nil {
		return usageError{err}
	}
	ring, err := readKeyring(c.KeyFile)
	if err != nil {
		return usageError{err}
	}
	log := c.logger(io.err, "json")
	g, err := newGateway(ctx, c.Settings, ring, false, false, log)
	if err != nil {
		return err
	}
	return g.run(ctx, func() {
		c.Settings.reportTransports(ctx, log)
		log.Info("serving", "listen", g.address(), "public_url", c.PublicURL, "version", version)
	})
}

// A complaint names a setting and the cure.
type complaint struct{ setting, cure string }

// unsafe lists what keeps settings from production, all at once.
func (s Settings) unsafe() error {
	var list []complaint
	need := func(ok bool, setting, cure string) {
		if !ok {
			list = append(list, complaint{setting, cure})
		}
	}
	need(s.DatabaseURL != "", "DATABASE_URL", "set it to the Postgres address of the application role")
	need(s.DatabaseURL == "" || safeDatabase(s.DatabaseURL), "DATABASE_URL", "add sslmode=verify-full (or require), unless the server is on this machine")
	need(s.DatabaseListenURL == "" || safeDatabase(s.DatabaseListenURL), "DATABASE_LISTEN_URL", "add sslmode=verify-full (or require), unless the server is on this machine")
	need(s.RedisURL != "", "REDIS_URL", "set it to the address of Redis")
	need(s.RedisURL == "" || safeRedis(s.RedisURL), "REDIS_URL", "write it as rediss://USER:PASSWORD@HOST:6379, without skip_verify, unless the server is on this machine")
	need(s.KeyFile != "", "PARLEY_KEY_FILE", "name a file of at least 32 random bytes, as made by: head -c 32 /dev/urandom > FILE")
	need(strings.HasPrefix(s.PublicURL, "https://"), "PARLEY_PUBLIC_URL", "set it to the https address that carriers and browsers reach")
	s.unsafeTransport(need)
	need(s.TwilioAuthToken != "" || s.TwilioAccountSID == "", "TWILIO_AUTH_TOKEN", "set it: webhooks of the account cannot be verified without")
	need((s.TwilioRegion == "") == (s.TwilioEdge == ""), "TWILIO_REGION", "set both TWILIO_REGION and TWILIO_EDGE, or neither")
	plain := s.plainSecrets()
	need(s.PlainSecrets == "allow" || len(plain) == 0, "PARLEY_PLAIN_SECRETS", plainCure(plain))
	need(s.InternalURL == "" || s.InternalKeyFile != "", "PARLEY_INTERNAL_KEY_FILE", "name a file of at least 32 random bytes, shared with the services at PARLEY_INTERNAL_URL")
	if len(list) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString("these settings are missing or unsafe:")
	for _, c := range list {
		fmt.Fprintf(&b, "\n  %-20s %s", c.setting, c.cure)
	}
	return fmt.Errorf("%s", b.String())
}

// unsafeTransport lists what would come in without protection.
func (s Settings) unsafeTransport(need func(ok bool, setting, cure string)) {
	need((s.TLSCert == "") == (s.TLSKey == ""), "PARLEY_TLS_CERT", "set both PARLEY_TLS_CERT and PARLEY_TLS_KEY, or neither")
	need(!s.BehindProxy || len(s.TrustedProxies) > 0, "PARLEY_TRUSTED_PROXIES", "name the proxies before this server, as addresses or CIDRs: requests are taken from them alone")
	need(s.RTCBind == "" || net.ParseIP(s.RTCBind).To4() != nil, "PARLEY_RTC_BIND", "set it to an IPv4 address of this machine, or leave it out")
	need(s.AdminClientCA == "" || s.TLSCert != "", "PARLEY_ADMIN_CLIENT_CA", "set PARLEY_TLS_CERT and PARLEY_TLS_KEY too: clients' certificates need TLS")
	need(s.MediaListen == "" || strings.HasPrefix(s.MediaURL, "https://"), "PARLEY_MEDIA_URL", "set it to the https address by which carriers reach PARLEY_MEDIA_LISTEN")
	for setting, address := range map[string]string{"PARLEY_LISTEN": s.Listen, "PARLEY_CONTROL_LISTEN": s.ControlListen, "PARLEY_MEDIA_LISTEN": s.MediaListen} {
		need(address == "" || s.TLSCert != "" || s.BehindProxy || loopback(address), setting,
			"takes requests without TLS from other machines: set PARLEY_TLS_CERT and PARLEY_TLS_KEY, or, with a proxy before it, PARLEY_BEHIND_PROXY and PARLEY_TRUSTED_PROXIES")
	}
}

// safeDatabase reports whether what goes to the database is encrypted, or does
// not leave the machine.
func safeDatabase(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := u.Hostname()
	if h := u.Query().Get("host"); h != "" {
		host = h
	}
	if host == "" || strings.HasPrefix(host, "/") || host == "localhost" || host == "127.0.0.1" || host == "::1" {
		return true
	}
	switch u.Query().Get("sslmode") {
	case "require", "verify-ca", "verify-full":
		return true
	}
	return false
}

// safeRedis reports the same of what goes to Redis: addresses of people, limits,
// one-time tokens.
func safeRedis(address string) bool {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return false
	case u.Scheme == "rediss":
		return !u.Query().Has("skip_verify") // whoever answers would be believed
	case u.Scheme == "unix":
		return true
	}
	return u.Hostname() == "" || onThisMachine(u.Hostname()) // the client takes no host for this machine
}

// migrateCommand changes the schema.
type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Bring the schema to this program's version. With a superuser's address, make the roles too."`
	Down   migrateDown   `cmd:"" help:"Undo the last migration."`
	Status migrateStatus `cmd:"" help:"List migrations."`
}

type migrateFlags struct {
	DatabaseMigrateURL string `name:"database-migrate-url" env:"DATABASE_MIGRATE_URL" required:"" help:"Postgres, as the owner of the schema."`
}

type (
	migrateUp     struct{ migrateFlags }
	migrateDown   struct{ migrateFlags }
	migrateStatus struct{ migrateFlags }
)

// Run brings the schema up.
func (c migrateUp) Run(ctx context.Context) error {
	return postgres.MigrateUp(ctx, c.DatabaseMigrateURL)
}

// Run undoes the last migration.
func (c migrateDown) Run(ctx context.Context) error {
	return postgres.MigrateDown(ctx, c.DatabaseMigrateURL)
}

// Run lists migrations.
func (c migrateStatus) Run(ctx context.Context, io stdio) error {
	list, err := postgres.MigrateStatus(ctx, c.DatabaseMigrateURL)
	if err != nil {
		return err
	}
	for _, m := range list {
		fmt.Fprintf(io.out, "%+v\n", m)
	}
	return nil
}
