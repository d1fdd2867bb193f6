package policy

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// Bounds of an expression.
const (
	maxExpression = 4 << 10   // bytes
	maxNodes      = 1_000     // of its syntax tree
	maxDepth      = 50        // of its parentheses and operators
	maxNesting    = 2         // of all, exists, filter, map in each other
	maxRegex      = 1_000     // instructions of one compiled pattern
	maxCost       = 1_000_000 // CEL's units, by the sizes in cost.go; of the order of 10 ms at the very worst
)

// errBroken is wrapped by an evaluation that went wrong on our side, not on the request's.
var errBroken = errors.New("evaluation is broken")

// An Allow is a compiled expression. It is safe for concurrent use.
type Allow struct {
	program cel.Program
	reads   map[string]bool // the variables that it names
}

// Compile checks an expression: CEL, over the variables below, yielding a bool, with a bounded cost for every request
// that the relay's limits let in. The error says on one line what is wrong, and where (line:column of the expression).
//
//	request.method   string
//	request.path     string, decoded
//	request.host     string, lower case, without port
//	request.headers  map of string to list of string; names in any case; without the caller's credentials
//	request.query    map of string to list of string; a query that does not parse is an error
//	caller.id, caller.trust_domain, caller.path   string; "" for a caller without an SVID
//	app.id, app.tier string; "" where no app has shown its secret
//	user             string, who has logged in, or else the token's subject
//	groups           list of string, those that a directory knows the user by
//	token.issuer     string
//	token.scopes     list of string
//	token.claims     map of string to anything
//	now              timestamp
//	source           string, the caller's address; "" at a local door
//
// A tunnel that wants no token sees an empty one.
func Compile(expression string) (*Allow, error) {
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("expected at most %d bytes, got %d", maxExpression, len(expression))
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("preparing CEL: %w", err)
	}
	checked, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, explain(issues)
	}
	if out := checked.OutputType(); !out.IsExactType(types.BoolType) {
		return nil, fmt.Errorf("expected an expression that yields bool, this one yields %s", out)
	}
	if err := checkPatterns(checked.NativeRep()); err != nil {
		return nil, err
	}
	if err := checkCost(env, checked); err != nil {
		return nil, err
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	reads := make(map[string]bool)
	for _, ref := range checked.NativeRep().ReferenceMap() {
		reads[ref.Name] = true
	}
	return &Allow{program, reads}, nil
}

var environment = sync.OnceValues(func() (*cel.Env, error) {
	lists := cel.MapType(cel.StringType, cel.ListType(cel.StringType))
	return cel.NewEnv(
		// Names with dots, and not objects with fields: a field that does not exist is a compile error, and reading
		// one builds nothing.
		cel.Variable("request.method", cel.StringType),
		cel.Variable("request.path", cel.StringType),
		cel.Variable("request.host", cel.StringType),
		cel.Variable("request.headers", lists),
		cel.Variable("request.query", lists),
		cel.Variable("caller.id", cel.StringType),
		cel.Variable("caller.trust_domain", cel.StringType),
		cel.Variable("caller.path", cel.StringType),
		cel.Variable("app.id", cel.StringType),
		cel.Variable("app.tier", cel.StringType),
		cel.Variable("user", cel.StringType),
		cel.Variable("groups", cel.ListType(cel.StringType)),
		cel.Variable("token.issuer", cel.StringType),
		cel.Variable("token.scopes", cel.ListType(cel.StringType)),
		cel.Variable("token.claims", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("now", cel.TimestampType),
		cel.Variable("source", cel.StringType),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true), // claims are doubles, literals are ints
		cel.ParserRecursionLimit(maxDepth),
		cel.ParserExpressionSizeLimit(maxNodes),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateRegexLiterals(),
			cel.ValidateRegexProgramSizeLimit(maxRegex),
			cel.ValidateComprehensionNestingLimit(maxNesting),
		),
	)
})

// checkPatterns refuses a regular expression that comes from the request: its size is not ours to bound.
func checkPatterns(a *ast.AST) error {
	for _, call := range ast.MatchDescendants(ast.NavigateAST(a), ast.FunctionMatcher("matches")) {
		args := call.AsCall().Args()
		if pattern := args[len(args)-1]; pattern.Kind() != ast.LiteralKind {
			at := a.SourceInfo().GetStartLocation(pattern.ID())
			return fmt.Errorf("%d:%d: expected a pattern written out in the expression", at.Line(), at.Column()+1)
		}
	}
	return nil
}

func explain(issues *cel.Issues) error {
	var all []string
	for _, e := range issues.Errors() {
		text := oneLine(e.Message)
		if strings.HasPrefix(text, "undeclared reference to") {
			text = strings.TrimSuffix(text, " (in container '')") + ", expected one of request.{method,path,host,headers,query}, " +
				"caller.{id,trust_domain,path}, app.{id,tier}, user, groups, token.{issuer,scopes,claims}, now, source"
		}
		all = append(all, fmt.Sprintf("%d:%d: %s", e.Location.Line(), e.Location.Column()+1, text))
	}
	return errors.New(strings.Join(all, "; "))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// eval returns the expression's verdict. An error wraps errBroken unless it is the request's doing.
func (a *Allow) eval(f *facts) (bool, error) {
	out, _, err := a.program.Eval(f)
	if err != nil {
		return false, err
	}
	verdict, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("%w: expected bool, got %s", errBroken, out.Type().TypeName())
	}
	return verdict, nil
}
