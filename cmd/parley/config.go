package main

import (
	"time"
)

// Settings are all that the gateway can be told, by environment or flag; a flag
// wins. `parley serve --help` prints them, and README.md lists them.
type Settings struct {
	Listen      string `name:"listen" env:"PARLEY_LISTEN" default:"127.0.0.1:8080" group:"Addresses" help:"host:port of calls, pages and the API."`
	AdminListen string `name:"admin-listen" env:"PARLEY_ADMIN_LISTEN" default:"127.0.0.1:8081" group:"Addresses" help:"host:port of metrics and other internal routes. Empty: none."`
	PublicURL   string `name:"public-url" env:"PARLEY_PUBLIC_URL" group:"Addresses" help:"Address that carriers and browsers reach us by, as https://host. Twilio signs over it."`

	ControlListen string `name:"control-listen" env:"PARLEY_CONTROL_LISTEN" group:"Addresses" help:"host:port of /v1, its documentation and the console, which are then nowhere else. Default: PARLEY_LISTEN."`
	MediaListen   string `name:"media-listen" env:"PARLEY_MEDIA_LISTEN" group:"Addresses" help:"host:port of carriers' media sockets, which are then nowhere else. Default: PARLEY_LISTEN."`
	MediaURL      string `name:"media-url" env:"PARLEY_MEDIA_URL" group:"Addresses" help:"Address that carriers reach the media listener by, as https://host. Default: PARLEY_PUBLIC_URL."`

	TLSCert         string        `name:"tls-cert" env:"PARLEY_TLS_CERT" type:"path" group:"Door" help:"Certificate chain of all listeners, PEM; read again when it changes. Empty: no TLS."`
	TLSKey          string        `name:"tls-key" env:"PARLEY_TLS_KEY" type:"path" group:"Door" help:"Its key, PEM."`
	BehindProxy     bool          `name:"behind-proxy" env:"PARLEY_BEHIND_PROXY" group:"Door" help:"A proxy with TLS stands before the listeners: they take requests without TLS, and only those that a trusted proxy names the client of."`
	TrustedProxies  []string      `name:"trusted-proxies" env:"PARLEY_TRUSTED_PROXIES" group:"Door" help:"Addresses or CIDRs of proxies whose word on the client counts. Empty: nobody's."`
	ProxyHops       int           `name:"proxy-hops" env:"PARLEY_PROXY_HOPS" default:"1" group:"Door" help:"How many trusted proxies stand one behind another."`
	ProxyHeader     string        `name:"proxy-header" env:"PARLEY_PROXY_HEADER" default:"x-forwarded-for" enum:"x-forwarded-for,forwarded" group:"Door" help:"Header by which they name the client: x-forwarded-for or forwarded (RFC 7239). The other is not read."`
	AdminTokenFile  string        `name:"admin-token-file" env:"PARLEY_ADMIN_TOKEN_FILE" type:"path" group:"Door" help:"File of the bearer token, at least 32 characters, that the admin listener wants; read for each request. Without it and PARLEY_ADMIN_CLIENT_CA, serve answers nobody there, dev anybody."`
	AdminClientCA   string        `name:"admin-client-ca" env:"PARLEY_ADMIN_CLIENT_CA" type:"path" group:"Door" help:"Authorities, PEM, of the client certificates that the admin listener wants; needs PARLEY_TLS_CERT."`
	BlockFor        time.Duration `name:"block-for" env:"PARLEY_BLOCK_FOR" default:"0" group:"Door" help:"How long a network is kept out that tries many accounts or looks for others' ids. 0: it is only told of."`
	SecurityContact string        `name:"security-contact" env:"PARLEY_SECURITY_CONTACT" group:"Door" help:"Where holes are reported, told at /.well-known/security.txt: a mailto: or https: address. Default: mailto:security@ and the host of PARLEY_PUBLIC_URL."`

	DatabaseURL        string `name:"database-url" env:"DATABASE_URL" group:"Storage" help:"Postgres, as the application role."`
	DatabaseMigrateURL string `name:"database-migrate-url" env:"DATABASE_MIGRATE_URL" group:"Storage" help:"Postgres, as the owner of the schema, without a pooler between. For migrate; serve never uses it."`
	DatabaseListenURL  string `name:"database-listen-url" env:"DATABASE_LISTEN_URL" group:"Storage" help:"Postgres without a transaction pooler between, as the application role, for notifications and the queue of jobs. Default: DATABASE_URL."`
	RedisURL           string `name:"redis-url" env:"REDIS_URL" group:"Storage" help:"Redis: limits, one-time tokens, live calls, circuit breakers, budgets."`
	Data               string `name:"data" env:"PARLEY_DATA" default:".parley" group:"Storage" help:"Folder of recordings and flows' secrets; of everything, under parley dev."`
	KeyFile            string `name:"key-file" env:"PARLEY_KEY_FILE" group:"Secrets" help:"File of at least 32 random bytes, which all of the program's own keys are derived from."`
	AuditAnchor        string `name:"audit-anchor" env:"PARLEY_AUDIT_ANCHOR" group:"Storage" help:"Folder, or http(s) address, that where the audit trail ends is added to every minute, signed: out of reach of who administers the database. Default: audit-anchors in the data folder."`
	KeyProvider        string `name:"key-provider" env:"PARLEY_KEY_PROVIDER" default:"local" group:"Secrets" help:"Who wraps the keys that seal recordings and transcripts: local (the key file), vault-transit://MOUNT/KEY or aws-kms://KEY (an id, an ARN or alias/NAME)."`

	BreachedPasswords string `name:"breached-passwords" env:"PARLEY_BREACHED_PASSWORDS" type:"path" group:"Secrets" help:"File of passwords that have leaked, which nobody may choose: sorted lines HASH:COUNT of SHA-1, of any size, or a password a line, 64 MiB at most. Empty: a short list that is built in."`

	Secrets        string `name:"secrets" env:"PARLEY_SECRETS" group:"Secrets" help:"Where tenants' secrets are kept: vault://mount/path, aws-sm://path or file://local/path. Default: vault://secret/parley/tenants with VAULT_ADDR, else file://local/tenants, an encrypted file in the data folder, for one machine alone."`
	PlainSecrets   string `name:"plain-secrets" env:"PARLEY_PLAIN_SECRETS" default:"refuse" enum:"refuse,allow" group:"Secrets" help:"refuse or allow secrets in clear in the settings of parley serve, where a reference such as file:///run/secrets/x or vault://mount/path#field could stand."`
	VaultAddr      string `name:"vault-addr" env:"VAULT_ADDR" group:"Secrets" help:"HashiCorp Vault, as https://vault.example.com:8200."`
	VaultNamespace string `name:"vault-namespace" env:"VAULT_NAMESPACE" group:"Secrets" help:"Namespace in Vault Enterprise. Empty: none."`
	VaultCACert    string `name:"vault-cacert" env:"VAULT_CACERT" group:"Secrets" help:"File of who signed Vault's certificate, in PEM. Empty: the machine's own list."`
	VaultToken     string `name:"vault-token" env:"VAULT_TOKEN" group:"Secrets" help:"Token for Vault, or better a reference such as file:///vault/token."`
	VaultRoleID    string `name:"vault-role-id" env:"VAULT_ROLE_ID" group:"Secrets" help:"AppRole for Vault, before a token."`
	VaultSecretID  string `name:"vault-secret-id" env:"VAULT_SECRET_ID" group:"Secrets" help:"Its secret id, or better a reference such as file:///run/secrets/vault."`
	VaultWrapped   bool   `name:"vault-wrapped" env:"PARLEY_VAULT_WRAPPED" group:"Secrets" help:"VAULT_SECRET_ID is a wrapping token, good for one use; that somebody else used it is an alarm."`
	VaultK8sRole   string `name:"vault-k8s-role" env:"VAULT_K8S_ROLE" group:"Secrets" help:"Sign in to Vault by Kubernetes as this role, before all other ways."`
	VaultK8sToken  string `name:"vault-k8s-token" env:"VAULT_K8S_TOKEN_FILE" group:"Secrets" help:"File of the service account's token. Default: where Kubernetes puts it."`
	VaultAuthMount string `name:"vault-auth-mount" env:"VAULT_AUTH_MOUNT" group:"Secrets" help:"Mount of the way to sign in. Default: approle or kubernetes."`

	SecondFactor string `name:"second-factor" env:"PARLEY_SECOND_FACTOR" default:"" enum:",required,enrolled" group:"People" help:"Whom administering asks for a second factor: required, everybody; enrolled, those who have one. Default: required, enrolled under parley dev."`
	OIDCFile     string `name:"oidc-file" env:"PARLEY_OIDC_FILE" group:"People" help:"JSON file of the issuers by which people of all tenants sign in; docs/sign-in.md has its form. Empty: none; tenants name their own."`

	TwilioAccountSID   string `name:"twilio-account-sid" env:"TWILIO_ACCOUNT_SID" group:"Twilio" help:"Account whose webhooks are taken."`
	TwilioAuthToken    string `name:"twilio-auth-token" env:"TWILIO_AUTH_TOKEN" group:"Twilio" help:"Token that webhooks are signed with."`
	TwilioAuthTokenOld string `name:"twilio-auth-token-old" env:"TWILIO_AUTH_TOKEN_OLD" group:"Twilio" help:"The token before, taken too while rotating."`
	TwilioBaseURL      string `name:"twilio-base-url" env:"TWILIO_BASE_URL" group:"Twilio" help:"Instead of https://api.twilio.com."`
	TwilioRegion       string `name:"twilio-region" env:"TWILIO_REGION" group:"Twilio" help:"Region of the REST API; with TWILIO_EDGE or not at all."`
	TwilioEdge         string `name:"twilio-edge" env:"TWILIO_EDGE" group:"Twilio" help:"Edge of the REST API; with TWILIO_REGION or not at all."`

	OpenAIKey         string `name:"openai-api-key" env:"OPENAI_API_KEY" group:"Vendors" help:"Key for OpenAI or whoever answers at OPENAI_BASE_URL."`
	OpenAIBaseURL     string `name:"openai-base-url" env:"OPENAI_BASE_URL" group:"Vendors" help:"Any OpenAI-compatible server: OpenAI, Groq, vLLM, Ollama."`
	DeepgramKey       string `name:"deepgram-api-key" env:"DEEPGRAM_API_KEY" group:"Vendors" help:"Key for Deepgram."`
	DeepgramBaseURL   string `name:"deepgram-base-url" env:"DEEPGRAM_BASE_URL" group:"Vendors" help:"Instead of https://api.deepgram.com; the websocket address follows from it."`
	ElevenLabsKey     string `name:"elevenlabs-api-key" env:"ELEVENLABS_API_KEY" group:"Vendors" help:"Key for ElevenLabs."`
	ElevenLabsBaseURL string `name:"elevenlabs-base-url" env:"ELEVENLABS_BASE_URL" group:"Vendors" help:"Instead of https://api.elevenlabs.io; the websocket address follows from it."`

	VADWeights string `name:"vad-weights" env:"PARLEY_VAD_WEIGHTS" type:"path" group:"Speech" help:"File of the weights of a network that tells speech from noise and music, as scripts/vad-weights.py makes it. Empty: none; speech is told by statistics alone."`

	EgressAllow []string `name:"egress-allow" env:"PARLEY_EGRESS_ALLOW" group:"Egress" help:"Private host:port that flows may call, besides public addresses."`

	EgressProxy string `name:"egress-proxy" env:"PARLEY_EGRESS_PROXY" group:"Egress" help:"Proxy that flows' and webhooks' requests to public addresses go through, as http(s)://[user:password@]host:port; it must let CONNECT to addresses. Names are resolved and checked by us."`

	InternalURL     string `name:"internal-url" env:"PARLEY_INTERNAL_URL" group:"Egress" help:"Address of your own services, which flows call by URLs that begin with a slash. It may be private."`
	InternalKeyFile string `name:"internal-key-file" env:"PARLEY_INTERNAL_KEY_FILE" group:"Egress" help:"File of at least 32 random bytes, shared with those services: it signs who a conversation is with. parley dev makes one."`

	BudgetFlow   string `name:"budget-flow" env:"PARLEY_BUDGET_FLOW" group:"Egress" help:"What all conversations of a flow may call for in an hour, as calls=10000,bytes=1000000000,seconds=36000; what is not named is not bounded. Empty: nothing is."`
	BudgetTenant string `name:"budget-tenant" env:"PARLEY_BUDGET_TENANT" group:"Egress" help:"The same of all flows of a tenant."`

	RTCPort    int      `name:"rtc-port" env:"PARLEY_RTC_PORT" default:"0" group:"WebRTC" help:"The one UDP port of all WebRTC media; 0 takes a free one."`
	RTCTCP     int      `name:"rtc-tcp" env:"PARLEY_RTC_TCP" default:"0" group:"WebRTC" help:"ICE-TCP port, for networks without UDP; 0: none."`
	RTCAddr    string   `name:"rtc-addr" env:"PARLEY_RTC_ADDR" group:"WebRTC" help:"Public IPv4 address of the media port; required behind NAT."`
	RTCBind    string   `name:"rtc-bind" env:"PARLEY_RTC_BIND" group:"WebRTC" help:"IPv4 address of this machine that media ports listen on. Default: all that it has at the start."`
	ICEURLs    []string `name:"ice-urls" env:"PARLEY_ICE_URLS" group:"WebRTC" help:"stun: and turn: addresses handed to browsers."`
	TURNSecret string   `name:"turn-secret" env:"PARLEY_TURN_SECRET" group:"WebRTC" help:"Secret shared with the TURN server; browsers get credentials that expire."`

	MaxCalls int           `name:"max-calls" env:"PARLEY_MAX_CALLS" default:"0" group:"Limits" help:"Calls that this process carries at once; more are refused as busy, as are all while it does not keep up or lacks memory. 0: 200 a core."`
	MaxLate  time.Duration `name:"max-late" env:"PARLEY_MAX_LATE" default:"40ms" group:"Limits" help:"How late the audio clock may tick, 95th percentile of 5 s, before new calls are refused as busy. 0: not judged."`
	Drain    time.Duration `name:"drain" env:"PARLEY_DRAIN" default:"30s" group:"Limits" help:"How long calls in progress may go on after SIGTERM."`

	DialPrices string   `name:"dial-prices" env:"PARLEY_DIAL_PRICES" type:"path" group:"Outbound" help:"File of what a minute to a number costs, a line such as '+44 0.025' each, '+' for all others: what is set aside of a tenant's daily spend. Empty: 0.02 for +1, 0.50 for all others."`
	DialRisky  []string `name:"dial-risky" env:"PARLEY_DIAL_RISKY" group:"Outbound" help:"Prefixes that nobody calls, such as +883,+4470, besides premium-rate, shared-cost and satellite numbers."`
	DialFraud  string   `name:"dial-fraud" env:"PARLEY_DIAL_FRAUD" group:"Outbound" help:"From which count in an hour on what looks like toll fraud stops a tenant's outbound calls, where it is not new_countries=6,number_range=20,short_calls=30,risky_numbers=10,spend=5 (times the usual); 0: never."`

	LogLevel  string `name:"log-level" env:"PARLEY_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" group:"Logs" help:"debug, info, warn or error."`
	LogFormat string `name:"log-format" env:"PARLEY_LOG_FORMAT" default:"" enum:",json,text" group:"Logs" help:"json or text. Default: json, text under parley dev."`
}
