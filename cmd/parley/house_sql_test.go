package main_test

import (
	"go/ast"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// statements say which argument of a call is a statement of SQL: pgx's methods,
// and those of database/sql, which the migrations use.
var statements = map[string]int{
	"Query": 1, "QueryRow": 1, "Exec": 1, "Prepare": 2, "Queue": 0,
	"QueryContext": 1, "QueryRowContext": 1, "ExecContext": 1, "PrepareContext": 1,
}

// builtStatements are the functions that build a statement of more than
// constants, each with the reason why nothing of a request can get into it.
var builtStatements = map[string]string{
	"store/postgres/bootstrap.go Bootstrap":           "roles' passwords: statements that define take no parameters, so literal quotes them",
	"store/postgres/calllist.go Calls":                "conditions of one list, of which a filter picks; its values are parameters",
	"store/postgres/erasure.go eraseOthers":           "tables and columns of shelves",
	"store/postgres/figuregroup.go CallFigures":       "groups, dimensions and conditions, of which a query picks; its values are parameters",
	"store/postgres/keep.go FinishDeletion":           "tables and columns of shelves",
	"store/postgres/keep.go DeleteAged":               "tables and columns of shelves",
	"store/postgres/provider.go Admit":                "its steps are constants, beside it",
	"store/postgres/postgrestest/postgrestest.go New": "names of databases, counted",
}

// A statement is made of constants: what comes from a request, a row or a
// setting is a parameter. A function that hands a parameter of its own on as a
// statement is held to it at each of its calls.
func TestStatementsAreConstant(t *testing.T) {
	byPackage := map[string][]source{}
	constants := map[string]bool{} // "control.SubjectAgent"
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				for _, s := range g.Specs {
					for _, name := range s.(*ast.ValueSpec).Names {
						constants[f.ast.Name.Name+"."+name.Name] = true
					}
				}
			}
		}
		if !f.test {
			byPackage[f.pkg] = append(byPackage[f.pkg], f)
		}
	}
	found, used := 0, map[string]bool{}
	for _, pkg := range slices.Sorted(maps.Keys(byPackage)) {
		p := newSQLPackage(byPackage[pkg], constants)
		if !p.speaksSQL {
			continue
		}
		for _, s := range p.check() {
			found++
			where := p.path[s.fn] + " " + s.fn.Name.Name
			if s.constant {
				continue
			}
			if builtStatements[where] == "" {
				t.Errorf("%s: %s builds a statement of more than constants: give it parameters", s.pos, where)
			}
			used[where] = true
		}
	}
	if found < 100 {
		t.Errorf("found %d statements: this test looks past them", found)
	}
	for where := range builtStatements {
		if !used[where] {
			t.Errorf("%s builds no statement of more than constants: take it out of the list", where)
		}
	}
}

// A sqlPackage knows what the names of a package stand for.
type sqlPackage struct {
	speaksSQL bool
	constants map[string]bool // of all packages, "control.SubjectAgent"
	funcs     map[string][]*ast.FuncDecl
	values    map[string][]ast.Expr // of package constants and variables
	path      map[*ast.FuncDecl]string
	pos       func(ast.Node) string
	takers    map[string]map[int]bool // functions whose argument is a statement
}

// A sqlCall is a statement handed to the database, in fn.
type sqlCall struct {
	fn       *ast.FuncDecl
	pos      string
	constant bool
}

func newSQLPackage(files []source, constants map[string]bool) *sqlPackage {
	p := &sqlPackage{
		constants: constants,
		funcs:     map[string][]*ast.FuncDecl{}, values: map[string][]ast.Expr{},
		path: map[*ast.FuncDecl]string{}, takers: map[string]map[int]bool{},
	}
	p.pos = func(n ast.Node) string {
		at := files[0].set.Position(n.Pos())
		return files[0].pkg + "/" + path.Base(at.Filename) + ":" + strconv.Itoa(at.Line)
	}
	for _, f := range files {
		for _, imp := range f.ast.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			p.speaksSQL = p.speaksSQL || name == "database/sql" || strings.HasPrefix(name, "github.com/jackc/pgx/")
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				p.funcs[d.Name.Name] = append(p.funcs[d.Name.Name], d)
				p.path[d] = f.path
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok {
						for i, name := range v.Names {
							if i < len(v.Values) {
								p.values[name.Name] = append(p.values[name.Name], v.Values[i])
							}
						}
					}
				}
			}
		}
	}
	for name, i := range statements {
		p.takers[name] = map[int]bool{i: true}
	}
	return p
}

// check returns every statement of the package. Functions that take one are
// found on the way, so it looks again until there are no more.
func (p *sqlPackage) check() (all []sqlCall) {
	for known := -1; known != p.known(); {
		known, all = p.known(), nil
		for _, fns := range p.funcs {
			for _, fn := range fns {
				all = append(all, p.inFunc(fn)...)
			}
		}
	}
	slices.SortFunc(all, func(a, b sqlCall) int { return strings.Compare(a.pos, b.pos) })
	return all
}

func (p *sqlPackage) known() (n int) {
	for _, args := range p.takers {
		n += len(args)
	}
	return n
}

func (p *sqlPackage) inFunc(fn *ast.FuncDecl) (all []sqlCall) {
	if fn.Body == nil {
		return nil
	}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		e := sqlEval{p: p, fn: fn, seen: map[string]bool{}}
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == queuedSQL {
				all = append(all, sqlCall{fn, p.pos(kv), e.constant(kv.Value)})
			}
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		for i := range p.takers[calledName(call)] {
			if i < len(call.Args) {
				all = append(all, sqlCall{fn, p.pos(call), e.constant(call.Args[i])})
			}
		}
		return true
	})
	return all
}

// queuedSQL is the field of pgx.QueuedQuery that is a statement: held where it
// is set, it is good where it is read.
const queuedSQL = "SQL"

// calledName is the last name of what is called: f, x.f and f[T] are all f.
func calledName(call *ast.CallExpr) string {
	fun := call.Fun
	for {
		switch f := fun.(type) {
		case *ast.IndexExpr:
			fun = f.X
		case *ast.IndexListExpr:
			fun = f.X
		case *ast.SelectorExpr:
			return f.Sel.Name
		case *ast.Ident:
			return f.Name
		default:
			return ""
		}
	}
}

// A sqlEval says whether expressions of one function are made of constants.
type sqlEval struct {
	p    *sqlPackage
	fn   *ast.FuncDecl
	seen map[string]bool // names being looked at: a name in its own definition adds nothing
}

func (e sqlEval) constant(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.BasicLit:
		return true
	case *ast.ParenExpr:
		return e.constant(x.X)
	case *ast.BinaryExpr:
		return x.Op == token.ADD && e.constant(x.X) && e.constant(x.Y)
	case *ast.IndexExpr:
		return e.constant(x.X)
	case *ast.SliceExpr:
		return e.constant(x.X)
	case *ast.Ident:
		return e.name(x.Name)
	case *ast.CompositeLit:
		for _, v := range x.Elts {
			if kv, ok := v.(*ast.KeyValueExpr); ok {
				v = kv.Value
			}
			if !e.constant(v) {
				return false
			}
		}
		return true
	case *ast.SelectorExpr:
		of, ok := x.X.(*ast.Ident)
		return x.Sel.Name == queuedSQL || ok && e.p.constants[of.Name+"."+x.Sel.Name]
	case *ast.CallExpr:
		return e.call(x, 0)
	}
	return false
}

// call says whether a result of a call is made of constants: a number, what a
// few functions make of constants, or what a function of the package returns.
func (e sqlEval) call(c *ast.CallExpr, result int) bool {
	switch name := calledName(c); name {
	case "len", "Itoa", "FormatInt", "Sanitize": // numbers; pgx.Identifier quotes
		return true
	case "Sprintf", "Join", "Replace", "ReplaceAll", "Repeat", "TrimSuffix", "TrimPrefix", "append", "string":
		return !slices.ContainsFunc(c.Args, func(a ast.Expr) bool { return !e.constant(a) })
	default:
		fns := e.p.funcs[name]
		for _, fn := range fns {
			if !e.returns(fn, c, result) {
				return false
			}
		}
		return len(fns) > 0
	}
}

// returns says whether fn, called by c, returns constants alone. Of its
// parameters it returns what c gives.
func (e sqlEval) returns(fn *ast.FuncDecl, c *ast.CallExpr, result int) bool {
	key := "func " + fn.Name.Name
	if e.seen[key] || fn.Body == nil {
		return e.seen[key]
	}
	e.seen[key] = true
	defer delete(e.seen, key)
	within := sqlEval{p: e.p, fn: fn, seen: map[string]bool{key: true}}
	within.fn = fn
	ok := true
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if _, closure := n.(*ast.FuncLit); closure {
			return false
		}
		if r, is := n.(*ast.ReturnStmt); is && result < len(r.Results) {
			ok = ok && within.constantGiven(r.Results[result], e, c)
		}
		return true
	})
	return ok
}

// constantGiven is constant, with the parameters that a call gives.
func (e sqlEval) constantGiven(x ast.Expr, caller sqlEval, c *ast.CallExpr) bool {
	if i, ok := parameter(e.fn.Type, ast.Unparen(x)); ok && i < len(c.Args) {
		return caller.constant(c.Args[i])
	}
	return e.constant(x)
}

// name says whether all that a name is ever given is made of constants. A
// parameter is, when it is so at each call: its function becomes a taker.
func (e sqlEval) name(name string) bool {
	if e.seen[name] || name == "nil" {
		return true
	}
	e.seen[name] = true
	defer delete(e.seen, name)
	if i, ok := parameter(e.fn.Type, ast.NewIdent(name)); ok {
		e.demand(e.fn.Name.Name, i)
		return true
	}
	given, ok := e.assigned(name)
	if given {
		return ok
	}
	values := e.p.values[name]
	for _, v := range values {
		if !(sqlEval{p: e.p, fn: e.fn, seen: e.seen}).constant(v) {
			return false
		}
	}
	return len(values) > 0
}

func (e sqlEval) demand(fn string, arg int) {
	if e.p.takers[fn] == nil {
		e.p.takers[fn] = map[int]bool{}
	}
	e.p.takers[fn][arg] = true
}

// assigned looks for a name's values within the function: given says that
// there are any, ok that all are made of constants.
func (e sqlEval) assigned(name string) (given, ok bool) {
	ok = true
	take := func(lhs []ast.Expr, rhs []ast.Expr) {
		for i, l := range lhs {
			if id, is := l.(*ast.Ident); !is || id.Name != name {
				continue
			}
			given = true
			switch {
			case len(rhs) == len(lhs):
				ok = ok && e.constant(rhs[i])
			case len(rhs) == 1:
				switch r := rhs[0].(type) {
				case *ast.CallExpr:
					ok = ok && e.call(r, i)
				case *ast.IndexExpr: // v, ok := m[k]
					ok = ok && i == 0 && e.constant(r)
				default:
					ok = false
				}
			}
		}
	}
	ast.Inspect(e.fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			take(n.Lhs, n.Rhs)
		case *ast.ValueSpec:
			names := make([]ast.Expr, len(n.Names))
			for i, id := range n.Names {
				names[i] = id
			}
			take(names, n.Values)
		case *ast.RangeStmt:
			if id, is := n.Value.(*ast.Ident); is && id.Name == name {
				given = true
				ok = ok && e.constant(n.X)
			}
		case *ast.FuncLit:
			if i, is := parameter(n.Type, ast.NewIdent(name)); is {
				given = true
				ok = ok && e.closure(n, i)
			}
		}
		return true
	})
	return given, ok
}

// closure holds a closure with a name to constants at its calls; one without a
// name is called by others, with who knows what.
func (e sqlEval) closure(lit *ast.FuncLit, arg int) (named bool) {
	ast.Inspect(e.fn.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == len(a.Rhs) {
			for i, r := range a.Rhs {
				if id, ok := a.Lhs[i].(*ast.Ident); ok && r == lit {
					named = true
					e.demand(id.Name, arg)
				}
			}
		}
		return true
	})
	return named
}

// parameter returns the index of the parameter that x names.
func parameter(fn *ast.FuncType, x ast.Expr) (int, bool) {
	id, ok := x.(*ast.Ident)
	if !ok {
		return 0, false
	}
	i := 0
	for _, f := range fn.Params.List {
		if len(f.Names) == 0 {
			i++
		}
		for _, n := range f.Names {
			if n.Name == id.Name {
				return i, true
			}
			i++
		}
	}
	return 0, false
}
