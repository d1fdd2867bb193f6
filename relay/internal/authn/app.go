package authn

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/protocol"
)

// The headers by which an app shows its id and secret where Authorization is taken: by a token, say.
const (
	HeaderClientID     = "Fairlead-Client-Id"
	HeaderClientSecret = "Fairlead-Client-Secret"
)

// An App is a client that proves itself by a secret. Nobody changes it. Keys of an entry of `apps`.
type App struct {
	// ID is the client id. Key `id`, required.
	ID string
	// Secrets are SHA-256 of secrets of 256 random bits, which need no salt and no slow hash: nobody guesses one. Several count
	// at once, while one takes the place of another. Key `secrets`, required: sha256: and hexadecimal.
	Secrets [][sha256.Size]byte
	// Tunnels are what the app may call. Key `tunnels`, required: names.
	Tunnels []protocol.TunnelName
	// Tier is its quota. Key `tier`, default: the tunnel's.
	Tier string
}

// Apps are all apps, by id.
type Apps map[string]*App

// Credentials are a client id and its secret, as they came; a secret.
type Credentials struct{ ID, Secret string }

// ClientCredentials finds an app's credentials: in its two headers, or by Basic (RFC 7617). ok says that there are any. The
// error is a *protocol.Error with bad_request or credentials_invalid.
func ClientCredentials(h http.Header, proxy bool) (c Credentials, ok bool, err error) {
	ids, secrets := h[HeaderClientID], h[HeaderClientSecret]
	if len(ids)+len(secrets) > 0 {
		if len(ids) != 1 || len(secrets) != 1 {
			return c, true, protocol.Errorf(protocol.BadRequest, "expected one %s and one %s", HeaderClientID, HeaderClientSecret)
		}
		return Credentials{ids[0], secrets[0]}, true, nil
	}
	return BasicCredentials(h, proxy)
}

// BasicCredentials finds a name and its secret by Basic (RFC 7617), as ClientCredentials does.
func BasicCredentials(h http.Header, proxy bool) (c Credentials, ok bool, err error) {
	value, err := authorization(h, proxy)
	if err != nil {
		return c, true, err
	}
	if scheme, _, _ := strings.Cut(value, " "); !strings.EqualFold(scheme, "Basic") {
		return c, false, nil
	}
	r := http.Request{Header: http.Header{"Authorization": {value}}}
	if c.ID, c.Secret, ok = r.BasicAuth(); !ok {
		return c, true, protocol.Errorf(protocol.CredentialsInvalid, "a name and a secret in Basic are expected")
	}
	return c, true, nil
}

// Find returns the app whose credentials these are. It takes as long for a good id as for another.
func (a Apps) Find(c Credentials) (*App, bool) {
	sum := sha256.Sum256([]byte(c.Secret))
	app := a[c.ID]
	secrets := nobody
	if app != nil {
		secrets = app.Secrets
	}
	found := 0
	for _, s := range secrets {
		found |= subtle.ConstantTimeCompare(sum[:], s[:])
	}
	return app, found == 1 && app != nil
}

// nobody has a secret that hashes to nothing known.
var nobody = make([][sha256.Size]byte, 1)

// May reports whether the app's contract has the tunnel.
func (a *App) May(tunnel protocol.TunnelName) bool { return slices.Contains(a.Tunnels, tunnel) }
