package uplink

import (
	"errors"
	"fmt"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
)

// Grant says what a relay's grant says, where it is of a relay that relay_id names, holds now and is for that tunnel. The
// errors are those of grant.Keyring.Check. It does not block.
func (u *Uplink) Grant(raw []byte, tunnel protocol.TunnelName) (*grant.Grant, error) {
	return u.grants.Check(raw, string(tunnel))
}

// authorizeRelay says whether a relay's grants count.
func (u *Uplink) authorizeRelay(id certs.Identity) error {
	if !u.cfg.RelayID.Match(id.ID) {
		return fmt.Errorf("%s is not a relay that relay_id names", id.ID)
	}
	return u.checkBans([]certs.Identity{id})
}

// takeKey takes the grant key of a relay that has just proved itself as id.
func (u *Uplink) takeKey(m *protocol.GrantKey, id certs.ID) error {
	if m == nil {
		return errors.New("expected the relay to show its grant key")
	}
	shown, err := u.grants.Add(&grant.Delegation{Chain: m.Chain, Key: m.Key, Signature: m.Signature})
	if err == nil && shown.ID != id {
		err = fmt.Errorf("%s shows the grant key of %s", id, shown.ID)
	}
	return err
}
