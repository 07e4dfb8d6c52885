package api

import (
	"errors"
	"strconv"
	"strings"

	"parley/control"
)

// Match is what a change is based on; exported for huma.
type Match struct {
	IfMatch string `header:"If-Match" doc:"The ETag that the change is based on."`
}

// revision that the client has seen; 0 where it does not say.
func (m Match) revision() (int, error) {
	s := strings.TrimSpace(m.IfMatch)
	if s == "" || s == "*" {
		return 0, nil
	}
	n, ok := revisionOf(s)
	if !ok || n == 0 {
		return 0, errChanged
	}
	return n, nil
}

// revisionOf reads an ETag of ours: a revision, which has 31 bits where it is kept.
func revisionOf(tag string) (int, bool) {
	n, err := strconv.ParseUint(strings.Trim(strings.TrimPrefix(tag, "W/"), `"`), 10, 31)
	return int(n), err == nil
}

// onto puts the revision that the client has seen, if it says one, in the place of
// the stored one, so that a change based on an older one is a conflict.
func (m Match) onto(revision *int) error {
	seen, err := m.revision()
	if err == nil && seen != 0 {
		*revision = seen
	}
	return err
}

// only is revision for what a tenant has one of, whether it was ever stored: 0
// where it was not, -1 where the client does not say.
func (m Match) only() (int, error) {
	switch s := strings.Trim(strings.TrimSpace(m.IfMatch), `"`); s {
	case "", "*":
		return -1, nil
	case "0":
		return 0, nil
	}
	return m.revision()
}

var errChanged = newProblem(412, "changed", "it has changed meanwhile; read it again")

// matched turns the conflict of a change that was based on an ETag into 412, but
// for what is refused whatever the revision.
func (m Match) matched(err error) error {
	var refused *control.Refusal
	if m.IfMatch != "" && errors.Is(err, control.ErrConflict) && !errors.As(err, &refused) {
		return errChanged
	}
	return err
}
