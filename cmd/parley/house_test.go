package main_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// These tests hold the house rules of CONTRIBUTING.md that a compiler does not.
// They parse every Go file of the module, whatever its build constraints.

// mayImport says which of our packages a package may import, and through them
// what those may. A package without a row does not belong.
var mayImport = map[string][]string{
	"media": {},

	"agent":               {"media", "agent/flow", "agent/effect"},
	"agent/flow":          {},
	"agent/effect":        {"agent/flow"},
	"agent/socket":        {"agent"},
	"agent/stt":           {"agent", "agent/socket"},
	"agent/llm":           {"agent"},
	"agent/tts":           {"agent", "agent/socket"},
	"agent/flow/flowtest": {"agent/flow", "agent/effect"},
	"agent/providertest":  {"agent"},

	"signaling":               {"media"},
	"signaling/signalingtest": {"signaling"},

	"control":                     {"agent", "agent/flow", "agent/effect", "control/signature", "control/class", "control/seal"},
	"control/seal":                {},
	"control/signature":           {}, // receivers of webhooks use it by itself
	"control/api":                 {"control", "control/identity", "control/ingress", "control/outbound"},
	"control/ingress":             {},
	"control/ingress/ingresstest": {"control/ingress"},
	"control/identity":            {"control"},
	"control/outbound":            {"control"},
	"control/class":               {},
	"control/egress":              {},
	"control/console":             {},
	"control/console/consoletest": {},

	// Whole calls, tests alone: nobody imports it.
	"cmd/parley/calltest": {"agent/tts", "signaling/signalingtest", "control", "control/identity", "examples/bookbot/library"},

	"examples":                 {"agent/flow"}, // its tests check the documents
	"examples/bookbot/library": {},
	"examples/bookbot/service": {"examples/bookbot/library"},

	"store/blob":                  {"control"},
	"store/kms":                   {"control"},
	"store/redis":                 {"control", "control/ingress", "control/outbound"},
	"store/aws":                   {"control"},
	"store/vault":                 {"control"},
	"store/vault/vaulttest":       {},
	"store/postgres":              {"control", "control/identity", "control/outbound"},
	"store/postgres/cluster":      {},
	"store/postgres/postgrestest": {"store/postgres", "store/postgres/cluster", "store/linetest"},
	"store/linetest":              {},

	"cmd/bench": {"media", "store/postgres", "store/postgres/cluster"}, // measures the program from outside
}

// theOneProgram wires everything, so it may import everything; nobody imports it.
const theOneProgram = "cmd/parley"

// longFiles may be longer than maxLines, each for the reason beside it.
var longFiles = map[string]string{}

const maxLines = 500

// realSleeps are the tests' sleeps outside synctest, each with the reason why
// no virtual clock can do. Helpers that only synctest bubbles call are fine in
// any file that uses synctest.
var realSleeps = map[string]string{
	"agent/stt/pocketsphinx_test.go": "feeds a real subprocess no faster than speech",
}

func TestImports(t *testing.T) {
	allowed := map[string]map[string]bool{}
	var reach func(pkg string, into map[string]bool)
	reach = func(pkg string, into map[string]bool) {
		for _, p := range mayImport[pkg] {
			if !into[p] {
				into[p] = true
				reach(p, into)
			}
		}
	}
	for pkg := range mayImport {
		allowed[pkg] = map[string]bool{pkg: true}
		reach(pkg, allowed[pkg])
	}
	for _, f := range sources(t) {
		if f.pkg == theOneProgram {
			continue
		}
		if allowed[f.pkg] == nil {
			t.Errorf("%s: package %s has no row in the import table", f.path, f.pkg)
			continue
		}
		for _, imp := range f.ast.Imports {
			name, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module+"/")
			switch {
			case !ours, allowed[f.pkg][name]:
			case f.test && (isTestHelper(name) || strings.HasPrefix(name, "store/") || name == "control/identity"):
				// Tests bring real storage and real people along.
			default:
				t.Errorf("%s: %s may not import %s", f.pos(imp), f.pkg, name)
			}
		}
	}
}

// A program that holds package testing carries its flags and its panics.
func TestTestingStaysInTests(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || isTestHelper(f.pkg) {
			continue
		}
		for _, imp := range f.ast.Imports {
			if strings.HasPrefix(imp.Path.Value, `"testing`) || imp.Path.Value == `"net/http/httptest"` {
				t.Errorf("%s: import %s outside tests", f.pos(imp), imp.Path.Value)
			}
		}
	}
}

func TestFileSizes(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || ast.IsGenerated(f.ast) || longFiles[f.path] != "" {
			continue
		}
		if f.lines > maxLines {
			t.Errorf("%s: %d lines, more than %d: is it still one thing?", f.path, f.lines, maxLines)
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init: build it where it is used", f.pos(fn))
			}
		}
	}
}

// Package variables are tables, sentinels and embedded files: set where they
// are declared, and never again. What is made to change betrays itself by
// having no value yet, or by being a lock, a channel or an atomic.
func TestNoPackageState(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				if why := mutable(g, s.(*ast.ValueSpec)); why != "" {
					t.Errorf("%s: package variable %s %s", f.pos(s), s.(*ast.ValueSpec).Names[0], why)
				}
			}
		}
	}
}

func mutable(g *ast.GenDecl, s *ast.ValueSpec) string {
	if s.Names[0].Name == "_" || hasDirective(g.Doc, "//go:embed") || hasDirective(s.Doc, "//go:embed") {
		return ""
	}
	if len(s.Values) == 0 {
		return "has no value: somebody means to set it"
	}
	for _, v := range s.Values {
		if call, ok := v.(*ast.CallExpr); ok {
			if fn, ok := call.Fun.(*ast.Ident); ok && (fn.Name == "make" || fn.Name == "new") {
				return "is empty: somebody means to fill it"
			}
		}
		if u, ok := v.(*ast.UnaryExpr); ok {
			v = u.X
		}
		if lit, ok := v.(*ast.CompositeLit); ok {
			if sel, ok := lit.Type.(*ast.SelectorExpr); ok {
				if p, ok := sel.X.(*ast.Ident); ok && (p.Name == "sync" || p.Name == "atomic") {
					return "is a " + p.Name + "." + sel.Sel.Name
				}
			}
		}
	}
	return ""
}

func hasDirective(doc *ast.CommentGroup, directive string) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, directive)
	})
}

func TestPackagesAreDescribed(t *testing.T) {
	described := map[string]int{}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		described[f.pkg] += 0
		if f.ast.Doc != nil {
			described[f.pkg]++
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(described)) {
		if n := described[pkg]; n != 1 {
			t.Errorf("%s: %d package comments, want 1", pkg, n)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			for _, n := range undocumented(d) {
				t.Errorf("%s: %s has no doc comment", f.pos(n), n.Name)
			}
		}
	}
}

// undocumented returns the exported names of a declaration that nobody
// describes. A comment over a group speaks for its constants and variables, one
// over an interface for its methods, the standard library for Error and String.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc != nil || !d.Name.IsExported() {
			return nil
		}
		if d.Recv == nil || ast.IsExported(receiver(d)) && !slices.Contains(saidElsewhere, d.Name.Name) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if !s.Name.IsExported() {
					continue
				}
				if d.Doc == nil && s.Doc == nil && s.Comment == nil {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				if d.Doc == nil && s.Doc == nil && s.Comment == nil && s.Names[0].IsExported() {
					names = append(names, s.Names[0])
				}
			}
		}
	}
	return names
}

var saidElsewhere = []string{"Error", "String"}

func receiver(fn *ast.FuncDecl) string {
	expr := fn.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// The program waits for something, with a deadline; a test of time runs in
// testing/synctest, where a sleep takes no time.
func TestNoSleeps(t *testing.T) {
	for _, f := range sources(t) {
		virtual := f.test && slices.ContainsFunc(f.ast.Imports, func(i *ast.ImportSpec) bool {
			return i.Path.Value == `"testing/synctest"`
		})
		if virtual || isTestHelper(f.pkg) && !f.test || realSleeps[f.path] != "" {
			continue
		}
		for _, call := range calls(f.ast, "time", "Sleep") {
			t.Errorf("%s: time.Sleep outside synctest", f.pos(call))
		}
	}
}

// A skipped test guards nothing; what it needs is installed by `make test`.
func TestNoSkips(t *testing.T) {
	for _, f := range sources(t) {
		for _, method := range []string{"Skip", "Skipf", "SkipNow"} {
			for _, receiver := range []string{"t", "b", "f", "tb"} {
				for _, call := range calls(f.ast, receiver, method) {
					t.Errorf("%s: %s.%s", f.pos(call), receiver, method)
				}
			}
		}
	}
}

// calls returns the calls x.name(…) in a file.
func calls(file *ast.File, x, name string) (found []*ast.CallExpr) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != name {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == x {
			found = append(found, call)
		}
		return true
	})
	return found
}

// The readme's table of settings and the program's own list are the same.
// Settings are struct fields with a tag `env:"NAME"` in this folder.
func TestReadmeHasEverySetting(t *testing.T) {
	inCode := map[string]bool{}
	for _, f := range sources(t) {
		if f.pkg != theOneProgram || f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if field, ok := n.(*ast.Field); ok && field.Tag != nil {
				if m := envTag.FindStringSubmatch(field.Tag.Value); m != nil {
					inCode[m[1]] = true
				}
			}
			return true
		})
	}
	inReadme := map[string]bool{}
	for _, line := range strings.Split(section(t, "README.md", "## Settings"), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range settingName.FindAllStringSubmatch(cells[1], -1) {
			if inReadme[m[1]] {
				t.Errorf("README.md: %s is in the table twice", m[1])
			}
			inReadme[m[1]] = true
		}
	}
	if len(inReadme) == 0 {
		t.Fatal("README.md has no table of settings")
	}
	if len(inCode) == 0 {
		return // the program takes no settings yet
	}
	for _, name := range slices.Sorted(maps.Keys(inCode)) {
		if !inReadme[name] {
			t.Errorf("README.md does not tell of %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inReadme)) {
		if !inCode[name] {
			t.Errorf("README.md tells of %s, which the program does not read", name)
		}
	}
}

var (
	envTag      = regexp.MustCompile(`\benv:"([A-Z][A-Z0-9_]+)`)
	settingName = regexp.MustCompile("`([A-Z][A-Z0-9_]+)`")
	linkTarget  = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	makeTarget  = regexp.MustCompile("`make ([a-z-]+)")
	makeRule    = regexp.MustCompile(`(?m)^([a-z-]+):`)
)

// What our pages point at exists: files, and targets of make.
func TestPagesPointSomewhere(t *testing.T) {
	rules := map[string]bool{}
	for _, m := range makeRule.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		rules[m[1]] = true
	}
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"} {
		text := read(t, page)
		for _, m := range linkTarget.FindAllStringSubmatch(text, -1) {
			if _, err := fs.Stat(os.DirFS(root), path.Clean(m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			}
		}
		for _, m := range makeTarget.FindAllStringSubmatch(text, -1) {
			if !rules[m[1]] {
				t.Errorf("%s: `make %s` is not in the Makefile", page, m[1])
			}
		}
	}
}

const (
	module = "parley"
	root   = "../.." // of the module, from this package
)

// A source is one parsed Go file of the module.
type source struct {
	path  string // from the root, with slashes
	pkg   string // its folder, likewise
	test  bool
	lines int
	ast   *ast.File
	set   *token.FileSet
}

func (s source) pos(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.set.Position(n.Pos()).Line)
}

// isTestHelper reports whether only tests, and the program's own caller, use pkg.
func isTestHelper(pkg string) bool { return strings.HasSuffix(pkg, "test") }

// sources parses the module.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != root && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		all = append(all, source{
			path: rel, pkg: path.Dir(rel), test: strings.HasSuffix(base, "_test.go"),
			lines: set.File(file.FileStart).LineCount(), ast: file, set: set,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("found no Go file")
	}
	slices.SortFunc(all, func(a, b source) int { return cmp.Compare(a.path, b.path) })
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section returns the text under a heading, up to the next of its rank.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(read(t, page), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", page, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}
