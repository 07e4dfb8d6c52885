package postgres

import (
	"errors"
	"net/url"
)

// WithRole returns an address of the same database for another role.
func WithRole(address, role, password string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return "", errors.New("the database's address must be a URL, as postgres://user:password@host/database")
	}
	u.User = url.UserPassword(role, password)
	return u.String(), nil
}
