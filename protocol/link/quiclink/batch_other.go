//go:build !linux

package quiclink

import "net"

// batch leaves reading to quic-go.
type batch struct{}

func (batch) begin(*net.UDPConn) {}
