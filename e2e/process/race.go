//go:build linux && race

package process

// raced tells that the test was built with the race detector.
const raced = true
