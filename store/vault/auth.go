package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"
)

// An Auth is a way to sign in: [Token], [AppRole] or [Kubernetes].
type Auth interface {
	name() string
	// signIn returns what Vault granted. One goroutine calls it at a time.
	signIn(context.Context, *api.Client) (*api.SecretAuth, error)
}

// A Text is a secret that may change: it is read anew whenever it is needed.
type Text func() (string, error)

// Fixed is a Text that does not change.
func Fixed(s string) Text { return func() (string, error) { return s, nil } }

// FromFile is the text of a file, without space around it.
func FromFile(name string) Text {
	return func() (string, error) {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read a credential for vault: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
}

// Token signs in with a token that somebody else made, such as Vault Agent. It
// is renewed if it can be.
func Token(token Text) Auth { return &tokenAuth{token} }

type tokenAuth struct{ token Text }

func (*tokenAuth) name() string { return "token" }

func (t *tokenAuth) signIn(ctx context.Context, c *api.Client) (*api.SecretAuth, error) {
	text, err := t.token()
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, errors.New("the token is empty")
	}
	own, err := with(c, text)
	if err != nil {
		return nil, err
	}
	got, err := own.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, err
	}
	life, err := got.TokenTTL()
	if err != nil {
		return nil, errors.New("vault does not say how long the token is good")
	}
	renewable, err := got.TokenIsRenewable()
	if err != nil {
		return nil, errors.New("vault does not say whether the token can be renewed")
	}
	if life == 0 && got.Data["expire_time"] != nil {
		return nil, errors.New("the token has lapsed")
	}
	return &api.SecretAuth{ClientToken: text, LeaseDuration: int(life / time.Second), Renewable: renewable}, nil
}

// with is c under another token; an empty one stands for none.
func with(c *api.Client, token string) (*api.Client, error) {
	own, err := c.CloneWithHeaders()
	if err != nil {
		return nil, fmt.Errorf("sign in to vault: %w", err)
	}
	own.SetToken(token)
	return own, nil
}

// AppRole signs in as a role by its two ids (auth method approle).
type AppRole struct {
	RoleID   string
	SecretID Text
	// Wrapped says that SecretID is a wrapping token, which is good for one use:
	// the secret id inside is kept in memory, for later sign-ins. When the text
	// changes, the new one is unwrapped.
	Wrapped bool
	Mount   string // default "approle"

	spent, inside string // the wrapping token that was used up, and what was in it
}

// ErrIntercepted says that a wrapping token was used before us, or wraps
// something else than a secret id of our method: an alarm.
var ErrIntercepted = errors.New("vault: the wrapped secret id was opened by somebody else, has lapsed, or is not ours")

func (a *AppRole) name() string { return "approle" }

func (a *AppRole) mount() string {
	if a.Mount == "" {
		return "approle"
	}
	return strings.Trim(a.Mount, "/")
}

func (a *AppRole) signIn(ctx context.Context, c *api.Client) (*api.SecretAuth, error) {
	id, err := a.SecretID()
	if err != nil {
		return nil, err
	}
	own, err := with(c, "")
	if err != nil {
		return nil, err
	}
	if a.Wrapped {
		if id, err = a.unwrap(ctx, own, id); err != nil {
			return nil, err
		}
	}
	method, err := approle.NewAppRoleAuth(a.RoleID, &approle.SecretID{FromString: id}, approle.WithMountPath(a.mount()))
	if err != nil {
		return nil, fmt.Errorf("sign in to vault by AppRole: %w", err)
	}
	return granted(own.Auth().Login(ctx, method))
}

func (a *AppRole) unwrap(ctx context.Context, c *api.Client, token string) (string, error) {
	if token == a.spent {
		return a.inside, nil
	}
	made, err := c.Logical().WriteWithContext(ctx, "sys/wrapping/lookup", map[string]any{"token": token})
	if status(err) == http.StatusBadRequest || status(err) == http.StatusForbidden {
		return "", ErrIntercepted
	}
	if err != nil {
		return "", err
	}
	if from, _ := made.Data["creation_path"].(string); !a.ours(from) {
		return "", fmt.Errorf("%w: it was made at another path", ErrIntercepted)
	}
	got, err := c.Logical().UnwrapWithContext(ctx, token)
	c.ClearToken() // the library leaves the wrapping token there
	if status(err) == http.StatusBadRequest || status(err) == http.StatusForbidden {
		return "", ErrIntercepted
	}
	if err != nil {
		return "", err
	}
	id, _ := got.Data["secret_id"].(string)
	if id == "" {
		return "", fmt.Errorf("%w: there is no secret id in it", ErrIntercepted)
	}
	a.spent, a.inside = token, id
	return id, nil
}

// ours tells whether a wrapping token was made by asking our method for a
// secret id.
func (a *AppRole) ours(creation string) bool {
	ok, err := path.Match("auth/"+a.mount()+"/role/*/secret-id", creation)
	return ok && err == nil
}

// Kubernetes signs in by the service account's token, which is read anew each
// time: projected tokens are replaced about every hour (auth method kubernetes).
type Kubernetes struct {
	Role      string
	TokenFile string // default where Kubernetes puts it; space around the token does not count
	Mount     string // default "kubernetes"
}

// serviceAccount is where Kubernetes puts the token of a pod's service account.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/token"

func (k *Kubernetes) name() string { return "kubernetes" }

func (k *Kubernetes) signIn(ctx context.Context, c *api.Client) (*api.SecretAuth, error) {
	file := k.TokenFile
	if file == "" {
		file = serviceAccount
	}
	token, err := FromFile(file)()
	if err != nil {
		return nil, err
	}
	opts := []kubernetes.LoginOption{kubernetes.WithServiceAccountToken(token)}
	if k.Mount != "" {
		opts = append(opts, kubernetes.WithMountPath(strings.Trim(k.Mount, "/")))
	}
	method, err := kubernetes.NewKubernetesAuth(k.Role, opts...)
	if err != nil {
		return nil, fmt.Errorf("sign in to vault by Kubernetes: %w", err)
	}
	own, err := with(c, "")
	if err != nil {
		return nil, err
	}
	return granted(own.Auth().Login(ctx, method))
}

func granted(s *api.Secret, err error) (*api.SecretAuth, error) {
	if err != nil {
		return nil, err
	}
	if s == nil || s.Auth == nil || s.Auth.ClientToken == "" {
		return nil, errors.New("vault granted no token")
	}
	return s.Auth, nil
}
