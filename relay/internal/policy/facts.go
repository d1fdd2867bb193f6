package policy

import (
	"net/url"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// facts are the variables of one evaluation. Each is made when the expression reads it.
type facts struct {
	*trial
	headers, query ref.Val // nil: not read yet
}

var _ cel.Activation = (*facts)(nil)

// Parent implements cel.Activation.
func (*facts) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (f *facts) ResolveName(name string) (any, bool) {
	switch p := f.decision.Principal; name {
	case "request.method":
		return f.request.Method, true
	case "request.path":
		return f.path, true
	case "request.host":
		return string(tunnel.RequestHost(f.request.Host)), true
	case "request.headers":
		return f.readHeaders(), true
	case "request.query":
		return f.readQuery(), true
	case "caller.id":
		return p.Caller.String(), true
	case "caller.trust_domain":
		return p.Caller.TrustDomain().Name(), true
	case "caller.path":
		return p.Caller.Path(), true
	case "user":
		return p.User(), true
	case "groups":
		return p.Groups(), true
	case "app.id":
		return p.AppID(), true
	case "app.tier":
		if p.App == nil {
			return "", true
		}
		return p.App.Tier, true
	case "token.issuer":
		return p.Issuer(), true
	case "token.scopes":
		return p.Scopes(), true
	case "token.claims":
		if p.Token == nil {
			return map[string]any{}, true
		}
		return p.Token.Claims, true
	case "now":
		return f.now, true
	case "source":
		if !f.request.Source.IsValid() {
			return "", true
		}
		return f.request.Source.Unmap().String(), true
	}
	return nil, false
}

// credentials never reach an expression, and so never the text of an evaluation error.
var credentials = map[string]bool{"authorization": true, "proxy-authorization": true, "cookie": true}

func (f *facts) readHeaders() ref.Val {
	if f.headers == nil {
		lower := make(map[string][]string, len(f.request.Header))
		for name, values := range f.request.Header {
			if name = strings.ToLower(name); !credentials[name] {
				lower[name] = append(lower[name], values...)
			}
		}
		f.headers = headers{types.DefaultTypeAdapter.NativeToValue(lower).(traits.Mapper)}
	}
	return f.headers
}

func (f *facts) readQuery() ref.Val {
	if f.query == nil {
		f.query = readQuery(f.request.RawQuery)
	}
	return f.query
}

// readQuery refuses what ParseQuery would leave out without a word: the backend might read it.
func readQuery(raw string) ref.Val {
	if strings.Count(raw, "&") >= queryPairs {
		return types.NewErr("the query has more than %d pairs", queryPairs)
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return types.NewErr("the query does not parse")
	}
	return types.DefaultTypeAdapter.NativeToValue(map[string][]string(query))
}

// headers is a map whose keys are found in any case (RFC 9110 §5.1): an expression that spells a name as X-Admin must
// not find the header missing.
type headers struct{ traits.Mapper }

// Contains implements traits.Container.
func (h headers) Contains(key ref.Val) ref.Val { return h.Mapper.Contains(fold(key)) }

// Get implements traits.Indexer.
func (h headers) Get(key ref.Val) ref.Val { return h.Mapper.Get(fold(key)) }

// Find implements traits.Mapper.
func (h headers) Find(key ref.Val) (ref.Val, bool) { return h.Mapper.Find(fold(key)) }

func fold(key ref.Val) ref.Val {
	if name, ok := key.(types.String); ok {
		return types.String(strings.ToLower(string(name)))
	}
	return key
}
