//go:build !windows

package workloadsource

const addressForm = "unix:///path/to/the/socket"
