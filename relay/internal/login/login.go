// Package login proves users by what they know and have: a name and password that a directory in the data centre takes (LDAP,
// RFC 4511), and a second factor (TOTP, RFC 6238). It is the only importer of go-ldap and otp.
//
// It reaches directories through tunnels, by the Dial that it is given, and decides nothing about tunnels (package policy does).
// No password leaves it but to the directory, and none is kept: what is remembered of a good one is a keyed hash, for seconds.
package login

import (
	"context"
	"errors"
	"net"

	"github.com/fairlead/fairlead/protocol"
)

// A User is who has logged in. It is shared between calls while it is remembered: nobody changes it.
type User struct {
	Directory string   // its name in the configuration
	Name      string   // as the directory has it
	Groups    []string // common names, or distinguished names where the directory gives those
}

// Dial reaches the server behind a tcp or udp tunnel, as the relay itself; over udp each Read and Write is a datagram. It blocks until
// the agent has reached it, or ctx ends.
type Dial func(ctx context.Context, network protocol.Network, tunnel protocol.TunnelName) (net.Conn, error)

// Errors of a login. What is none of them says that it cannot be judged now.
var (
	ErrRefused = errors.New("the name or the password is not right") // which of them is not said, nor known
	ErrTooMany = errors.New("too many attempts")
)
