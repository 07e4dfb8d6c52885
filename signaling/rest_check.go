package signaling

import (
	"context"
	"errors"
	"net/http"

	"github.com/twilio/twilio-go/client"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"
)

// Check asks Twilio for the account itself: whether the credentials are good and
// the account may call (https://www.twilio.com/docs/iam/api/account). wrong says
// what is not as it should be, and what to do, without repeating a secret; it is
// "" where all is well. The error says why it could not be found out.
func (r *REST) Check(ctx context.Context) (wrong string, err error) {
	err = r.do(ctx, "check account", func(api *openapi.ApiService) error {
		account, err := api.FetchAccount(r.AccountSID)
		if err == nil && (account.Status == nil || *account.Status != "active") {
			wrong = "the account is not active: Twilio has suspended or closed it; see Twilio's console"
		}
		return err
	})
	var e *client.TwilioRestError
	if !errors.As(err, &e) {
		return wrong, err
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return "Twilio does not take the credentials: see that token_secret holds the auth token of this very account, or api_key_secret the secret of api_key_sid, and that region and edge are the account's", nil
	case http.StatusForbidden:
		return "Twilio knows the credentials, and they may not read the account: use the auth token, or an API key of kind standard or main", nil
	case http.StatusNotFound:
		return "Twilio knows no such account for these credentials: see that account_sid is right", nil
	}
	return "", err
}
