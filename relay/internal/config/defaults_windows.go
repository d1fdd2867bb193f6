package config

const (
	defaultControl  = `\\.\pipe\fairlead-relay`
	defaultStateDir = `C:\ProgramData\Fairlead`
)
