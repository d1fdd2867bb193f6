package bearer

import (
	"strings"
	"time"
)

// A Token is what a verified token says. It is shared between calls: nobody changes it.
type Token struct {
	Issuer   string
	Subject  string
	Audience []string // everyone it is meant for, us among them
	Scopes   []string // of the claim scope, or else scp
	Expires  time.Time
	IssuedAt time.Time      // zero where the token does not say
	ID       string         // jti; "" where the token does not say
	Claims   map[string]any // all of them, as encoding/json decodes them: numbers are float64
}

// Texts are the texts of a claim: a text is a list of one, and what is no text is passed over. A name with dots leads into
// objects, as in realm_access.roles, where no claim has the whole of it as its name.
func (t *Token) Texts(name string) []string {
	v, ok := t.Claims[name]
	if !ok {
		v = any(t.Claims)
		for part := range strings.SplitSeq(name, ".") {
			object, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = object[part]
		}
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, entry := range v {
			if s, ok := entry.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}
