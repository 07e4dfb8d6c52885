// Package aws keeps secrets in AWS Secrets Manager.
package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"parley/agent/effect"
	"parley/control"
)

// Timeout bounds a request with its repetitions.
const Timeout = 2 * time.Second

// Secrets keeps secrets behind references aws-sm://name#key. It implements
// [control.SecretKeeper] and is safe for use by several goroutines.
type Secrets struct {
	api     *secretsmanager.Client
	timeout time.Duration
}

var _ control.SecretKeeper = (*Secrets)(nil)

// Open takes region, credentials and address from where AWS's own tools do:
// AWS_REGION, AWS_ACCESS_KEY_ID, files, the role of the machine or the pod;
// AWS_ENDPOINT_URL_SECRETS_MANAGER. It makes no request.
func Open(ctx context.Context) (*Secrets, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(2))
	if err != nil {
		return nil, fmt.Errorf("open aws secrets: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("open aws secrets: no region: set AWS_REGION")
	}
	return &Secrets{secretsmanager.NewFromConfig(cfg), Timeout}, nil
}

// ReadSecret implements [control.SecretReader].
func (s *Secrets) ReadSecret(ctx context.Context, r control.SecretRef) (effect.Secret, control.SecretRef, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	in := &secretsmanager.GetSecretValueInput{SecretId: &r.Path}
	if r.Version != "" {
		in.VersionId = &r.Version
	}
	got, err := s.api.GetSecretValue(ctx, in)
	if err != nil {
		return "", r, problem("read", r, err)
	}
	value := aws.ToString(got.SecretString)
	if got.SecretString == nil {
		value = string(got.SecretBinary)
	}
	if r.Field != "" {
		var fields map[string]any
		if json.Unmarshal([]byte(value), &fields) != nil { // the error might quote it
			return "", r, fmt.Errorf("aws secret %s is not a JSON object: %w", r.Path, control.ErrNotFound)
		}
		value, _ = fields[r.Field].(string)
	}
	if value == "" {
		return "", r, fmt.Errorf("aws secret %s has no such text: %w", r.Path, control.ErrNotFound)
	}
	return effect.Secret(value), r.At(aws.ToString(got.VersionId)), nil
}

// WriteSecret implements [control.SecretKeeper]. AWS compares nothing before it
// writes: of two that write at once, whose row comes second takes its version back.
func (s *Secrets) WriteSecret(ctx context.Context, r control.SecretRef, value effect.Secret) (control.SecretRef, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	text := string(value)
	got, err := s.api.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: &r.Path, SecretString: &text})
	if err == nil {
		return r.At(aws.ToString(got.VersionId)), nil
	}
	if !errors.As(err, new(*types.ResourceNotFoundException)) {
		return r, problem("write", r, err)
	}
	made, err := s.api.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &r.Path, SecretString: &text})
	if err != nil {
		return r, problem("create", r, err)
	}
	return r.At(aws.ToString(made.VersionId)), nil
}

// SecretVersions implements [control.SecretKeeper].
func (s *Secrets) SecretVersions(ctx context.Context, r control.SecretRef) ([]control.SecretVersion, error) {
	list, err := s.versions(ctx, r)
	if errors.Is(err, control.ErrNotFound) {
		return nil, nil
	}
	var out []control.SecretVersion
	for _, v := range list {
		out = append(out, control.SecretVersion{Version: aws.ToString(v.VersionId), CreatedAt: aws.ToTime(v.CreatedDate), Readable: true})
	}
	return out, err
}

func (s *Secrets) versions(ctx context.Context, r control.SecretRef) ([]types.SecretVersionsListEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	got, err := s.api.ListSecretVersionIds(ctx, &secretsmanager.ListSecretVersionIdsInput{SecretId: &r.Path, MaxResults: aws.Int32(100)})
	if err != nil {
		return nil, problem("list the versions of", r, err)
	}
	return got.Versions, nil
}

// RetractSecret implements [control.SecretKeeper]: what was current before is
// current again. A secret's only version goes with it.
func (s *Secrets) RetractSecret(ctx context.Context, r control.SecretRef) error {
	list, err := s.versions(ctx, r)
	if err != nil {
		return err
	}
	for _, v := range list {
		for _, stage := range v.VersionStages {
			if stage == "AWSPREVIOUS" && aws.ToString(v.VersionId) != r.Version {
				ctx, cancel := context.WithTimeout(ctx, s.timeout)
				defer cancel()
				_, err := s.api.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{SecretId: &r.Path,
					VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: v.VersionId, RemoveFromVersionId: &r.Version})
				return problem("take back a version of", r, err)
			}
		}
	}
	return nil
}

// ForgetSecret implements [control.SecretKeeper]: at once, without the days in
// which AWS would bring it back.
func (s *Secrets) ForgetSecret(ctx context.Context, r control.SecretRef) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.api.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: &r.Path, ForceDeleteWithoutRecovery: aws.Bool(true)})
	return problem("delete", r, err)
}

// problem maps AWS's errors to the domain's. Of its words the code is kept.
func problem(what string, r control.SecretRef, err error) error {
	if err == nil {
		return nil
	}
	var known smithy.APIError
	var answer interface{ HTTPStatusCode() int }
	cause := control.ErrUnavailable // no answer, no credentials
	switch {
	case errors.As(err, new(*types.ResourceNotFoundException)):
		cause = control.ErrNotFound
	case errors.As(err, new(*types.ResourceExistsException)):
		cause = control.ErrConflict
	case errors.As(err, &known) && known.ErrorCode() == "ThrottlingException":
	case errors.As(err, &answer) && answer.HTTPStatusCode() >= 400 && answer.HTTPStatusCode() < http.StatusInternalServerError:
		code := "refused"
		if known != nil {
			code = known.ErrorCode()
		}
		return fmt.Errorf("aws: %s %s: %s", what, r.Path, code)
	}
	return fmt.Errorf("aws: %s %s: %w: %w", what, r.Path, cause, err)
}
