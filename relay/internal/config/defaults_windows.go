package config

const (
	defaultControl  = `C:\ProgramData\Fairlead\relay.sock`
	defaultStateDir = `C:\ProgramData\Fairlead`
)
