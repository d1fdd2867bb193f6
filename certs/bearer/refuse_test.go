package bearer_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// J02
// J03
func TestTokenForSomebodyElseIsRefused(t *testing.T) {
	idp, v := fromFile(t)
	for name, test := range map[string]struct {
		claims map[string]any
		want   bearer.Reason
	}{
		"iss of another":        {map[string]any{"iss": "https://evil.example"}, bearer.ReasonIssuer},
		"iss with a slash":      {map[string]any{"iss": idpURL + "/"}, bearer.ReasonIssuer},
		"iss in upper case":     {map[string]any{"iss": "https://IDP.example"}, bearer.ReasonIssuer},
		"iss missing":           {map[string]any{"iss": nil}, bearer.ReasonIssuer},
		"iss an array":          {map[string]any{"iss": []string{idpURL}}, bearer.ReasonIssuer},
		"aud of another":        {map[string]any{"aud": "somebody"}, bearer.ReasonAudience},
		"aud array lacking us":  {map[string]any{"aud": []string{"a", "b"}}, bearer.ReasonAudience},
		"aud with us as a part": {map[string]any{"aud": "fairlead2"}, bearer.ReasonAudience},
		"aud empty":             {map[string]any{"aud": ""}, bearer.ReasonAudience},
		"aud empty array":       {map[string]any{"aud": []string{}}, bearer.ReasonAudience},
		"aud of numbers":        {map[string]any{"aud": []any{"fairlead", 1}}, bearer.ReasonAudience},
		"aud missing":           {map[string]any{"aud": nil}, bearer.ReasonAudience},
		"sub missing":           {map[string]any{"sub": nil}, bearer.ReasonSubject},
		"sub empty":             {map[string]any{"sub": ""}, bearer.ReasonSubject},
		"sub a number":          {map[string]any{"sub": 7}, bearer.ReasonSubject},
		"exp missing":           {map[string]any{"exp": nil}, bearer.ReasonExpiry},
		"scope a number":        {map[string]any{"scope": 7}, bearer.ReasonMalformed},
		"scp of numbers":        {map[string]any{"scp": []any{1}}, bearer.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), idp.Mint(t, test.claims))
			refused(t, err, test.want)
		})
	}
}

// J04
func TestTimesThatAreNoTimesAreRefused(t *testing.T) {
	idp, v := fromFile(t)
	rest := fmt.Sprintf(`"iss":%q,"aud":"fairlead","sub":"u"`, idpURL)
	soon := time.Now().Add(time.Minute).Unix()
	for payload, want := range map[string]bearer.Reason{
		fmt.Sprintf(`{%s,"exp":"%d"}`, rest, soon):                                                           bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":1e308}`, rest):                                                                bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":1e400}`, rest):                                                                bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":-1}`, rest):                                                                   bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":0}`, rest):                                                                    bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":null}`, rest):                                                                 bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":[%d]}`, rest, soon):                                                           bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":9223372036854775807}`, rest):                                                  bearer.ReasonExpiry,
		fmt.Sprintf(`{%s,"exp":%d,"exp":%d}`, rest, soon, soon+9):                                            bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"\u0065xp":%d}`, rest, soon, soon+9):                                       bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"a":{"b":1,"b":2}}`, rest, soon):                                           bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d} {}`, rest, soon):                                                          bearer.ReasonMalformed,
		fmt.Sprintf(`[{%s,"exp":%d}]`, rest, soon):                                                           bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"nbf":"0"}`, rest, soon):                                                   bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"iat":-5}`, rest, soon):                                                    bearer.ReasonMalformed,
		fmt.Sprintf(`{%s,"exp":%d,"a":%s1%s}`, rest, soon, strings.Repeat("[", 40), strings.Repeat("]", 40)): bearer.ReasonMalformed,
	} {
		_, err := v.Verify(t.Context(), idp.SignRaw(t, fmt.Sprintf(`{"alg":"ES256","kid":%q}`, idp.Kid()), payload))
		t.Log(payload)
		refused(t, err, want)
	}
	_, err := v.Verify(t.Context(), idp.SignRaw(t, fmt.Sprintf(`{"alg":"ES256","kid":%[1]q,"kid":%[1]q}`, idp.Kid()),
		fmt.Sprintf(`{%s,"exp":%d}`, rest, soon)))
	refused(t, err, bearer.ReasonMalformed)
}

// J05
func TestTokenOfAnotherPurposeIsRefused(t *testing.T) {
	idp, v := fromFile(t)
	for name, test := range map[string]struct {
		header, claims map[string]any
		want           bearer.Reason
	}{
		"unknown crit":    {map[string]any{"crit": []string{"x"}, "x": 1}, nil, bearer.ReasonCritical},
		"empty crit":      {map[string]any{"crit": []string{}}, nil, bearer.ReasonCritical},
		"crit null":       {map[string]any{"crit": json.RawMessage("null")}, nil, bearer.ReasonCritical},
		"b64 false":       {map[string]any{"b64": false}, nil, bearer.ReasonCritical},
		"b64 true":        {map[string]any{"b64": true}, nil, bearer.ReasonCritical},
		"logout token":    {map[string]any{"typ": "logout+jwt"}, nil, bearer.ReasonType},
		"DPoP proof":      {map[string]any{"typ": "dpop+jwt"}, nil, bearer.ReasonType},
		"JOSE":            {map[string]any{"typ": "JOSE"}, nil, bearer.ReasonType},
		"typ a number":    {map[string]any{"typ": 1}, nil, bearer.ReasonMalformed},
		"kid a number":    {map[string]any{"kid": 1}, nil, bearer.ReasonMalformed},
		"alg an array":    {map[string]any{"alg": []string{"ES256"}}, nil, bearer.ReasonMalformed},
		"ID token":        {map[string]any{"typ": "JWT"}, map[string]any{"nonce": "n"}, bearer.ReasonType},
		"ID token's hash": {nil, map[string]any{"at_hash": "h"}, bearer.ReasonType},
		"old logout":      {map[string]any{"typ": nil}, map[string]any{"events": map[string]any{"x": 1}}, bearer.ReasonType},
		"Keycloak's ID":   {map[string]any{"typ": "JWT"}, map[string]any{"typ": "ID"}, bearer.ReasonType},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := idp.Sign(test.header, test.claims)
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.Verify(t.Context(), raw)
			refused(t, err, test.want)
		})
	}
	for _, typ := range []any{nil, "JWT", "jwt", "at+jwt", "AT+JWT"} {
		raw, err := idp.Sign(map[string]any{"typ": typ}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Errorf("typ %v: %v", typ, err)
		}
	}
}

// J06
// J07
func TestTokenBeyond8KiBIsRefusedUnread(t *testing.T) {
	idp, v := fromFile(t)
	_, err := v.Verify(t.Context(), strings.Repeat("x", 1<<20))
	refused(t, err, bearer.ReasonTooLarge)
	_, err = v.Verify(t.Context(), idp.Mint(t, map[string]any{"pad": strings.Repeat("x", 8<<10)}))
	refused(t, err, bearer.ReasonTooLarge)
}

func TestMalformedTokensAreRefused(t *testing.T) {
	idp, v := fromFile(t)
	good := idp.Mint(t, nil)
	parts := strings.Split(good, ".")
	for _, raw := range []string{
		"", ".", "..", "...", "a.b.c", good + ".", good + ".x", "." + good, " " + good, good + "\n", good + "=",
		parts[0] + "\n." + parts[1] + "." + parts[2], parts[0] + "." + parts[1], b64([]byte("[]")) + "." + parts[1] + "." + parts[2],
		b64([]byte("null")) + "." + parts[1] + "." + parts[2], parts[0] + "." + b64([]byte("1")) + "." + parts[2],
	} {
		_, err := v.Verify(t.Context(), raw)
		if err == nil {
			t.Errorf("%q was taken", raw)
			continue
		}
		refused(t, err, bearer.ReasonMalformed)
	}
	flipped := []byte(good)
	flipped[len(flipped)-10] ^= 1 // still base64url, or refused as malformed
	if _, err := v.Verify(t.Context(), string(flipped)); err == nil {
		t.Error("a changed signature was taken")
	}
}

func TestErrorsNeverContainTheToken(t *testing.T) {
	idp, v := fromFile(t)
	for _, claims := range []map[string]any{
		{"iss": "https://evil.example"}, {"aud": "x"}, {"exp": 1}, {"exp": "soon"}, {"sub": nil}, {"nbf": 9e9}, {"nonce": "n"},
	} {
		raw, err := idp.Sign(map[string]any{"typ": "JWT"}, claims)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(t.Context(), raw)
		if err == nil {
			t.Fatalf("%v was taken", claims)
		}
		for part := range strings.SplitSeq(raw, ".") {
			if strings.Contains(err.Error(), part) || strings.Contains(fmt.Sprintf("%#v", err), part) {
				t.Errorf("%v: %v", claims, err)
			}
		}
	}
}
