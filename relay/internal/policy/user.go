package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/login"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// Directory judges names and passwords: *login.Directory, whose errors these are.
type Directory interface {
	Login(ctx context.Context, name, password string) (*login.User, error)
}

// Codes judges the codes of a second factor: *login.TOTP or *login.RADIUS, whose errors these are. state names the challenge that a
// code answers, "" for none.
type Codes interface {
	Check(ctx context.Context, user, code, state string, now time.Time) error
}

// proveUser wants a name and a password that the directory takes, by Basic.
func (t *trial) proveUser(ctx context.Context, rule *tunnel.UserRule) *refusal {
	no := &refusal{rule: RuleUser, challenge: basic}
	user := t.assumedUser(rule)
	if t.request.Assumed == nil {
		c, shown, err := authn.BasicCredentials(t.request.Header, t.request.Proxy)
		no.shown = shown
		switch {
		case err != nil:
			no.Error = protocol.AsError(err)
			return no
		case !shown:
			no.Error = protocol.Errorf(protocol.CredentialsMissing, "a user's name and password are expected, by Basic")
			return no
		}
		if user, err = t.directories[rule.Directory].Login(ctx, c.ID, c.Secret); err != nil {
			no.Error = loginError(err)
			return no
		}
	}
	if user == nil {
		no.Error = protocol.Errorf(protocol.CredentialsMissing, "a user's name and password are expected, by Basic")
		return no
	}
	if no := checkGroups(rule, user); no != nil {
		return no
	}
	t.decision.Principal.Login = user
	return nil
}

// assumedUser is whom an explanation takes for logged in, nil for nobody.
func (t *trial) assumedUser(rule *tunnel.UserRule) *login.User {
	a := t.request.Assumed
	if a == nil || a.User == "" {
		return nil
	}
	return &login.User{Directory: rule.Directory, Name: a.User, Groups: a.Groups}
}

func loginError(err error) *protocol.Error {
	switch {
	case errors.Is(err, login.ErrRefused):
		return protocol.Errorf(protocol.CredentialsInvalid, "the name and password are refused")
	case errors.Is(err, login.ErrTooMany):
		return protocol.Errorf(protocol.RateLimited, "too many attempts for this name")
	}
	return protocol.Errorf(protocol.IdentityUnavailable, "the name and password cannot be checked now").WithCause(err)
}

func checkGroups(rule *tunnel.UserRule, user *login.User) *refusal {
	if len(rule.Groups) == 0 || slices.ContainsFunc(rule.Groups, func(g string) bool { return slices.Contains(user.Groups, g) }) {
		return nil
	}
	return &refusal{Error: protocol.Errorf(protocol.Denied, "this tunnel wants a user of group %s", strings.Join(rule.Groups, " or ")), rule: RuleUser, shown: true}
}

// Where a caller shows the code of its second factor, and, where it answers a challenge, which.
const (
	headerOTP      = "Fairlead-Otp"
	headerOTPState = "Fairlead-Otp-State"
)

// otp is the challenge of whoever wants a code.
var otp = []string{`OTP realm="fairlead", header="` + headerOTP + `"`}

// proveCode wants the code of the user's second factor, unless one was shown of late. The user was proved before: by a token, or
// by a password.
func (t *trial) proveCode(ctx context.Context, rule *tunnel.CodeRule) *refusal {
	no := &refusal{rule: RuleCode, challenge: otp}
	p := &t.decision.Principal
	user := p.User()
	codes := t.request.Header[headerOTP]
	who := strings.Join([]string{rule.Server, p.Issuer(), user, p.Caller.String(), p.AppID()}, "\x00")
	switch {
	case user == "":
		no.Error, no.challenge = protocol.Errorf(protocol.MFARequired, "this tunnel wants a second factor, and for that a user"), nil
		return no
	case t.request.Assumed != nil, rule.Remember > 0 && t.factors.Has(who, t.now):
		p.Second = true
		return nil
	case len(codes) != 1:
		no.Error = protocol.Errorf(protocol.MFARequired, "one code of the user's second factor is expected, in %s", headerOTP)
		return no
	}
	no.shown = true
	state := strings.Join(t.request.Header[headerOTPState], ",")
	err := t.codes[rule.Server].Check(ctx, user, codes[0], state, t.now)
	if c, ok := errors.AsType[*login.Challenge](err); ok {
		no.Error = protocol.Errorf(protocol.MFARequired, "%s", c.Message)
		no.challenge = []string{fmt.Sprintf(`OTP realm="fairlead", header=%q, state=%q, message=%q`, headerOTP, c.State, quotable(c.Message))}
		return no
	}
	switch {
	case errors.Is(err, login.ErrRefused), errors.Is(err, login.ErrUsed):
		no.Error = protocol.Errorf(protocol.MFARequired, "the code is refused: %s", reason(err)).WithCause(err)
	case errors.Is(err, login.ErrNoSecret):
		no.Error, no.challenge = protocol.Errorf(protocol.Denied, "the user has no second factor here").WithCause(err), nil
	case errors.Is(err, login.ErrTooMany):
		no.Error = protocol.Errorf(protocol.RateLimited, "too many codes of this user")
	case err != nil:
		no.Error = protocol.Errorf(protocol.IdentityUnavailable, "the code cannot be checked now").WithCause(err)
	default:
		p.Second = true
		if rule.Remember > 0 {
			t.factors.Keep(who, t.now.Add(rule.Remember))
		}
		return nil
	}
	return no
}

// quotable is a text as a quoted-string can carry it.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s[:min(len(s), 256)])
}

func reason(err error) string {
	if errors.Is(err, login.ErrUsed) {
		return "it was used before"
	}
	return "it is not the one of now"
}
