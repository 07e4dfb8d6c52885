package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"parley/control/class"
)

// program calls fn for each node of each file that is no test's.
func program(t *testing.T, fn func(pos string, n ast.Node)) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && (d.Name() == "bin" || d.Name() == "node_modules" || strings.HasSuffix(d.Name(), "test") || d.Name() == "bench") {
				return fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err == nil {
			ast.Inspect(file, func(n ast.Node) bool {
				if n != nil {
					fn(set.Position(n.Pos()).String(), n)
				}
				return true
			})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// keysFrom is where the keys of a logger's method begin among its arguments.
var keysFrom = map[string]int{
	"With": 0, "Debug": 1, "Info": 1, "Warn": 1, "Error": 1,
	"DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "Log": 3,
}

var isLogger = regexp.MustCompile(`(?i)(^|\.)(log|logger|slog)$`)

// logCall returns where the keys of a call begin, or false if it logs nothing.
func logCall(call *ast.CallExpr) (int, bool) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return 0, false
	}
	from, ok := keysFrom[sel.Sel.Name]
	return from, ok && len(call.Args) >= from && ofLogger(sel.X)
}

func ofLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return isLogger.MatchString(x.Name)
	case *ast.SelectorExpr:
		return isLogger.MatchString("." + x.Sel.Name)
	case *ast.CallExpr: // log.With(…).Info
		_, ok := logCall(x)
		return ok
	}
	return false
}

// Every key that the program logs has a class; a key that none knows would be
// masked where it matters.
func TestLogKeysHaveClasses(t *testing.T) {
	calls, used := 0, map[string]bool{}
	check := func(pos string, e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			t.Errorf("%s: a log's key is not a literal", pos)
			return
		}
		key, _ := strconv.Unquote(lit.Value)
		if used[key] = true; logKeys[key] == "" {
			t.Errorf("%s: log key %q has no class in logKeys", pos, key)
		}
	}
	program(t, func(pos string, n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok { // slog.String("key", …)
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == "slog" && len(call.Args) == 2 && !strings.HasPrefix(sel.Sel.Name, "New") && keysFrom[sel.Sel.Name] == 0 && sel.Sel.Name != "With" {
				if _, lit := call.Args[0].(*ast.BasicLit); lit {
					check(pos, call.Args[0])
				}
				return
			}
		}
		from, ok := logCall(call)
		if !ok {
			return
		}
		calls++
		for i := from; i < len(call.Args); i++ {
			if _, attr := call.Args[i].(*ast.CallExpr); attr { // checked by itself
				continue
			}
			if call.Ellipsis.IsValid() && i == len(call.Args)-1 {
				continue
			}
			check(pos, call.Args[i])
			i++ // its value
		}
	})
	if calls < 80 {
		t.Errorf("only %d calls were looked at", calls)
	}
	for key := range logKeys {
		if !used[key] {
			t.Errorf("logKeys has %q, which nobody logs", key)
		}
	}
}

// Labels of metrics are fixed words: a sink that takes nothing above public.
func TestMetricLabelsArePublic(t *testing.T) {
	used := map[string]bool{}
	program(t, func(pos string, n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		sel, made := call.Fun.(*ast.SelectorExpr)
		made = made && strings.HasPrefix(sel.Sel.Name, "New") && strings.HasSuffix(sel.Sel.Name, "Vec") && len(call.Args) == 2
		if id, ok := call.Fun.(*ast.Ident); !made && !(ok && id.Name == "counter") {
			return
		}
		list, ok := call.Args[len(call.Args)-1].(*ast.CompositeLit)
		if !ok {
			if id, ok := call.Args[1].(*ast.Ident); !ok || id.Name != "labels" { // of counter itself
				t.Errorf("%s: labels that are not written out", pos)
			}
			return
		}
		for _, e := range list.Elts {
			label, _ := strconv.Unquote(e.(*ast.BasicLit).Value)
			if used[label] = true; !metricLabels[label].Within(class.Public) || metricLabels[label] == "" {
				t.Errorf("%s: label %q is not public in metricLabels", pos, label)
			}
		}
	})
	if len(used) < 10 {
		t.Errorf("only %d labels were found", len(used))
	}
}

// The program's own logger holds nothing of a person or a secret, at any level.
func TestLoggerRefuses(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		log := Settings{LogLevel: "debug"}.logger(&out, format)
		log.Debug("offer", "transcript", "my name is Ann", "to", "+15550001234", "peer", "203.0.113.7:443",
			"err", &usageError{errFor("dial https://user:hunter2@a.example: Bearer abcdefgh12345, ann@a.example")}, slog.Any("body", map[string]string{"x": "Ann"}))
		log.With("authorization", "hunter2").Info("request")
		for _, bad := range []string{"Ann", "hunter2", "abcdefgh", "5550001234", "203.0.113", "ann@"} {
			if strings.Contains(out.String(), bad) {
				t.Errorf("%s: the log holds %q: %s", format, bad, &out)
			}
		}
	}
}

type errFor string

func (e errFor) Error() string { return string(e) }
