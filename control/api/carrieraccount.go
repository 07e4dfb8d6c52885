package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type carrierAccountJSON struct {
	ID             uuid.UUID `json:"id"`
	Name           string    `json:"name"`
	Kind           string    `json:"kind" enum:"twilio"`
	AccountSID     string    `json:"account_sid"`
	TokenSecret    string    `json:"token_secret" doc:"Name of the secret that holds the auth token."`
	OldTokenSecret string    `json:"old_token_secret,omitempty" doc:"Name of the secret that holds the one before, taken too while rotating."`
	APIKeySID      string    `json:"api_key_sid,omitempty"`
	APIKeySecret   string    `json:"api_key_secret,omitempty" doc:"Name of the secret that holds the API key's."`
	Region         string    `json:"region,omitempty"`
	Edge           string    `json:"edge,omitempty"`
	Revision       int       `json:"revision"`
	CreatedAt      time.Time `json:"created_at"`
	UpdatedAt      time.Time `json:"updated_at"`
}

func newCarrierAccountJSON(a control.CarrierAccount) carrierAccountJSON {
	return carrierAccountJSON{a.ID, a.Name, a.Kind, a.AccountSID, a.Token, a.OldToken, a.APIKey, a.APIKeySecret, a.Region, a.Edge,
		a.Revision, a.CreatedAt, a.UpdatedAt}
}

type carrierAccountOut struct {
	ETag string `header:"ETag"`
	Body carrierAccountJSON
}

func newCarrierAccountOut(a control.CarrierAccount) *carrierAccountOut {
	return &carrierAccountOut{etag(a.Revision), newCarrierAccountJSON(a)}
}

// CarrierAccountPath names an account in a route; exported for huma, which
// fills it.
type CarrierAccountPath struct {
	ID uuid.UUID `path:"id"`
}

func (s *Server) carrierAccounts() error {
	read, write, path := control.NumbersRead, control.NumbersWrite, "/v1/carrier-accounts"
	return errors.Join(
		operation(s, reads(path, read), "list-carrier-accounts", "List your accounts at carriers", 200, s.listCarrierAccounts),
		operation(s, reads(path+"/{id}", read), "get-carrier-account", "Get an account", 200, s.getCarrierAccount),
		operation(s, writes("POST", path, write, 8<<10), "create-carrier-account", "Make an account known", 201, s.createCarrierAccount),
		operation(s, writes("PATCH", path+"/{id}", write, 8<<10), "change-carrier-account", "Change an account, or rotate its token", 200, s.changeCarrierAccount),
		operation(s, writes("DELETE", path+"/{id}", write, NoBody), "delete-carrier-account", "Forget an account that nothing uses", 204, s.deleteCarrierAccount),
		operation(s, writes("POST", path+"/{id}/test", write, NoBody), "test-carrier-account", "Ask the carrier whether it takes the credentials", 200, s.testCarrierAccount),
	)
}

func (s *Server) listCarrierAccounts(ctx context.Context, in *PageQuery) (*listOut[carrierAccountJSON], error) {
	rows, err := s.o.Carriers.Store.CarrierAccounts(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newCarrierAccountJSON, func(a control.CarrierAccount) uuid.UUID { return a.ID }), nil
}

func (s *Server) getCarrierAccount(ctx context.Context, in *CarrierAccountPath) (*carrierAccountOut, error) {
	a, err := s.o.Carriers.Store.CarrierAccount(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return newCarrierAccountOut(a), nil
}

func (s *Server) createCarrierAccount(ctx context.Context, in *struct {
	Body struct {
		Name           string `json:"name" maxLength:"63"`
		Kind           string `json:"kind,omitempty" enum:"twilio" doc:"Default twilio."`
		AccountSID     string `json:"account_sid" maxLength:"64"`
		TokenSecret    string `json:"token_secret" maxLength:"200" doc:"Name of the secret that holds the auth token, as put by PUT /v1/secrets/{key} and bound to api.twilio.com. A token itself is refused."`
		OldTokenSecret string `json:"old_token_secret,omitempty" maxLength:"200"`
		APIKeySID      string `json:"api_key_sid,omitempty" maxLength:"64"`
		APIKeySecret   string `json:"api_key_secret,omitempty" maxLength:"200" doc:"Name of the secret that holds the API key's."`
		Region         string `json:"region,omitempty" maxLength:"30" doc:"Such as ie1; with edge, or not at all."`
		Edge           string `json:"edge,omitempty" maxLength:"30" doc:"Such as dublin."`
	}
}) (*carrierAccountOut, error) {
	b := in.Body
	a, err := s.o.Carriers.Create(ctx, control.CarrierAccount{Name: b.Name, Kind: b.Kind, AccountSID: b.AccountSID, Token: b.TokenSecret,
		OldToken: b.OldTokenSecret, APIKey: b.APIKeySID, APIKeySecret: b.APIKeySecret, Region: b.Region, Edge: b.Edge})
	if err != nil {
		return nil, err
	}
	return newCarrierAccountOut(a), nil
}

func (s *Server) changeCarrierAccount(ctx context.Context, in *struct {
	CarrierAccountPath
	Match
	Body struct {
		Name           *string `json:"name,omitempty" maxLength:"63"`
		TokenSecret    *string `json:"token_secret,omitempty" maxLength:"200"`
		OldTokenSecret *string `json:"old_token_secret,omitempty" maxLength:"200" doc:"Empty: none any more."`
		APIKeySID      *string `json:"api_key_sid,omitempty" maxLength:"64"`
		APIKeySecret   *string `json:"api_key_secret,omitempty" maxLength:"200"`
		Region         *string `json:"region,omitempty" maxLength:"30"`
		Edge           *string `json:"edge,omitempty" maxLength:"30"`
	}
}) (*carrierAccountOut, error) {
	a, err := s.o.Carriers.Store.CarrierAccount(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := in.onto(&a.Revision); err != nil {
		return nil, err
	}
	set(&a.Name, in.Body.Name)
	set(&a.Token, in.Body.TokenSecret)
	set(&a.OldToken, in.Body.OldTokenSecret)
	set(&a.APIKey, in.Body.APIKeySID)
	set(&a.APIKeySecret, in.Body.APIKeySecret)
	set(&a.Region, in.Body.Region)
	set(&a.Edge, in.Body.Edge)
	if a, err = s.o.Carriers.Update(ctx, a); err != nil {
		return nil, in.matched(err)
	}
	return newCarrierAccountOut(a), nil
}

func (s *Server) deleteCarrierAccount(ctx context.Context, in *struct {
	CarrierAccountPath
	Match
}) (*struct{}, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	return nil, in.matched(s.o.Carriers.Delete(ctx, in.ID, revision))
}

type carrierTestJSON struct {
	OK    bool   `json:"ok"`
	Wrong string `json:"wrong,omitempty" doc:"What is not as it should be, and what to do."`
}

func (s *Server) testCarrierAccount(ctx context.Context, in *CarrierAccountPath) (*reply[carrierTestJSON], error) {
	a, err := s.o.Carriers.Store.CarrierAccount(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	wrong, err := s.o.CarrierCheck(ctx, a)
	if err != nil {
		s.o.Log.WarnContext(ctx, "the carrier could not be asked about an account", "carrier_account", a.ID, "error", err)
		wrong = "Twilio could not be asked: its API did not answer, or the secret cannot be read now; try again shortly, and see that the secret is there and bound to the carrier's host"
	}
	return &reply[carrierTestJSON]{carrierTestJSON{wrong == "", wrong}}, nil
}
