package login

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/relay/internal/limit"
)

// The codes: what every authenticator app makes (RFC 6238, with RFC 4226's six digits and SHA-1).
const (
	totpPeriod = 30 * time.Second
	totpSkew   = 1 // periods that the user's clock may be off
	totpBytes  = 20
	maxTOTP    = 4 << 20 // bytes of the file
	maxUsers   = 1 << 16 // whose last code is remembered
)

var totpOptions = totp.ValidateOpts{Period: uint(totpPeriod / time.Second), Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1}

// Errors of TOTP.Check.
var (
	ErrNoSecret = errors.New("the user has no second factor") // nothing to check a code by
	ErrUsed     = errors.New("the code was used before")
)

// A TOTP checks codes of users whose secrets are in a file. It is safe for concurrent use, and never waits.
type TOTP struct {
	file  string
	tries *limit.Calls

	// mu guards: the period of the last code of each user, which no code may be of again; each entry is of no use once it is old.
	mu   sync.Mutex
	last map[string]int64
}

// NewTOTP reads the file: a secret file with a line `user secret` for each user, the secret in base32; empty lines and such that
// begin with # are passed over. It is read anew for each code, so that a user who is added or removed counts at once.
func NewTOTP(file string) (*TOTP, error) {
	t := &TOTP{file: file, tries: limit.NewCalls(maxUsers), last: make(map[string]int64)}
	_, err := t.secret("")
	if errors.Is(err, ErrNoSecret) {
		err = nil
	}
	return t, err
}

// NewSecret makes a user's secret: the line for the file, and the URI that an authenticator app reads from a QR code
// (otpauth://totp/…).
func NewSecret(issuer, user string) (line, uri string, err error) {
	if user == "" || strings.ContainsAny(user, " \t\r\n#") {
		return "", "", fmt.Errorf("expected a user's name without spaces, got %q", user)
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: user, Period: totpOptions.Period, Digits: totpOptions.Digits,
		Algorithm: totpOptions.Algorithm, SecretSize: totpBytes})
	if err != nil {
		return "", "", fmt.Errorf("making a secret: %w", err)
	}
	return user + " " + key.Secret(), key.URL(), nil
}

// secret is a user's.
func (t *TOTP) secret(user string) (string, error) {
	b, err := secretfile.Read(t.file, maxTOTP)
	if err != nil {
		return "", err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, secret, ok := strings.Cut(line, " ")
		if !ok || strings.ContainsAny(strings.TrimSpace(secret), " \t") {
			return "", fmt.Errorf("%s:%d: expected a user and a secret", t.file, number)
		}
		if user != "" && name == user {
			return strings.TrimSpace(secret), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("%s: %w", t.file, err)
	}
	return "", ErrNoSecret
}

// Check takes a user's code, which is good once, and for a minute and a half at most. The error is ErrRefused, ErrUsed, ErrNoSecret
// or ErrTooMany, or says that it cannot be judged now. There are no challenges.
func (t *TOTP) Check(_ context.Context, user, code, _ string, now time.Time) error {
	secret, err := t.secret(user)
	if err != nil {
		return err
	}
	if !t.tries.Take(limit.Key{Name: user}, attempts, now).OK {
		return ErrTooMany
	}
	matched := int64(-1)
	for i := int64(-totpSkew); i <= totpSkew; i++ {
		at := now.Add(time.Duration(i) * totpPeriod)
		want, err := totp.GenerateCodeCustom(secret, at, totpOptions)
		if err != nil {
			return fmt.Errorf("the secret of %s in %s cannot be used", user, t.file)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			matched = at.Unix() / int64(totpPeriod/time.Second)
		}
	}
	if matched < 0 {
		return ErrRefused
	}
	return t.use(user, matched, now)
}

// use takes the code of a period, once.
func (t *TOTP) use(user string, period int64, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.last[user]; ok && period <= last {
		return ErrUsed
	}
	if len(t.last) >= maxUsers {
		oldest := now.Add(-(totpSkew+1)*totpPeriod).Unix() / int64(totpPeriod/time.Second)
		for name, last := range t.last {
			if last < oldest {
				delete(t.last, name)
			}
		}
		if len(t.last) >= maxUsers {
			return errors.New("more users come than can be remembered")
		}
	}
	t.last[user] = period
	return nil
}
