package authority

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/secretfile"
)

// A Ban ends the trust in an identity or a certificate, until it is lifted.
type Ban struct {
	// Target is a SPIFFE ID, or a serial number in hexadecimal. That of an SVID of this authority's also means every SVID that
	// was renewed from the same token: whoever had the key may have renewed.
	Target string    `json:"target"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"` // for people
}

// Bans are a list of them, sorted by their targets.
type Bans []Ban

const (
	maxReason = 200       // bytes
	maxBans   = 128 << 10 // of all bans in JSON: an answer with them has to cross
)

// Of returns the ban that meets an identity, or nil.
func (b Bans) Of(id certs.Identity) *Ban {
	serial, isSerial := parseSerial(id.Serial)
	line, hasLine := []byte(nil), false
	if isSerial {
		line, hasLine = lineOf(serial)
	}
	for i, ban := range b {
		if ban.Target == id.ID.String() {
			return &b[i]
		}
		banned, ok := parseSerial(ban.Target)
		if !ok || !isSerial {
			continue
		}
		bannedLine, ok := lineOf(banned)
		if banned.Cmp(serial) == 0 || ok && hasLine && string(line) == string(bannedLine) {
			return &b[i]
		}
	}
	return nil
}

func parseSerial(s string) (*big.Int, bool) {
	if s == "" || len(s) > 40 || strings.Trim(s, "0123456789abcdef") != "" {
		return nil, false
	}
	return new(big.Int).SetString(s, 16)
}

// lineOf returns what serial numbers of one line share.
func lineOf(serial *big.Int) ([]byte, bool) {
	if serial.Sign() <= 0 || serial.BitLen() > 8*serialBytes {
		return nil, false
	}
	return serial.FillBytes(make([]byte, serialBytes))[:lineBytes], true
}

// target brings a ban's target into its one spelling.
func target(s string) (string, error) {
	if id, err := certs.ParseID(s); err == nil {
		return id.String(), nil
	}
	plain := strings.TrimLeft(strings.ReplaceAll(strings.ToLower(s), ":", ""), "0")
	if _, ok := parseSerial(plain); ok {
		return plain, nil
	}
	return "", fmt.Errorf("expected a SPIFFE ID, or a serial number in hexadecimal, got %.100q", s)
}

func (f *Folder) banFile(target string) string {
	sum := sha256.Sum256([]byte(target))
	return f.file("bans", fmt.Sprintf("%x", sum[:16]))
}

// Ban bans a SPIFFE ID or serial number. It is no fault where that is banned already.
func (f *Folder) Ban(what, reason string) (Ban, error) {
	t, err := target(what)
	if err != nil {
		return Ban{}, err
	}
	if len(reason) > maxReason {
		return Ban{}, fmt.Errorf("expected a reason of at most %d bytes, got %d", maxReason, len(reason))
	}
	if _, err := f.read(); err != nil {
		return Ban{}, err
	}
	all, err := f.Bans()
	if err != nil {
		return Ban{}, err
	}
	if b, err := readBan(f.banFile(t)); err == nil {
		return b, nil
	}
	b := Ban{t, time.Now().UTC().Truncate(time.Second), reason}
	text, err := json.Marshal(b)
	if err != nil {
		return Ban{}, err
	}
	if list, err := json.Marshal(append(all, b)); err != nil || len(list) > maxBans {
		return Ban{}, fmt.Errorf("expected bans of at most %d KiB, there are %d: lift those of certificates that have expired", maxBans>>10, len(all))
	}
	return b, secretfile.Write(f.banFile(t), text)
}

// Unban lifts a ban.
func (f *Folder) Unban(what string) error {
	t, err := target(what)
	if err != nil {
		return err
	}
	err = os.Remove(f.banFile(t))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not banned", t)
	}
	return err
}

// Bans lists them.
func (f *Folder) Bans() (Bans, error) {
	entries, err := os.ReadDir(f.file("bans"))
	if err != nil {
		return nil, err
	}
	all := Bans{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // being written
		}
		b, err := readBan(f.file("bans", e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // lifted meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Ban) int { return strings.Compare(a.Target, b.Target) })
	return all, nil
}

func readBan(path string) (Ban, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Ban{}, err
	}
	var b Ban
	if err := json.Unmarshal(text, &b); err != nil {
		return Ban{}, fmt.Errorf("ban %s does not parse", path)
	}
	return b, nil
}
