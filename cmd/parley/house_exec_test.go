package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// subprocesses are the functions that start another program, each with the
// reason why; where the program runs in production, what it is given goes by
// arguments or by its input, never through a shell.
var subprocesses = map[string]string{
	"agent/stt/pocketsphinx.go warm": "recognition on this machine; audio by its input",
	"agent/tts/flite.go run":         "speech on this machine; the text by its input",

	"store/postgres/cluster/cluster.go run":           "the database of parley dev",
	"store/postgres/cluster/binaries.go majorVersion": "the database of parley dev",
	"store/postgres/cluster/files.go isServer":        "whether the database of an earlier parley dev still runs",
	"store/postgres/cluster/files.go initialize":      "the database of parley dev",

	"cmd/bench/main.go pinned":                   "itself, held to other cores",
	"cmd/bench/machine.go startOn":               "the program under measurement, held to a core",
	"store/postgres/postgrestest/own.go signal":  "tests",
	"store/vault/vaulttest/vaulttest.go Start":   "tests",
	"store/vault/vaulttest/vaulttest.go program": "tests",
}

// shells run what they are told by a text; exec.Command of one is a way back
// to building commands.
var shells = []string{"sh", "bash", "dash", "zsh", "ksh", "ash", "env", "xargs", "eval", "cmd", "cmd.exe", "powershell", "pwsh", "osascript"}

// Other programs are started at few places, by a list of arguments, and none
// of them is a shell.
func TestSubprocessesTakeArguments(t *testing.T) {
	used := map[string]bool{}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, s := range started(f) {
			if s.shell != "" {
				t.Errorf("%s: %s starts %s: give the program its arguments instead", s.pos, s.where, s.shell)
			}
			if subprocesses[s.where] == "" {
				t.Errorf("%s: %s starts a program and is not on the list of those that do", s.pos, s.where)
			}
			used[s.where] = true
		}
	}
	for where := range subprocesses {
		if !used[where] {
			t.Errorf("%s starts no program: take it off the list", where)
		}
	}
}

// starters are the functions that start a program.
var starters = []string{"os/exec.Command", "os/exec.CommandContext", "os.StartProcess", "syscall.Exec", "syscall.ForkExec",
	"syscall.StartProcess", "golang.org/x/sys/unix.Exec"}

// A start is a place where a program is started.
type start struct {
	where, pos string // "agent/tts/flite.go speak"
	shell      string // what is wrong with it; "" for nothing
}

// started finds what starts programs in a file, whatever name the packages
// that do are imported by.
func started(f source) (all []start) {
	names := map[string]string{} // as imported: path
	for _, imp := range f.ast.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		if p != "os/exec" && p != "os" && p != "syscall" && p != "golang.org/x/sys/unix" {
			continue
		}
		name := path.Base(p)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = p
	}
	starts := func(x ast.Node, what ...string) bool {
		sel, ok := x.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		of, ok := sel.X.(*ast.Ident)
		return ok && slices.Contains(what, names[of.Name]+"."+sel.Sel.Name)
	}
	for _, d := range f.ast.Decls {
		where := f.path
		if fn, ok := d.(*ast.FuncDecl); ok {
			where += " " + fn.Name.Name
		}
		ast.Inspect(d, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if ok && starts(lit.Type, "os/exec.Cmd") || starts(n, starters...) {
				all = append(all, start{where: where, pos: f.pos(n)})
			}
			return true
		})
		ast.Inspect(d, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && len(all) > 0 && all[len(all)-1].where == where {
				if text, _ := strconv.Unquote(lit.Value); slices.Contains(shells, path.Base(text)) {
					all = append(all, start{where, f.pos(lit), text})
				}
			}
			return true
		})
	}
	return all
}

// The rules over statements and subprocesses see what they are for.
func TestRulesOverCalls(t *testing.T) {
	parse := func(body string) source {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, "x.go", "package x\nimport (\"os/exec\"; run \"os/exec\"; \"github.com/jackc/pgx/v5\")\n"+body, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		return source{path: "x.go", pkg: "x", ast: file, set: set}
	}
	for i, tt := range []struct {
		body string
		good bool
	}{
		{"const q = `SELECT 1`; func f() { tx.Query(ctx, q+` FOR UPDATE`, 1) }", true},
		{"func f(n []int) { q := `a`; q += fmt.Sprintf(` LIMIT $%d`, len(n)); tx.Exec(ctx, q) }", true},
		{"func f(s string) { q := of(`b`); tx.Exec(ctx, q) }; func of(s string) string { return `a` + s }", true},
		{"func f(s string) { run(`a`, s) }; func run(q string, v any) { tx.QueryRow(ctx, q, v) }", true},
		{"var by = map[string]string{`a`: `b`}; func f(s string) { q, ok := by[s]; tx.Query(ctx, q) }", true},
		{"func f() { b.add(pgx.QueuedQuery{SQL: `a`}) }; func add(q pgx.QueuedQuery) { b.Queue(q.SQL) }", true},
		{"func f(u user) { tx.Query(ctx, `SELECT 1 WHERE name = '`+u.name+`'`) }", false},
		{"func f(u user) { tx.Query(ctx, fmt.Sprintf(`SELECT '%s'`, u.name)) }", false},
		{"func f(u user) { q := `a`; if u.ok { q += u.name }; tx.Exec(ctx, q) }", false},
		{"func f(u user) { b.Queue(strings.Join(u.names, `,`)) }", false},
		{"func f(u user) { run[int](`a`+u.name, 1) }; func run[T any](q string, v T) { again(q, v) }; func again(q string, v any) { tx.QueryRow(ctx, q, v) }", false},
		{"func f(u user) { q := of(u); tx.Exec(ctx, q) }; func of(u user) string { if u.ok { return `a` }; return u.name }", false},
		{"func f(u user) { do := func(s string) { tx.Exec(ctx, s) }; do(u.name) }", false},
		{"func f(u user) { b.add(pgx.QueuedQuery{SQL: u.name}) }", false},
		{"func f(r io.Reader) { text, _ := io.ReadAll(r); tx.Exec(ctx, string(text)) }", false},
	} {
		t.Run(fmt.Sprint("statement-", i), func(t *testing.T) {
			p := newSQLPackage([]source{parse(tt.body)}, nil)
			all := p.check()
			bad := slices.ContainsFunc(all, func(c sqlCall) bool { return !c.constant })
			if !p.speaksSQL || len(all) == 0 || bad == tt.good {
				t.Errorf("%s: %v, want good %v", tt.body, all, tt.good)
			}
		})
	}
	for i, tt := range []struct {
		body          string
		found, shells int
	}{
		{"func f() { exec.Command(`flite`, `--`, text) }", 1, 0},
		{"func f() { run.CommandContext(ctx, `/bin/sh`, `-c`, text) }", 2, 1},
		{"func f() { shell := `bash`; c := exec.Cmd{Path: shell} }", 2, 1},
		{"func f() { start := run.Command; start(`env`) }", 2, 1},
	} {
		t.Run(fmt.Sprint("subprocess-", i), func(t *testing.T) {
			all := started(parse(tt.body))
			shells := len(slices.DeleteFunc(slices.Clone(all), func(s start) bool { return s.shell == "" }))
			if len(all) != tt.found || shells != tt.shells || !strings.HasSuffix(all[0].where, " f") {
				t.Errorf("%s: %+v, want %d, %d of them shells", tt.body, all, tt.found, tt.shells)
			}
		})
	}
}
