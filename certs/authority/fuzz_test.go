package authority_test

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/authority"
)

// FuzzRequests: whatever a stranger sends gets an answer, and nothing is issued for it.
func FuzzRequests(f *testing.F) {
	for _, text := range []string{`{"state":{"nonce":"AAAA"}}`, `{"enrol":{"token":"0011223344556677","csr":"AA==","mac":"AA=="}}`,
		`{"renew":{"csr":"AA==","proof":{"chain":["AA=="],"signature":"AA=="}}}`, `{"state":{"nonce":"","proof":{"chain":[],"signature":""}}}`} {
		f.Add([]byte(text))
	}
	td, err := certs.ParseTrustDomain("dc1.example")
	if err != nil {
		f.Fatal(err)
	}
	folder := authority.NewFolder(filepath.Join(f.TempDir(), "ca"), nil)
	if err := folder.Init(authority.Options{TrustDomain: td}); err != nil {
		f.Fatal(err)
	}
	ca, err := authority.Open(folder, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var answer struct {
			Refusal   *authority.Refusal
			Statement []byte
		}
		if err := json.Unmarshal(ca.Answer(t.Context(), text), &answer); err != nil || (answer.Refusal == nil) == (answer.Statement == nil) {
			t.Fatalf("%q: %+v, %v", text, answer, err)
		}
		var said struct{ SVID, Bans json.RawMessage }
		if answer.Statement != nil && (json.Unmarshal(answer.Statement, &said) != nil || said.SVID != nil || said.Bans != nil) {
			t.Fatalf("%q was answered with %s", text, answer.Statement)
		}
	})
}

// FuzzTokens: what is read as a token is written as the same.
func FuzzTokens(f *testing.F) {
	f.Add("fairlead-enroll-1.AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := authority.ParseToken(text)
		if err != nil {
			return
		}
		again, err := authority.ParseToken(token.Text())
		if err != nil || *again != *token {
			t.Fatalf("%q became %q: %v", text, token.Text(), err)
		}
	})
}
