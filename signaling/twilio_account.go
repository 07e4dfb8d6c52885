package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// A Signer is an account at the carrier, besides the gateway's own, with the
// tokens that may sign its webhooks: the current one, and the old one while
// rotating.
type Signer struct {
	Account string // as an [Arrival] names it
	Tokens  []string
}

// Signers knows the accounts besides the gateway's own. It is safe for
// concurrent use and answers within 2 s.
type Signers interface {
	// SignersOf returns who may have signed a webhook that says it is of an
	// account and about these numbers; none for an account that nobody has.
	SignersOf(ctx context.Context, accountSID string, numbers ...string) ([]Signer, error)
	// Owns tells whether a carrier's call is of the account, "" being the
	// gateway's own; true for a call that we have never taken in.
	Owns(ctx context.Context, account, carrierCallID string) (bool, error)
	// SignerOf returns the account of a call of ours; false for the gateway's own.
	SignerOf(ctx context.Context, callID string) (Signer, bool, error)
}

// A forbidden is why a request is not taken: its reason is one of
// [TwilioMetrics.Refused]. Who sent it hears "forbidden", and no more.
type forbidden struct {
	reason string
	err    error
}

func (r *forbidden) Error() string { return r.err.Error() }

func (r *forbidden) Unwrap() error { return r.err }

func forbid(reason, text string) error { return &forbidden{reason, errors.New(text)} }

// sender finds out whose account a webhook is of: "" for the gateway's own.
// signed is the form as it was signed, nil for JSON. The error is a *forbidden, or
// says that it cannot be found out now. What is said of an account counts for
// nothing until a token of that account has signed it, and an account that
// nobody has is refused as a wrong signature is.
func (t *Twilio) sender(r *http.Request, form, signedForm url.Values) (account string, err error) {
	if account, err = t.signer(r, form, signedForm); err != nil || t.Signers == nil {
		return account, err
	}
	owns, err := t.Signers.Owns(r.Context(), account, form.Get("CallSid"))
	if err == nil && !owns {
		err = forbid("account", "another account's call")
	}
	return account, err
}

// signer finds out whose token signed a webhook.
func (t *Twilio) signer(r *http.Request, form, signedForm url.Values) (account string, err error) {
	sid, header := form.Get("AccountSid"), r.Header.Get(signatureHeader)
	if t.Signers != nil && sid != "" && sid != t.AccountSID && header != "" {
		others, err := t.Signers.SignersOf(r.Context(), sid, form.Get("To"), form.Get("From"))
		if err != nil {
			return "", fmt.Errorf("find the account: %w", err)
		}
		for _, s := range others {
			if signed(s.Tokens, t.base(r), r.RequestURI, signedForm, header) {
				return s.Account, nil
			}
		}
		if len(others) > 0 {
			return "", forbid("signature", "wrong signature: the account's token or the public URL differs from Twilio's")
		}
	}
	if err := t.authentic(r, t.base(r), signedForm, true); err != nil {
		return "", &forbidden{"signature", err}
	}
	if t.AccountSID != "" && sid != t.AccountSID {
		return "", forbid("account", "another account's webhook")
	}
	return "", nil
}

// socketAuthentic checks the upgrade of a media socket: by its signature, if it
// has one, under the token of the account that the call is of.
func (t *Twilio) socketAuthentic(r *http.Request) error {
	base, header := socketScheme(t.mediaBase(r)), r.Header.Get(signatureHeader)
	if t.Signers == nil || header == "" {
		return t.authentic(r, base, nil, false)
	}
	claim, err := t.Tokens.Look(r.PathValue("token"))
	if err != nil {
		return err
	}
	s, ok, err := t.Signers.SignerOf(r.Context(), claim.CallID)
	switch {
	case err != nil:
		return fmt.Errorf("find the account: %w", err)
	case !ok:
		return t.authentic(r, base, nil, false)
	case !signed(s.Tokens, base, r.RequestURI, nil, header):
		return errors.New("wrong signature of the account")
	}
	return nil
}
