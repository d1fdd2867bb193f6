package authn

import (
	"net/http"
	"strings"

	"github.com/fairlead/fairlead/protocol"
)

// maxToken is in bytes, as in package bearer; checked here before anything is done with the token.
const maxToken = 8 << 10

// The schemes of access tokens.
const (
	SchemeBearer = "Bearer" // RFC 6750
	SchemeDPoP   = "DPoP"   // RFC 9449 §7.1
)

// AccessToken finds the access token of a request and its scheme: in Authorization, or, where the caller speaks to the relay as
// to a proxy, in Proxy-Authorization. A token in the query, a body or a cookie is never looked for.
//
// The error is a *protocol.Error: bad_request for two credentials, whatever their schemes; token_missing for none, an
// empty one or another scheme; token_invalid for what cannot be a token. It never contains the token.
func AccessToken(h http.Header, proxy bool) (token, scheme string, err error) {
	value, err := authorization(h, proxy)
	if err != nil {
		return "", "", err
	}
	word, token, _ := strings.Cut(value, " ")
	switch {
	case value == "":
		return "", "", missing("a bearer token is expected")
	case strings.EqualFold(word, SchemeBearer):
		scheme = SchemeBearer
	case strings.EqualFold(word, SchemeDPoP):
		scheme = SchemeDPoP
	default:
		return "", "", missing("a token of scheme Bearer or DPoP is expected")
	}
	token = strings.Trim(token, " ")
	switch {
	case token == "":
		return "", "", missing("a bearer token is expected, the header has an empty one")
	case len(token) > maxToken:
		return "", "", protocol.Errorf(protocol.TokenInvalid, "a token of at most %d bytes is expected", maxToken)
	case !isToken(token):
		return "", "", protocol.Errorf(protocol.TokenInvalid, "the token has characters that no bearer token has")
	}
	return token, scheme, nil
}

// authorization is the one header with credentials, "" for none.
func authorization(h http.Header, proxy bool) (string, error) {
	values := h["Authorization"]
	if proxy {
		switch over := h["Proxy-Authorization"]; {
		case len(values) == 0:
			values = over
		case len(over) > 0:
			return "", protocol.Errorf(protocol.BadRequest, "expected either Authorization or Proxy-Authorization, got both")
		}
	}
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", protocol.Errorf(protocol.BadRequest, "expected one authorization header, got %d", len(values))
}

// isToken checks the b64token of RFC 6750 §2.1.
func isToken(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~+/", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func missing(sentence string) error { return protocol.Errorf(protocol.TokenMissing, "%s", sentence) }
