//go:build !windows

package config

const (
	defaultControl  = "/run/fairlead/relay.sock"
	defaultStateDir = "/var/lib/fairlead"
)
