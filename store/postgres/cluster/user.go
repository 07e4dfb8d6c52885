package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// osUser is the system's user that the server runs as.
type osUser struct {
	self     string // name of the user who runs this process
	drop     bool   // run as uid and gid, which are not ours
	uid, gid uint32
}

// serverUser picks the user: ourselves, or postgres or nobody for root, as
// whom PostgreSQL refuses to run.
func serverUser() (*osUser, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("find this process's user: %w", err)
	}
	if os.Geteuid() != 0 {
		return &osUser{self: me.Username}, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &osUser{self: me.Username, drop: true, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root and there is no user postgres or nobody; run as another user")
}

func (u *osUser) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	return u.own(dir)
}

func (u *osUser) own(dir string) error {
	if !u.drop {
		return nil
	}
	if err := os.Chown(dir, int(u.uid), int(u.gid)); err != nil {
		return fmt.Errorf("give %s to the server's user: %w", dir, err)
	}
	return nil
}

// attributes of a child: its own process group, so that Ctrl-C in a terminal
// reaches us alone and calls can end before the database does.
func (u *osUser) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if u.drop {
		a.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid}
	}
	dieWithParent(a)
	return a
}

// Passable tells whether the server's user can reach dir through all of its
// parents. dir need not exist.
func Passable(dir string) bool {
	if os.Geteuid() != 0 {
		return true
	}
	u, err := serverUser()
	if err != nil {
		return false
	}
	for p := filepath.Dir(dir); ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			return false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		mode := info.Mode().Perm()
		switch {
		case ok && st.Uid == u.uid:
			mode >>= 6
		case ok && st.Gid == u.gid:
			mode >>= 3
		}
		if mode&1 == 0 {
			return false
		}
		if p == filepath.Dir(p) {
			return true
		}
	}
}
