// Package kms wraps data keys by AWS Key Management Service.
package kms

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"parley/control"
)

// A Provider implements [control.KeyProvider] by one symmetric key of KMS. The
// place is its encryption context, {"parley": place}, which AWS authenticates
// and CloudTrail shows: it holds ids, nothing secret.
type Provider struct {
	client *kms.Client
	key    string
}

var _ control.KeyProvider = (*Provider)(nil)

// Options tunes a Provider; the zero value takes all from the environment, as
// AWS's own tools do.
type Options struct {
	Endpoint string // instead of AWS's
	Load     []func(*config.LoadOptions) error
}

// Open returns a Provider for a key: its id, its ARN, or "alias/" and a name. It
// needs kms:Encrypt, kms:Decrypt and both kms:ReEncrypt* for it. Nothing is
// asked for before it is needed.
func Open(ctx context.Context, key string, o Options) (*Provider, error) {
	if key == "" || strings.ContainsAny(key, " \t\r\n") {
		return nil, errors.New("open aws kms: name a key, as an id, an ARN or alias/NAME")
	}
	cfg, err := config.LoadDefaultConfig(ctx, append([]func(*config.LoadOptions) error{
		config.WithRetryMaxAttempts(2)}, o.Load...)...)
	if err != nil {
		return nil, fmt.Errorf("open aws kms: %w", err)
	}
	return &Provider{kms.NewFromConfig(cfg, func(k *kms.Options) {
		if o.Endpoint != "" {
			k.BaseEndpoint = aws.String(o.Endpoint)
		}
	}), key}, nil
}

// Name implements [control.KeyProvider].
func (p *Provider) Name() string { return "aws-kms://" + p.key }

// Wrap implements [control.KeyProvider].
func (p *Provider) Wrap(ctx context.Context, place string, key []byte) ([]byte, error) {
	out, err := p.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &p.key, Plaintext: key, EncryptionContext: at(place)})
	if err != nil {
		return nil, problem("encrypt", err)
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements [control.KeyProvider].
func (p *Provider) Unwrap(ctx context.Context, place string, wrapped []byte) ([]byte, error) {
	out, err := p.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &p.key, CiphertextBlob: wrapped, EncryptionContext: at(place)})
	if err != nil {
		return nil, problem("decrypt", err)
	}
	return out.Plaintext, nil
}

// Rewrap implements [control.KeyProvider]; the key stays within KMS.
func (p *Provider) Rewrap(ctx context.Context, place string, wrapped []byte) ([]byte, error) {
	out, err := p.client.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: wrapped, SourceKeyId: &p.key, SourceEncryptionContext: at(place),
		DestinationKeyId: &p.key, DestinationEncryptionContext: at(place)})
	if err != nil {
		return nil, problem("re-encrypt", err)
	}
	return out.CiphertextBlob, nil
}

func at(place string) map[string]string { return map[string]string{"parley": place} }

// problem names AWS's own code, and leaves out what may quote the request.
func problem(what string, err error) error {
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		return fmt.Errorf("aws kms: %s: %s", what, api.ErrorCode())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("aws kms: %s: no answer in time: %w", what, err)
	}
	return fmt.Errorf("aws kms: %s: it cannot be reached", what)
}
