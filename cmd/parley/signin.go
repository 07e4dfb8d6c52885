package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/egress"
	"parley/control/identity"
)

// issuerTime bounds a request to an issuer: somebody waits for it.
const issuerTime = 8 * time.Second

// secondFactor says of whom a second factor is asked: of everybody who
// administers, but under parley dev of those who have one.
func (g *gateway) secondFactor() control.SecondFactor {
	switch {
	case g.settings.SecondFactor != "":
		return control.SecondFactor(g.settings.SecondFactor)
	case g.dev:
		return control.FactorEnrolled
	}
	return control.FactorRequired
}

// signIn is second factors and other issuers.
type signIn struct {
	factors *identity.Factors
	oidc    *identity.OIDC
	issuers *identity.TrustedIssuers
}

// buildSignIn lets people give second factors, and come by other issuers.
func (g *gateway) buildSignIn(ring *control.Keyring) error {
	s, db, log := g.settings, g.db, g.log
	operator, err := readProviders(s.OIDCFile)
	if err != nil {
		return err
	}
	client, err := newEgress(egress.Options{Allow: s.EgressAllow, Timeout: issuerTime, MaxResponse: 1 << 20, MaxRedirects: 2}, s.EgressProxy, db, log)
	if err != nil {
		return err
	}
	g.closers = append(g.closers, client.Close)
	public := s.PublicURL
	if public == "" {
		public = "http://" + s.Listen
	}
	pending := identity.Pending{Store: db, Ring: ring}
	in := &g.signIn
	in.factors = &identity.Factors{Store: db, Users: db, Pending: pending, Ring: ring, Audit: db}
	if in.factors.Passkeys, err = identity.NewSite(public); err != nil {
		log.Warn("there are no passkeys", "reason", err)
	}
	g.people.users.Factors = in.factors
	issuers := identity.NewIssuers(client)
	in.oidc = &identity.OIDC{Providers: &identity.Providers{Store: db, Ring: ring}, Operator: operator, Issuers: issuers, Pending: pending,
		Users: g.people.users, Invitations: db, Members: db, Audit: db, Ring: ring, PublicURL: public}
	in.issuers = &identity.TrustedIssuers{Store: db, Issuers: issuers, Audit: db, Noted: g.redis, PublicURL: public}
	g.bearers.Foreign = in.issuers.Verify
	return nil
}

// providerFile is PARLEY_OIDC_FILE.
type providerFile struct {
	Providers []struct {
		Name string `json:"name"`
		identity.ProviderSettings
		// SecretFile holds the client's secret; relative to the file that names it.
		SecretFile string `json:"client_secret_file"`
		// Tenant that domains, directories and groups admit to.
		Tenant uuid.UUID `json:"tenant"`
	} `json:"providers"`
}

// readProviders reads the operator's providers; none for no path.
func readProviders(path string) ([]identity.OperatorProvider, error) {
	if path == "" {
		return nil, nil
	}
	fail := func(err error) ([]identity.OperatorProvider, error) {
		return nil, fmt.Errorf("PARLEY_OIDC_FILE %s: %w", path, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fail(errors.Unwrap(err))
	}
	var file providerFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return fail(err)
	}
	var list []identity.OperatorProvider
	seen := map[string]bool{}
	for i, p := range file.Providers {
		settings, err := p.Check()
		switch {
		case err != nil:
			return fail(fmt.Errorf("providers[%d]: %w", i, err))
		case !identity.ProviderName(p.Name) || seen[p.Name]:
			return fail(fmt.Errorf("providers[%d].name must be 1 to 63 of a-z, 0-9 and -, the first a letter, and no other's", i))
		}
		seen[p.Name] = true
		secret, err := readClientSecret(path, p.SecretFile)
		if err != nil {
			return fail(fmt.Errorf("providers[%d].client_secret_file: %w", i, err))
		}
		list = append(list, identity.OperatorProvider{Name: p.Name, Settings: settings, Secret: secret, Tenant: p.Tenant})
	}
	return list, nil
}

func readClientSecret(beside, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(beside), name)
	}
	text, err := os.ReadFile(name)
	return strings.TrimSpace(string(text)), err
}
