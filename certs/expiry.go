package certs

import (
	"context"
	"crypto/x509"
	"log/slog"
	"slices"
	"time"
)

// Expiry is how long something may be used that has to be renewed.
type Expiry struct {
	Kind        string // svid or bundle
	Name        string // the SPIFFE ID or trust domain
	From, Until time.Time
}

// Expiring is a Source that knows when its parts expire. A bundle expires with the last of its roots.
type Expiring interface {
	Source
	Expiries() []Expiry
}

// SVIDExpiry is that of an SVID.
func SVIDExpiry(id ID, leaf *x509.Certificate) Expiry {
	return Expiry{Kind: "svid", Name: id.String(), From: leaf.NotBefore, Until: leaf.NotAfter}
}

// BundleExpiry is that of a bundle, which has at least one root.
func BundleExpiry(td TrustDomain, roots []*x509.Certificate) Expiry {
	last := slices.MaxFunc(roots, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return Expiry{Kind: "bundle", Name: td.Name(), From: last.NotBefore, Until: last.NotAfter}
}

// warnings are what is left of a life, in percent, when its end is worth a line. Whoever renews does so at half life: then
// the first line comes for those only that are late.
var warnings = []struct {
	left  int
	level slog.Level
}{{10, slog.LevelError}, {25, slog.LevelWarn}, {50, slog.LevelInfo}}

// lateness is how much of a life a renewal at half of it may take, in percent, before it is called late.
const lateness = 5

// expiryEvery is how often WatchExpiry looks, at most.
const expiryEvery = 10 * time.Second

// WatchExpiry logs, until ctx ends, when half, a quarter and a tenth of a life is left of anything that the source holds
// and that nobody has renewed: each of them once.
func WatchExpiry(ctx context.Context, src interface{ Expiries() []Expiry }, log *slog.Logger) {
	tick := time.NewTicker(expiryEvery)
	defer tick.Stop()
	said := map[Expiry]int{}
	for {
		now, kept := time.Now(), map[Expiry]int{}
		for _, e := range src.Expiries() {
			before, known := said[e]
			if !known {
				before = 100
			}
			kept[e] = warn(ctx, log, e, before, now)
		}
		said = kept
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// warn says what was not said yet, and returns what was said last.
func warn(ctx context.Context, log *slog.Logger, e Expiry, said int, now time.Time) int {
	life, left := e.Until.Sub(e.From), e.Until.Sub(now)
	for _, w := range warnings {
		if w.left >= said {
			return said
		}
		bound := w.left
		if bound == 50 {
			bound -= lateness
		}
		if left <= life*time.Duration(bound)/100 {
			log.Log(ctx, w.level, "not renewed in time", "kind", e.Kind, "name", e.Name, "left", max(0, left).Round(time.Second),
				"left_percent", max(0, int(100*left/max(life, 1))), "not_after", e.Until.UTC().Format(time.RFC3339))
			return w.left
		}
	}
	return said
}
