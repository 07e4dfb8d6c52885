package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// findBinaries returns the folder of initdb and postgres: of the version that
// made dir, or the newest where there is no cluster yet.
func findBinaries(dir string) (string, error) {
	found := map[int]string{} // major version: folder
	newest := 0
	for _, bin := range candidates() {
		v := majorVersion(filepath.Join(bin, "postgres"))
		if v == 0 || found[v] != "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
			continue
		}
		found[v], newest = bin, max(newest, v)
	}
	if newest == 0 {
		return "", ErrNoPostgres
	}
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return found[newest], nil
	}
	var made int
	if _, err := fmt.Sscan(string(text), &made); err == nil && found[made] != "" {
		return found[made], nil
	}
	return "", fmt.Errorf("%w: %s needs version %s and this machine has %d; install `postgresql-%[3]s`, or move the folder away to begin anew",
		ErrOtherVersion, dir, strings.TrimSpace(string(text)), newest)
}

// candidates lists folders that may hold the programs: Debian's, Fedora's,
// Homebrew's, and the search path.
func candidates() []string {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/opt/homebrew/opt/postgresql/bin",
		"/usr/local/opt/postgresql@*/bin", "/usr/local/opt/postgresql/bin",
	} {
		m, _ := filepath.Glob(pattern) // fails on a bad pattern only
		dirs = append(dirs, m...)
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(p))
		}
	}
	return dirs
}

var (
	versionInPath = regexp.MustCompile(`postgresql[/@](\d+)/bin/`)
	versionInText = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)
)

// majorVersion returns 0 for what is not a PostgreSQL server.
func majorVersion(postgres string) int {
	var v int
	if _, err := os.Stat(postgres); err != nil {
		return 0
	}
	m := versionInPath.FindStringSubmatch(postgres) // saves running the program
	if m == nil {
		out, err := exec.Command(postgres, "--version").Output()
		if err != nil {
			return 0
		}
		m = versionInText.FindStringSubmatch(string(out))
	}
	if m != nil {
		_, _ = fmt.Sscan(m[1], &v)
	}
	return v
}
