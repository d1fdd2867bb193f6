package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/certs/sources"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/config"
	"github.com/fairlead/fairlead/relay/internal/enroll"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// behind is the authority behind the relay, as one configuration names it.
type behind struct {
	ask   authority.Ask                                 // nil: there is none
	bans  func(context.Context) (authority.Bans, error) // nil: there is none
	close func()

	socket *authority.Client // nil: it is reached by another relay, or there is none

	mu     sync.Mutex // guards: the bundle as it was asked for last
	bundle []byte
	asked  time.Time
}

// newBehind asks nobody. Where the authority is reached by another relay, source says which relays are believed, and who
// asks.
func newBehind(c config.Authority, source func() sources.Source) *behind {
	switch {
	case c.Socket != "":
		client := authority.NewClient(c.Socket)
		return &behind{ask: client.Ask, bans: client.Bans, close: client.Close, socket: client}
	case c.Relay != "":
		remote := enroll.NewRemote(c.Relay, func() certs.Source { return source() })
		return &behind{ask: remote.Ask, close: remote.Close,
			bans: func(ctx context.Context) (authority.Bans, error) { return sources.Bans(ctx, source()) }}
	}
	return &behind{close: func() {}}
}

// askAuthority asks the authority of the configuration in force.
func (r *Relay) askAuthority(ctx context.Context, request []byte) ([]byte, error) {
	ask := r.current.Load().authority.ask
	if ask == nil {
		return nil, enroll.ErrNoAuthority
	}
	return ask(ctx, request)
}

// maxBundleAge is how old a bundle may be that is served: whoever asks often costs the authority little.
const maxBundleAge = 5 * time.Second

func (b *behind) freshBundle(ctx context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.asked) < maxBundleAge {
		return b.bundle, nil
	}
	text, err := b.socket.Bundle(ctx)
	if err == nil {
		b.bundle, b.asked = text, time.Now()
	}
	return text, err
}

// serveBundle answers requests for the host that the trust domain's bundle is published under (SPIFFE Federation §5), which
// needs no identity; all others are next's.
func (r *Relay) serveBundle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := r.current.Load()
		if host := x.file.Authority.BundleHost; host == "" || string(tunnel.RequestHost(req.Host)) != host {
			next.ServeHTTP(w, req)
			return
		}
		if req.URL.Path != authority.BundlePath || req.Method != http.MethodGet && req.Method != http.MethodHead {
			http.NotFound(w, req)
			return
		}
		text, err := x.authority.freshBundle(req.Context())
		if err != nil {
			r.log.Error("the bundle cannot be served", "error", err)
			http.Error(w, "the authority does not answer", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text) // who has hung up hears nothing
	})
}

// bans is the list of whom the authority has banned, as it was heard last. It is kept over restarts, and holds while the
// authority does not answer. It is safe for concurrent use.
type bans struct {
	file string
	list atomic.Pointer[authority.Bans]

	// Touched by fetchBans alone.
	fault   string // of the last attempt, "" after a success
	unsaved bool   // the file does not hold the list
}

func newBans(stateDir string) (*bans, error) {
	b := &bans{file: filepath.Join(stateDir, "bans.json")}
	kept := authority.Bans{}
	text, err := os.ReadFile(b.file)
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("bans that were kept: %s: %w", b.file, err)
	}
	b.list.Store(&kept)
	return b, nil
}

// Check refuses whoever is banned with identity_banned.
func (b *bans) Check(id certs.Identity) error {
	if ban := b.list.Load().Of(id); ban != nil {
		return protocol.Errorf(protocol.IdentityBanned, "%s is banned since %s", ban.Target, ban.Since.UTC().Format(time.RFC3339))
	}
	return nil
}

// take makes next the list, and reports whether it is another.
func (b *bans) take(next authority.Bans) (changed bool, err error) {
	changed = !slices.Equal(*b.list.Load(), next)
	if !changed && !b.unsaved {
		return false, nil
	}
	b.list.Store(&next)
	text, err := json.Marshal(next)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(b.file), 0o700)
	}
	if err == nil {
		err = secretfile.Write(b.file, text)
	}
	b.unsaved = err != nil
	return changed, err
}

const (
	// bansEvery is how often the authority is asked for its bans: with standing's own pace a ban ends links within 5 s.
	bansEvery = time.Second
	// firstBans bounds the wait for them before the port opens.
	firstBans = 3 * time.Second
)

// followBans asks for the bans until ctx ends.
func (r *Relay) followBans(ctx context.Context) {
	tick := time.NewTicker(bansEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.fetchBans(ctx)
		}
	}
}

// logBans says which bans the first list has beyond the second.
func (r *Relay) logBans(what string, first, second authority.Bans) {
	for _, b := range first {
		if !slices.Contains(second, b) {
			r.log.Warn("ban", "security", true, "change", what, "target", b.Target, "since", b.Since, "reason", b.Reason)
		}
	}
}

// tellAgents says on every link that the authority's state has changed: a relay may be banned, which its agents are to know.
func (r *Relay) tellAgents() {
	r.linked.Range(func(h, _ any) bool {
		go h.(*agentLink).answer(new(protocol.Answer)) // an agent that takes nothing holds it for the dead time, and nobody else
		return true
	})
}

func (r *Relay) fetchBans(ctx context.Context) {
	fetch := r.current.Load().authority.bans
	if fetch == nil { // nobody is there who bans, or lifts a ban
		fetch = func(context.Context) (authority.Bans, error) { return authority.Bans{}, nil }
	}
	next, err := fetch(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		before := *r.bans.list.Load()
		var changed bool
		if changed, err = r.bans.take(next); changed {
			r.logBans("made", next, before)
			r.logBans("lifted", before, next)
			r.judge()
			r.tellAgents()
		}
	}
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	if fault != r.bans.fault {
		if err != nil {
			r.log.Error("the authority's bans are not up to date, what was heard last holds", "error", err)
		} else {
			r.log.Info("the authority's bans are up to date again")
		}
		r.bans.fault = fault
	}
}
