package policy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/relay/internal/authn"
)

// judge evaluates an expression over one well-known call.
func judge(t *testing.T, expression string) (bool, error) {
	t.Helper()
	w := newWorld(t)
	allow, err := Compile(expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	r := get(nil, "Orders.DC1.example:8443", "secret")
	r.RawQuery = "a=1&a=2&b=%20"
	r.Header = http.Header{"X-Tenant": {"acme", "globex"}, "Authorization": {"Bearer secret"}, "Cookie": {"secret"}}
	d := &Decision{Principal: authn.Principal{
		Caller: w.id("spiffe://cloud.example/api/shop"),
		Token: &bearer.Token{Issuer: "https://idp.example", Subject: "user-1", Scopes: []string{"orders.read"}, Claims: map[string]any{
			"level": 3.0, "groups": []any{"staff", "admin"}, "org": map[string]any{"id": "acme"}, "admin": true,
		}},
	}}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return allow.eval(&facts{trial: &trial{Gate: w.gate, request: r, decision: d, now: now, path: "/v1/orders"}})
}

func TestEveryVariableIsThere(t *testing.T) {
	for _, expression := range []string{
		`request.method == "GET"`,
		`request.path == "/v1/orders"`,
		`request.host == "orders.dc1.example"`,
		`request.headers["x-tenant"] == ["acme", "globex"]`,
		`request.headers["X-TENANT"][0] == "acme"`,
		`"X-Tenant" in request.headers`,
		`request.headers.exists(name, name == "x-tenant")`,
		`!("x-other" in request.headers)`,
		`!("authorization" in request.headers) && !("Cookie" in request.headers)`,
		`has(request.headers.host) == false`,
		`request.query["a"] == ["1", "2"] && request.query.b[0] == " "`,
		`caller.id == "spiffe://cloud.example/api/shop"`,
		`caller.trust_domain == "cloud.example" && caller.path == "/api/shop"`,
		`user == "user-1"`,
		`token.issuer == "https://idp.example"`,
		`"orders.read" in token.scopes && token.scopes.size() == 1`,
		`token.claims.level >= 3 && token.claims.level == 3`,
		`token.claims.groups.exists(g, g == "admin") && "staff" in token.claims.groups`,
		`token.claims.org.id == "acme" && has(token.claims.org) && !has(token.claims.other)`,
		`token.claims.admin == true`,
		`now > timestamp("2026-01-01T00:00:00Z") && now.getHours() == 12`,
		`source == "192.0.2.7"`,
		`request.path.matches("^/v[0-9]+/") && request.path.startsWith("/v1/")`,
	} {
		if ok, err := judge(t, expression); !ok || err != nil {
			t.Errorf("%s: got %v, %v", expression, ok, err)
		}
	}
}

func TestAnEvaluationErrorDenies(t *testing.T) {
	for _, expression := range []string{
		`request.headers["x-other"][0] == "a"`,
		`request.headers["x-tenant"][7] == "a"`,
		`token.claims.other == "a"`,
		`token.claims.org > 3`,
		`int(request.host) == 3`,
		`1 / int(token.claims.level - 3.0) == 1`,
	} {
		if ok, err := judge(t, expression); ok || err == nil {
			t.Errorf("%s: got %v, %v", expression, ok, err)
		}
	}
}

func TestATunnelThatWantsNoTokenSeesAnEmptyOne(t *testing.T) {
	allow, err := Compile(`user == "" && token.issuer == "" && token.scopes == [] && token.claims == {} && caller.id == "" && caller.trust_domain == "" && source == ""`)
	if err != nil {
		t.Fatal(err)
	}
	ok, err := allow.eval(&facts{trial: &trial{request: &Request{}, decision: &Decision{}}})
	if !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestAQueryThatDoesNotParseDenies(t *testing.T) {
	allow, err := Compile(`!("admin" in request.query)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{"a=1;admin=1", "a=%zz", strings.Repeat("a&", queryPairs) + "b"} {
		if ok, err := allow.eval(&facts{trial: &trial{request: &Request{RawQuery: raw}, decision: &Decision{}}}); ok || err == nil {
			t.Errorf("%.20s: got %v, %v", raw, ok, err)
		}
	}
}

func TestAFaultyExpressionIsRefusedWithItsPlace(t *testing.T) {
	for expression, want := range map[string]string{
		`request.metod == "GET"`:                               "1:8: undeclared reference to 'request.metod'",
		`requst.method == "GET"`:                               "undeclared reference",
		`request == "x"`:                                       "1:1: undeclared reference to 'request', expected one of request.{method,",
		`token.claim.x == "x"`:                                 "undeclared reference to 'token.claim.x'",
		"true &&\n  caller.name == \"x\"":                      "2:9: undeclared reference to 'caller.name'",
		`true &&`:                                              "1:8: Syntax error",
		`request.method`:                                       "expected an expression that yields bool, this one yields string",
		`token.claims.admin`:                                   "expected an expression that yields bool, this one yields dyn",
		`request.method == 1`:                                  "no matching overload",
		`request.path.matches("(")`:                            "1:22: ",
		`request.path.matches(request.host)`:                   "1:29: expected a pattern written out",
		`now > timestamp("yesterday")`:                         "1:17: ",
		strings.Repeat("(", 200):                               "",
		strings.Repeat("true || ", 600) + "true":               "expected at most 4096 bytes",
		`"` + strings.Repeat("a", maxExpression) + `" == user`: "expected at most 4096 bytes",
	} {
		_, err := Compile(expression)
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("%.60s: got %v, want %q", expression, err, want)
		}
	}
}

func TestTheCostIsBoundedAtLoad(t *testing.T) {
	for _, expression := range []string{
		`token.claims.a.exists(x, token.claims.b.exists(y, x == y))`,
		`request.query.all(k, request.query[k].all(v, request.headers.exists(h, h == v)))`,
		`request.query.exists(a, request.query.exists(b, a != b && request.query[a] == request.query[b]))`,
		`request.path.matches("(a|b|c|d|e|f|g|h){1,1000}$")`,
	} {
		if _, err := Compile(expression); err == nil {
			t.Errorf("%s was let in", expression)
		}
	}
	for _, expression := range []string{
		`token.claims.groups.exists(g, g in ["admin", "staff"])`,
		`token.scopes.exists(s, s.startsWith("orders."))`,
		`request.headers["x"].all(v, v.matches("^[a-z]+$"))`,
		`request.headers.all(h, !h.startsWith("x-internal-"))`,
		`request.query.all(k, request.query[k].all(v, v.size() < 100))`,
	} {
		if _, err := Compile(expression); err != nil {
			t.Errorf("%s: %v", expression, err)
		}
	}
}
