package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"parley/store/postgres"
	"parley/store/redis"
)

const (
	clockSkew   = time.Minute         // tokens are taken that far off
	oldPostgres = 150000              // the oldest version that is tried
	leastRoom   = 1 << 30             // bytes; an hour of calls records 115 MB each
	littleRoom  = 5 << 30             // bytes
	soonExpired = 14 * 24 * time.Hour // of a certificate
)

// checks are all that the doctor looks at, in the order of the page.
func (s Settings) checks() []check {
	list := []check{
		{"settings", s.checkSettings},
		{"key-file", s.checkKeyFile},
		{"database", s.checkDatabase},
		{"database-server", s.checkDatabaseServer},
		{"notifications", s.checkNotifications},
		{"redis", s.checkRedis},
		{"vault", s.checkVault},
		{"public-address", s.checkPublicAddress},
		{"listeners", s.checkListeners},
		{"admin-listener", s.checkAdminListener},
		{"data-folder", s.checkData},
		{"media", s.checkMedia},
		{"proxies", s.checkProxies},
		{"twilio", s.checkTwilio},
	}
	for _, v := range []vendorReach{
		{"openai", s.OpenAIKey, cmp.Or(s.OpenAIBaseURL, "https://api.openai.com"), `^sk-[A-Za-z0-9_-]{20,}$`, s.OpenAIBaseURL == ""},
		{"deepgram", s.DeepgramKey, cmp.Or(s.DeepgramBaseURL, "https://api.deepgram.com"), `^[0-9a-f]{40}$`, s.DeepgramBaseURL == ""},
		{"elevenlabs", s.ElevenLabsKey, cmp.Or(s.ElevenLabsBaseURL, "https://api.elevenlabs.io"), `^(sk_)?[0-9a-f]{32,}$`, s.ElevenLabsBaseURL == ""},
	} {
		list = append(list, check{v.name, v.look})
	}
	return list
}

func (s Settings) checkSettings(context.Context) finding {
	err := s.unsafe()
	if err == nil {
		return pass("complete and safe")
	}
	var wrong []string
	for _, line := range strings.Split(err.Error(), "\n")[1:] {
		name, cure, _ := strings.Cut(strings.TrimSpace(line), " ")
		wrong = append(wrong, name+": "+strings.TrimSpace(cure))
	}
	return fail(strings.Join(wrong, "; "), "%d missing or unsafe", len(wrong))
}

func (s Settings) checkKeyFile(context.Context) finding {
	const cure = "head -c 32 /dev/urandom > FILE && chmod 600 FILE, and set PARLEY_KEY_FILE=FILE"
	if s.KeyFile == "" {
		return fail(cure, "no key file is named")
	}
	if _, err := readKeyring(s.KeyFile); err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return fail(cure, "it cannot be read: %v", path.Err)
		}
		return fail(cure, "%v", err)
	}
	info, err := os.Stat(s.KeyFile)
	if err != nil {
		return fail(cure, "it cannot be looked at")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fail("chmod 600, and think of who has read it", "others of this machine may use it (mode %#o)", mode)
	}
	return pass("readable by its owner alone")
}

func (s Settings) checkDatabase(ctx context.Context) finding {
	if s.DatabaseURL == "" {
		return fail("set DATABASE_URL to the application role's address", "no database is named")
	}
	db, err := postgres.Open(ctx, s.DatabaseURL, postgres.Options{MaxConns: 2})
	if err != nil {
		return fail("write DATABASE_URL as postgres://ROLE@HOST/NAME?sslmode=verify-full", "%v", err)
	}
	defer db.Close()
	var unsafe *postgres.Unsafe
	switch err := db.Verify(ctx); {
	case errors.As(err, &unsafe):
		return fail(unsafe.Cure, "%s", unsafe.Why)
	case err != nil:
		return fail("see that it runs, that DATABASE_URL names it and that this machine may reach it", "the database does not answer")
	}
	return pass("the role is bound by row security, the schema is of this version")
}

func (s Settings) checkDatabaseServer(ctx context.Context) finding {
	e, err := postgres.Examine(ctx, s.DatabaseURL)
	switch {
	case s.DatabaseURL == "" || err != nil:
		return fail("see the line above", "the database does not answer")
	case e.Version < oldPostgres:
		return fail("upgrade to 16 or later", "PostgreSQL %d is too old", e.Version/10000)
	case e.Ahead.Abs() > clockSkew:
		return fail("run a time service (NTP) on both machines", "its clock is %s off ours", e.Ahead.Abs().Round(time.Second))
	case !e.Encrypted && !safeDatabase(s.DatabaseURL):
		return fail("add sslmode=verify-full", "the connection leaves this machine without TLS")
	case e.RoundTrip > 20*time.Millisecond:
		return warn("put it nearer: each turn of a conversation waits for it several times", "PostgreSQL %d is %s away", e.Version/10000, e.RoundTrip.Round(time.Millisecond))
	}
	return pass("PostgreSQL %d, clock within %s, TLS %s", e.Version/10000, max(e.Ahead.Abs(), time.Millisecond).Round(time.Millisecond),
		map[bool]string{true: "on", false: "not needed on this machine"}[e.Encrypted])
}

func (s Settings) checkNotifications(ctx context.Context) finding {
	if s.DatabaseListenURL == "" {
		return pass("by DATABASE_URL; set DATABASE_LISTEN_URL where a transaction pooler stands before it")
	}
	if _, err := postgres.Examine(ctx, s.DatabaseListenURL); err != nil {
		return fail("see that DATABASE_LISTEN_URL names the server itself", "the address for notifications does not answer")
	}
	return pass("answers")
}

func (s Settings) checkRedis(ctx context.Context) finding {
	if s.RedisURL == "" {
		return fail("set REDIS_URL", "no Redis is named")
	}
	c, err := redis.Open(s.RedisURL)
	if err != nil {
		return fail("write REDIS_URL as rediss://USER:PASSWORD@HOST:6379", "the address is malformed")
	}
	defer c.Close()
	if err := c.Ping(ctx); err != nil {
		return fail("see that it runs and that REDIS_URL names it; limits are each node's own until then", "it does not answer")
	}
	if !safeRedis(s.RedisURL) {
		return fail("use rediss://", "what is sent to it leaves this machine without TLS")
	}
	return pass("answers")
}

func (s Settings) checkVault(ctx context.Context) finding {
	if s.VaultAddr == "" {
		return pass("not used: secrets are kept in an encrypted file of this machine")
	}
	status, _, err := visit(ctx, strings.TrimSuffix(s.VaultAddr, "/")+"/v1/sys/health")
	switch {
	case err != nil:
		return fail("see that VAULT_ADDR names it, and that its certificate is one that this machine trusts", "it does not answer: %s", reason(err))
	case status == 501:
		return fail("vault operator init", "it is not initialized")
	case status == 503:
		return fail("vault operator unseal", "it is sealed")
	case status != 200 && status != 429 && status != 472 && status != 473:
		return fail("see that VAULT_ADDR names a Vault", "it answers with status %d", status)
	case strings.HasPrefix(s.VaultAddr, "http://") && !onThisMachine(host(s.VaultAddr)):
		return warn("use https://", "secrets leave this machine without TLS")
	}
	return pass("initialized and unsealed")
}

func (s Settings) checkPublicAddress(ctx context.Context) finding {
	if s.PublicURL == "" {
		return fail("set PARLEY_PUBLIC_URL to the https address that carriers and browsers reach", "no public address is named")
	}
	status, until, err := visit(ctx, strings.TrimSuffix(s.PublicURL, "/")+"/livez")
	switch {
	case err != nil:
		return fail("see that its name leads to this gateway, and that its certificate is good; where nothing serves yet, start it and look again", "it is not reached: %s", reason(err))
	case status != 200:
		return fail("see that what stands in front passes all paths on", "/livez answers with status %d", status)
	case !strings.HasPrefix(s.PublicURL, "https://"):
		return fail("use https: microphones and carriers want it", "it is not under TLS")
	case time.Until(until) < soonExpired:
		return warn("renew it", "its certificate ends on %s", until.Format(time.DateOnly))
	}
	return pass("reached, certificate good until %s", until.Format(time.DateOnly))
}

func (s Settings) checkListeners(context.Context) finding {
	where, _, err := net.SplitHostPort(s.Listen)
	switch {
	case err != nil:
		return fail("write --listen as host:port", "the address to listen on is malformed")
	case s.TLSCert != "":
		return pass("%s speaks TLS, by %s", s.Listen, s.TLSCert)
	case s.BehindProxy:
		return pass("%s takes requests from %s alone", s.Listen, strings.Join(s.TrustedProxies, ", "))
	case onThisMachine(where):
		return pass("on this machine alone: something with TLS stands before it")
	}
	return warn("set PARLEY_TLS_CERT and PARLEY_TLS_KEY, or PARLEY_BEHIND_PROXY and PARLEY_TRUSTED_PROXIES", "%s takes connections in clear, from everywhere", s.Listen)
}

func (s Settings) checkAdminListener(context.Context) finding {
	if s.AdminListen == "" {
		return pass("there is none")
	}
	where, _, err := net.SplitHostPort(s.AdminListen)
	switch {
	case err != nil:
		return fail("write --admin-listen as host:port", "the address is malformed")
	case s.AdminListen == s.Listen:
		return fail("give it another port", "it is the public listener's address")
	case where == "":
		return warn("name an address of an inner network", "metrics and profiles are served on all addresses of this machine")
	}
	return pass("%s", s.AdminListen)
}

func (s Settings) checkData(context.Context) finding {
	var room syscall.Statfs_t
	if err := syscall.Statfs(s.Data, &room); err != nil {
		return fail("make the folder, and let this program's user write to it", "the data folder cannot be looked at: %s", reason(err))
	}
	f, err := os.CreateTemp(s.Data, "doctor-")
	if err != nil {
		return fail("let this program's user write to it", "the data folder cannot be written to: %s", reason(err))
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	switch free := int64(room.Bavail) * int64(room.Bsize); {
	case free < leastRoom:
		return fail("make room, or move recordings elsewhere", "%d MiB are free", free>>20)
	case free < littleRoom:
		return warn("make room soon", "%d MiB are free", free>>20)
	default:
		return pass("%d GiB are free", free>>30)
	}
}

func (s Settings) checkMedia(context.Context) finding {
	if s.RTCPort != 0 {
		c, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", s.RTCPort))
		if err != nil {
			return warn("stop what uses it, unless it is this gateway", "UDP port %d cannot be had", s.RTCPort)
		}
		_ = c.Close()
	}
	switch {
	case s.RTCPort == 0:
		return warn("set PARLEY_RTC_PORT, and let it through the firewall", "browsers' media take a free UDP port, another one at each start")
	case s.RTCAddr == "":
		return warn("set PARLEY_RTC_ADDR behind NAT", "no public address of media is named")
	case net.ParseIP(s.RTCAddr).To4() == nil:
		return fail("write PARLEY_RTC_ADDR as an IPv4 address", "the public address of media is malformed")
	}
	return pass("UDP %s:%d", s.RTCAddr, s.RTCPort)
}

func (s Settings) checkProxies(context.Context) finding {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		if os.Getenv(name) != "" {
			return warn("unset it, or mind that calls to vendors may go by it", "%s is set; what flows call does not heed it", name)
		}
	}
	return pass("the environment names none")
}

func (s Settings) checkTwilio(ctx context.Context) finding {
	if s.TwilioAccountSID == "" && s.TwilioAuthToken == "" {
		return pass("not used")
	}
	const cure = "copy both from Twilio's console"
	switch {
	case !regexp.MustCompile(`^AC[0-9a-f]{32}$`).MatchString(s.TwilioAccountSID):
		return fail(cure, "TWILIO_ACCOUNT_SID does not look like one")
	case !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(s.TwilioAuthToken):
		return fail(cure, "TWILIO_AUTH_TOKEN does not look like one")
	}
	return reached(ctx, cmp.Or(s.TwilioBaseURL, "https://api.twilio.com"))
}

// A vendorReach is a vendor with its key.
type vendorReach struct {
	name, key, base, form string
	theirs                bool // the vendor's own address: its keys have its form
}

func (v vendorReach) look(ctx context.Context) finding {
	if v.key == "" {
		return pass("not used")
	}
	if v.theirs && !regexp.MustCompile(v.form).MatchString(v.key) {
		return fail("copy it from the vendor's console; another vendor's belongs elsewhere", "the key does not look like one")
	}
	return reached(ctx, v.base)
}

// reached tells whether a server is there, without asking it anything.
func reached(ctx context.Context, base string) finding {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return fail("write it as https://host", "the address is malformed")
	}
	port := cmp.Or(u.Port(), map[bool]string{true: "443", false: "80"}[u.Scheme == "https"])
	at := net.JoinHostPort(u.Hostname(), port)
	var c net.Conn
	if u.Scheme == "https" {
		c, err = (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", at)
	} else {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", at)
	}
	if err != nil {
		return fail("see that this machine may reach it, and trusts its certificate", "%s is not reached: %s", u.Hostname(), reason(err))
	}
	_ = c.Close()
	if u.Scheme != "https" && !onThisMachine(u.Hostname()) {
		return warn("use https", "%s is reached without TLS: the key crosses the network in clear", u.Hostname())
	}
	return pass("%s is reached", u.Hostname())
}

// visit asks for an address, and returns its status and how long its certificate
// is good. It follows nothing and heeds no proxy.
func visit(ctx context.Context, address string) (int, time.Time, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, time.Time{}, err
	}
	t := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	res, err := t.RoundTrip(r)
	if err != nil {
		return 0, time.Time{}, err
	}
	_ = res.Body.Close()
	until := time.Now().Add(365 * 24 * time.Hour) // of no certificate
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		until = res.TLS.PeerCertificates[0].NotAfter
	}
	return res.StatusCode, until, nil
}

// reason is an error without the addresses that it names, which may hold keys.
func reason(err error) string {
	for next := err; next != nil; next = errors.Unwrap(next) {
		err = next
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
