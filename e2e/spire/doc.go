// Package spire runs relay, agent and a caller with the identities of real SPIRE servers and agents. Its tests need the
// build tag spire and the folder of SPIRE's binaries in SPIRE_BIN: `make test-spire` builds both.
package spire
