package bearer

import (
	"encoding/base64"
	"strings"
)

const (
	maxToken = 8 << 10 // bytes, checked before anything else
	maxKid   = 256     // bytes
)

// unverified is what a token says before anything of it is believed.
type unverified struct {
	alg    string
	kid    string // "" where there is none
	typ    string // lower case
	claims map[string]any
}

// parse takes a compact JWS apart and refuses what golang-jwt would let pass: unknown critical extensions, unencoded
// payloads, other types of token, keys that are there twice. It ignores jku, x5u, jwk and x5c: keys come from the
// issuer's set alone.
func parse(raw string) (*unverified, error) {
	if len(raw) > maxToken {
		return nil, invalid(ReasonTooLarge, "at most 8 KiB are allowed")
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return nil, invalid(ReasonMalformed, "three parts are expected, none of them empty")
	}
	if strings.ContainsAny(raw, "\r\n") { // encoding/base64 skips line ends: one token would have many spellings
		return nil, invalid(ReasonMalformed, "line ends are not base64url")
	}
	header, err := decodePart("header", parts[0])
	if err != nil {
		return nil, err
	}
	u := &unverified{}
	if err := u.readHeader(header); err != nil {
		return nil, err
	}
	u.claims, err = decodePart("payload", parts[1])
	return u, err
}

func decodePart(name, part string) (map[string]any, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, invalid(ReasonMalformed, name+" is not base64url")
	}
	object, err := decodeObject(b)
	if err != nil {
		return nil, invalid(ReasonMalformed, name+": "+err.Error())
	}
	return object, nil
}

func (u *unverified) readHeader(header map[string]any) error {
	for _, name := range []string{"crit", "b64"} { // RFC 7515 §4.1.11, RFC 7797: we understand no extension
		if _, ok := header[name]; ok {
			return invalid(ReasonCritical, "header "+name+" is not supported")
		}
	}
	for name, dst := range map[string]*string{"alg": &u.alg, "kid": &u.kid, "typ": &u.typ} {
		v, there := header[name]
		if !there {
			continue
		}
		s, ok := v.(string)
		if !ok {
			return invalid(ReasonMalformed, "header "+name+" is not a string")
		}
		*dst = s
	}
	if _, ok := algorithms[u.alg]; !ok {
		return invalid(ReasonAlgorithm, "algorithm "+quote(u.alg)+" is not allowed")
	}
	if len(u.kid) > maxKid || strings.ContainsFunc(u.kid, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return invalid(ReasonUnknownKey, "kid "+quote(u.kid)+" is not a sane name")
	}
	u.typ = strings.ToLower(u.typ) // a media type: RFC 7515 §4.1.9
	switch u.typ {
	case "", "jwt", "at+jwt", "jose": // the last one is of JWT-SVIDs alone, which checkKind knows
		return nil
	}
	return invalid(ReasonType, "typ "+quote(u.typ)+" is not JWT or at+jwt")
}
