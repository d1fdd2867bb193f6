// Package e2e holds the tests that run Fairlead's two binaries as an operator would, in front of real servers and
// between real hosts. It imports nothing of the product but its test certificates: what it knows, a caller, an agent's
// owner or a relay's owner knows as well.
//
// It has no code of its own outside tests. The servers are in package servers, the hosts in package lab.
package e2e
