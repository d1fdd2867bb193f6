package policy

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"

	"github.com/fairlead/fairlead/protocol"
)

// The most that a request can hold, by the relay's default limits: 32 KiB and 100 fields of header (in which the query
// is counted), a query of 200 pairs (facts reads no longer one), and a token of 8 KiB, in which there is room for 6 KiB
// of claims. An item of a collection is sized so
// that all of them together are as long as what they came in: a pass over the collection then costs what it can cost.
const (
	headerBytes  = 32 << 10
	headerFields = 100
	queryPairs   = 200
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
	"app.id":                         256,
	"app.tier":                       64,
	"user":                           claimBytes,
	"groups":                         claimEntries,
	"groups.@items":                  claimBytes / claimEntries,
	"token.issuer":                   claimBytes,
	"token.scopes":                   claimEntries,
	"token.scopes.@items":            claimBytes / claimEntries,
	"token.claims":                   claimEntries,
	"source":                         64,
}

// checkCost refuses an expression that some request could make cost more than maxCost. It is asked once, at load: a
// limit at run time would cost every call more than the expression does.
func checkCost(env *cel.Env, checked *cel.Ast) error {
	estimate, err := env.EstimateCost(checked, estimator{})
	if err != nil {
		return fmt.Errorf("estimating the cost: %w", err)
	}
	if estimate.Max > maxCost {
		return fmt.Errorf("expected to cost at most %d units whatever the request, got %d: fewer passes over headers, query or claims within each other help", maxCost, estimate.Max)
	}
	return nil
}

// estimator implements cost.Estimator.
type estimator struct{}

// EstimateSize answers from sizes. A claim is as long as all claims together, an entry of one their mean.
func (estimator) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		return nil
	}
	size, ok := sizes[strings.Join(path, ".")]
	if !ok && path[0] == "token.claims" {
		size, ok = claimBytes, true
		if strings.HasPrefix(path[len(path)-1], "@") {
			size = claimBytes / claimEntries
		}
	}
	if !ok {
		return nil
	}
	return &cost.SizeEstimate{Max: size}
}

// EstimateCallCost leaves calls to CEL's own table.
func (estimator) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
