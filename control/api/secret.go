package api

import (
	"context"
	"errors"
	"time"

	"parley/agent/effect"
	"parley/control"
)

type secretJSON struct {
	Key        string     `json:"key"`
	Hosts      []string   `json:"hosts" doc:"Where it may be sent."`
	Reference  string     `json:"reference" doc:"Where its value stands, with the version that counts. The value is never shown."`
	Revision   int        `json:"revision"`
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
	UpdatedBy  string     `json:"updated_by,omitempty"`
	LastUsedAt *time.Time `json:"last_used_at" doc:"To the minute."`
	// Of one secret alone.
	Versions []secretVersionJSON `json:"versions,omitempty" doc:"The newest first; absent while the store of secrets is away."`
}

type secretVersionJSON struct {
	Version   string    `json:"version"`
	CreatedAt time.Time `json:"created_at"`
	Readable  bool      `json:"readable" doc:"false: deleted or destroyed."`
	Current   bool      `json:"current"`
}

type secretOut struct {
	ETag   string `header:"ETag"`
	Status int
	Body   secretJSON
}

func newSecretJSON(e control.SecretEntry) secretJSON {
	return secretJSON{Key: e.Key, Hosts: e.Hosts, Reference: e.Ref.String(), Revision: e.Revision, CreatedAt: e.CreatedAt,
		UpdatedAt: e.UpdatedAt, UpdatedBy: e.UpdatedBy, LastUsedAt: when(e.LastUsedAt)}
}

// SecretPath names a secret in a route; exported for huma, which fills it.
type SecretPath struct {
	Key string `path:"key" maxLength:"128" doc:"As flows name it: {secret:key}."`
}

func (s *Server) secrets() error {
	if s.o.Secrets == nil {
		return nil
	}
	read, manage := control.SecretsRead, control.SecretsManage
	put, drop := writes("PUT", "/v1/secrets/{key}", manage, 512<<10), writes("DELETE", "/v1/secrets/{key}", manage, NoBody)
	put.Class, drop.Class = Admin, Admin
	err := errors.Join(
		operation(s, reads("/v1/secrets", read), "list-secrets", "List secrets: never their values", 200, s.listSecrets),
		operation(s, reads("/v1/secrets/{key}", read), "get-secret", "Describe a secret and its versions: never its value", 200, s.getSecret),
		operation(s, put, "put-secret", "Store a secret, replace its value, or narrow its hosts", 200, s.putSecret),
		operation(s, drop, "delete-secret", "Delete a secret with its value, for good", 204, s.deleteSecret),
		operation(s, writes("POST", "/v1/secrets/{key}/test", read, 8<<10), "test-secret", "Tell whether a secret can be read, and would be sent to an address; nothing is sent", 200, s.testSecret),
	)
	if err != nil {
		return err
	}
	// A secret that was not there answers in the same form.
	answers := s.api.OpenAPI().Paths[put.Pattern].Put.Responses
	answers["201"] = answers["200"]
	return nil
}

// away says what a store of secrets that does not answer means.
func away(err error) error {
	if errors.Is(err, control.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return newProblem(503, "secrets_unavailable", "the store of secrets does not answer, and nothing was changed; calls go on with what they have. Try again shortly; if it stays so, the operator should look after Vault, and parley doctor says what is wrong")
	}
	return err
}

func (s *Server) listSecrets(ctx context.Context, in *struct {
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After string `query:"after" maxLength:"128" doc:"The next of the page before."`
}) (*listOut[secretJSON], error) {
	rows, err := s.o.Secrets.Entries(ctx, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &listOut[secretJSON]{Body: list[secretJSON]{Items: []secretJSON{}}}
	for _, e := range rows {
		out.Body.Items = append(out.Body.Items, newSecretJSON(e))
	}
	if n := len(rows); n == in.Limit {
		out.Body.Next = rows[n-1].Key
	}
	return out, nil
}

func (s *Server) getSecret(ctx context.Context, in *SecretPath) (*secretOut, error) {
	e, versions, err := s.o.Secrets.Entry(ctx, in.Key)
	if err != nil {
		return nil, err
	}
	out := &secretOut{ETag: etag(e.Revision), Status: 200, Body: newSecretJSON(e)}
	for _, v := range versions {
		out.Body.Versions = append(out.Body.Versions, secretVersionJSON{v.Version, v.CreatedAt, v.Readable, v.Version == e.Ref.Version})
	}
	return out, nil
}

func (s *Server) putSecret(ctx context.Context, in *struct {
	SecretPath
	Match
	Body struct {
		Value     *string  `json:"value,omitempty" writeOnly:"true" maxLength:"65536" doc:"The secret itself. It is never shown again."`
		Reference *string  `json:"reference,omitempty" maxLength:"2048" doc:"Instead of a value: where it stands already, in this tenant's own place, such as vault://mount/tenants/ID/name#field."`
		Hosts     []string `json:"hosts,omitempty" maxItems:"20" doc:"api.example.com or api.example.com:8443, over TLS; http://10.0.0.7:9000 in clear. Needed for a new secret; other hosts need the value again."`
	}
}) (*secretOut, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	c := control.SecretChange{Key: in.Key, Hosts: in.Body.Hosts, Revision: revision}
	if v := in.Body.Value; v != nil {
		if *v == "" {
			return nil, control.Invalidf("value", "must hold 1 to 65536 bytes; to be rid of a secret, delete it")
		}
		c.Value = effect.Secret(*v)
	}
	if r := in.Body.Reference; r != nil {
		c.Reference = *r
	}
	e, err := s.o.Secrets.Put(ctx, c)
	if err != nil {
		return nil, away(in.matched(err))
	}
	status := 200
	if e.Revision == 1 {
		status = 201
	}
	return &secretOut{etag(e.Revision), status, newSecretJSON(e)}, nil
}

func (s *Server) deleteSecret(ctx context.Context, in *struct {
	SecretPath
	Match
}) (*struct{}, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	return nil, away(in.matched(s.o.Secrets.Delete(ctx, in.Key, revision)))
}

type secretTestJSON struct {
	Bound    bool `json:"bound" doc:"Its hosts allow the address."`
	Readable bool `json:"readable" doc:"Its value can be had now."`
}

func (s *Server) testSecret(ctx context.Context, in *struct {
	SecretPath
	Body struct {
		URL string `json:"url" maxLength:"4096" doc:"Such as https://api.example.com/v1."`
	}
}) (*reply[secretTestJSON], error) {
	t, err := s.o.Secrets.Test(ctx, in.Key, in.Body.URL)
	if err != nil {
		return nil, away(err)
	}
	return &reply[secretTestJSON]{secretTestJSON{t.Bound, t.Readable}}, nil
}
