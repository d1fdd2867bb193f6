package bearer

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	maxRemembered = time.Minute // so that what else could change about a token is seen soon
	generationLen = 4096        // entries of each of the two generations
)

// A cache remembers tokens that have verified, by the SHA-256 of the whole token. It holds two generations of entries:
// when the young one is full it becomes the old one, and the old one is dropped.
type cache struct {
	// mu guards:
	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]*entry
}

type entry struct {
	token  *Token
	issuer *issuer
	keys   *keySet // the set whose key verified it: another one ends the entry
	until  time.Time
}

func newCache() *cache {
	return &cache{young: make(map[[sha256.Size]byte]*entry)}
}

// get returns a token that would still verify, or nil.
func (c *cache) get(sum [sha256.Size]byte, now time.Time) *Token {
	c.mu.RLock()
	e := c.young[sum]
	if e == nil {
		e = c.old[sum]
	}
	c.mu.RUnlock()
	if e == nil || !now.Before(e.until) {
		return nil
	}
	if set, err := e.issuer.usable(now); err != nil || set != e.keys {
		return nil
	}
	return e.token
}

func (c *cache) put(sum [sha256.Size]byte, e *entry, now time.Time) {
	e.until = now.Add(maxRemembered)
	if e.token.Expires.Before(e.until) {
		e.until = e.token.Expires
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= generationLen {
		c.old, c.young = c.young, make(map[[sha256.Size]byte]*entry)
	}
	c.young[sum] = e
}
