package policy

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"

	"github.com/fairlead/fairlead/protocol"
)

// The most that a request can hold, by the relay's default limits: 32 KiB and 100 fields of header (in which the query
// is counted), an 8 KiB token, of which 6 KiB are claims. An item of a collection is sized so that all of them together
// are as long as what they came in: a pass over the collection then costs what it can cost.
const (
	headerBytes  = 32 << 10
	headerFields = 100
	queryPairs   = 1_000
	claimBytes   = 6 << 10
	claimEntries = 1_000
)

// sizes tells CEL's estimator how large each variable can be: bytes of a string, entries of a collection.
var sizes = map[string]uint64{
	"request.method":                 256,
	"request.path":                   protocol.MaxPath,
	"request.host":                   256,
	"request.headers":                headerFields,
	"request.headers.@keys":          headerBytes / headerFields,
	"request.headers.@values":        headerFields,
	"request.headers.@values.@items": headerBytes / headerFields,
	"request.query":                  queryPairs,
	"request.query.@keys":            headerBytes / queryPairs,
	"request.query.@values":          queryPairs,
	"request.query.@values.@items":   headerBytes / queryPairs,
	"caller.id":                      protocol.MaxID,
	"caller.trust_domain":            256,
	"caller.path":                    protocol.MaxID,
	"user":                           protocol.MaxID,
	"token.issuer":                   protocol.MaxID,
	"token.scopes":                   claimEntries,
	"token.scopes.@items":            claimBytes / claimEntries,
	"token.claims":                   claimEntries,
	"token.claims.@keys":             claimBytes / claimEntries,
	"source":                         64,
}

// estimator answers for what sizes names; below token.claims everything is as long as all claims together can be.
type estimator struct{}

func (estimator) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	println("SIZE", fmt.Sprint(node.Path()), fmt.Sprint(node.Type()))
	return nil
}

func (estimator) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

func checkCost(env *cel.Env, checked *cel.Ast) error {
	estimate, err := env.EstimateCost(checked, estimator{})
	if err != nil {
		return fmt.Errorf("estimating the cost: %w", err)
	}
	println("COST", estimate.Max)
	if estimate.Max > maxCost {
		return fmt.Errorf("expected an expression that costs at most %d units at the worst, this one may cost %d", maxCost, estimate.Max)
	}
	return nil
}
