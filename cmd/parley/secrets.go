package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"parley/control"
	"parley/store/aws"
	"parley/store/vault"
)

// A safe is where secrets are kept and got from, as the settings say.
type safe struct {
	service *control.SecretService
	vault   *vault.Client // nil: not set up
	local   bool          // tenants' secrets stand on this machine alone
}

// openSafe builds it without I/O but for local files.
func (g *gateway) openSafe(ctx context.Context, ring *control.Keyring) error {
	s := g.settings
	file, err := openSecrets(s.Data, ring)
	if err != nil {
		return err
	}
	readers := map[string]control.SecretReader{control.SchemeFile: control.SecretFiles{}, control.SchemeEnv: control.SecretEnv(os.LookupEnv),
		control.SchemeLocal: file}
	keepers := map[string]control.SecretKeeper{control.SchemeLocal: file}
	if s.VaultAddr != "" {
		if g.safe.vault, err = openVault(s, g.log); err != nil {
			return err
		}
		kept := &vault.Secrets{Client: g.safe.vault}
		readers[control.SchemeVault], keepers[control.SchemeVault] = kept, kept
	}
	place, err := s.secretPlace()
	if err != nil {
		return err
	}
	if place.Scheme == control.SchemeAWS || s.names(control.SchemeAWS+"://") {
		kept, err := aws.Open(ctx)
		if err != nil {
			return fmt.Errorf("secrets by aws-sm://: %w", err)
		}
		readers[control.SchemeAWS], keepers[control.SchemeAWS] = kept, kept
	}
	keeper := keepers[place.Scheme]
	if keeper == nil {
		return fmt.Errorf("PARLEY_SECRETS: %s is not set up: set VAULT_ADDR", place)
	}
	if g.safe.local = place.Scheme == control.SchemeLocal; g.safe.local && !g.dev {
		g.log.Warn("secrets of tenants are in a file on this machine, encrypted under the key file: good for one machine alone. For more, set VAULT_ADDR or PARLEY_SECRETS")
	}
	g.safe.service = control.NewSecretService(control.SecretsOptions{Store: g.db, Keeper: keeper, Place: place, Readers: readers, File: file,
		Announcer: g.redis, Log: g.log})
	return s.checkSecrets(g.safe.service)
}

// secretPlace is where tenants' secrets are kept: as PARLEY_SECRETS says, else
// in Vault if there is one, else in the local file.
func (s Settings) secretPlace() (control.SecretRef, error) {
	text := cmp.Or(s.Secrets, "file://local/tenants")
	if s.Secrets == "" && s.VaultAddr != "" {
		text = "vault://secret/parley/tenants"
	}
	r, err := control.ParseSecretRef(text)
	if err != nil || r.Field != "" || r.Version != "" || r.Scheme == control.SchemeFile || r.Scheme == control.SchemeEnv {
		return r, errors.New("PARLEY_SECRETS: name a place such as vault://secret/parley/tenants, aws-sm://parley/tenants or file://local/tenants")
	}
	return r, nil
}

// openVault says who we are to Vault; it signs in later.
func openVault(s Settings, log *slog.Logger) (*vault.Client, error) {
	var auth vault.Auth
	switch {
	case s.VaultK8sRole != "":
		auth = &vault.Kubernetes{Role: s.VaultK8sRole, TokenFile: s.VaultK8sToken, Mount: s.VaultAuthMount}
	case s.VaultRoleID != "" && s.VaultSecretID != "":
		id, err := ownText(s.VaultSecretID)
		if err != nil {
			return nil, fmt.Errorf("VAULT_SECRET_ID: %w", err)
		}
		auth = &vault.AppRole{RoleID: s.VaultRoleID, SecretID: id, Wrapped: s.VaultWrapped, Mount: s.VaultAuthMount}
	case s.VaultToken != "":
		token, err := ownText(s.VaultToken)
		if err != nil {
			return nil, fmt.Errorf("VAULT_TOKEN: %w", err)
		}
		auth = vault.Token(token)
	default:
		return nil, errors.New("VAULT_ADDR is set, and no way to sign in: set VAULT_ROLE_ID and VAULT_SECRET_ID, or VAULT_K8S_ROLE, or VAULT_TOKEN")
	}
	c, err := vault.New(vault.Options{Address: s.VaultAddr, Namespace: s.VaultNamespace, CAFile: s.VaultCACert, Auth: auth, Log: log})
	if err != nil {
		return nil, fmt.Errorf("VAULT_ADDR: %w", err)
	}
	return c, nil
}

// ownText is what Vault itself is opened with: a text, a file, a variable.
func ownText(text string) (vault.Text, error) {
	if !control.IsSecretRef(text) {
		return vault.Fixed(text), nil
	}
	r, err := control.ParseSecretRef(text)
	switch {
	case err != nil:
		return nil, err
	case r.Scheme == control.SchemeFile:
		return vault.FromFile(r.Path), nil
	case r.Scheme == control.SchemeEnv:
		return func() (string, error) { return os.Getenv(r.Path), nil }, nil
	}
	return nil, errors.New("must be a text, file:///… or env://…: it opens Vault itself")
}

// A secretSetting is a setting that holds a secret, or a reference to one.
type secretSetting struct{ name, text string }

// secretSettings lists them. Those that open Vault itself are not among them.
func (s Settings) secretSettings() []secretSetting {
	return []secretSetting{
		{"TWILIO_AUTH_TOKEN", s.TwilioAuthToken}, {"TWILIO_AUTH_TOKEN_OLD", s.TwilioAuthTokenOld}, {"OPENAI_API_KEY", s.OpenAIKey},
		{"DEEPGRAM_API_KEY", s.DeepgramKey}, {"ELEVENLABS_API_KEY", s.ElevenLabsKey}, {"PARLEY_TURN_SECRET", s.TURNSecret},
	}
}

// names tells whether a setting holds a reference of a scheme.
func (s Settings) names(scheme string) bool {
	return slices.ContainsFunc(s.secretSettings(), func(set secretSetting) bool { return strings.HasPrefix(set.text, scheme) })
}

// checkSecrets finds references that could never be followed.
func (s Settings) checkSecrets(service *control.SecretService) error {
	for _, set := range s.secretSettings() {
		if _, err := service.Setting(set.text); err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
	}
	return nil
}

// plainSecrets lists the settings that hold a secret in clear.
func (s Settings) plainSecrets() []string {
	var names []string
	for _, set := range append(s.secretSettings(), secretSetting{"VAULT_TOKEN", s.VaultToken}, secretSetting{"VAULT_SECRET_ID", s.VaultSecretID}) {
		if set.text != "" && !control.IsSecretRef(set.text) {
			names = append(names, set.name)
		}
	}
	return names
}

// setting returns the secret of a setting at the time it is asked for.
// openSafe has seen that it can be followed.
func (s safe) setting(text string) func(context.Context) (string, error) {
	get, err := s.service.Setting(text)
	if err != nil {
		return func(context.Context) (string, error) { return "", err }
	}
	return get
}

// degraded says "secrets" while their store is away, and they cannot be had but
// from memory; else "".
func (s safe) degraded() string {
	if s.service.Away() || s.vault != nil && s.vault.Ready() != nil {
		return "secrets"
	}
	return ""
}

// terminalSecrets serve references in one run in a terminal.
func terminalSecrets(log *slog.Logger) *control.SecretService {
	return control.NewSecretService(control.SecretsOptions{Log: log, Readers: map[string]control.SecretReader{
		control.SchemeFile: control.SecretFiles{}, control.SchemeEnv: control.SecretEnv(os.LookupEnv)}})
}

// plainCure tells how to take secrets out of the environment.
func plainCure(names []string) string {
	return "hold a secret in clear: " + strings.Join(names, ", ") + ". Put each into a file or Vault and set a reference instead, file:///run/secrets/name or vault://mount/path#field; or set PARLEY_PLAIN_SECRETS=allow to run with them as they are"
}

// twilioTokens are those that webhooks may be signed with. The one before need
// not be there.
func (g *gateway) twilioTokens(ctx context.Context) ([]string, error) {
	var tokens []string
	for _, text := range []string{g.settings.TwilioAuthToken, g.settings.TwilioAuthTokenOld} {
		t, err := g.safe.setting(text)(ctx)
		if err != nil && len(tokens) == 0 {
			return nil, err
		}
		if err == nil && t != "" {
			tokens = append(tokens, t)
		}
	}
	return tokens, nil
}
