package limit

import (
	"container/list"
	"context"
	"errors"
	"math"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Quota is how often one party may call. The zero Quota is no limit.
type Quota struct {
	Rate  float64 // calls a second, on average; 0: no limit
	Burst int     // and how many at once; at least 1 where there is a rate
	Calls int64   // calls in each window; 0: no limit
	Per   time.Duration
}

// None reports whether the quota limits nothing.
func (q Quota) None() bool { return q.Rate == 0 && q.Calls == 0 }

// A Key is whose calls are counted together: a kind of party (caller, app, user, source, tunnel), its name, and the tunnel,
// or "" where those of all tunnels count.
type Key struct{ Tunnel, Kind, Name string }

// A Verdict is what Take says, also of a call that may pass: what is left, for the caller's own planning.
type Verdict struct {
	OK     bool
	Limit  int64         // of what is nearest to its end: the burst, or the window's calls
	Left   int64         // calls that may come now
	Reset  time.Duration // until there is one more, or the window ends
	Window time.Duration // of the limit: how long it takes a burst to be there again, or the window
}

// Header returns the RateLimit and RateLimit-Policy fields (draft-ietf-httpapi-ratelimit-headers-10) of a verdict.
func (v Verdict) Header() (limit, policy string) {
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64(math.Ceil(d.Seconds())), 10) }
	return `"default";r=` + strconv.FormatInt(v.Left, 10) + `;t=` + seconds(v.Reset),
		`"default";q=` + strconv.FormatInt(v.Limit, 10) + `;w=` + seconds(v.Window)
}

// Calls counts calls by party. Parties that it has not seen for longest are forgotten, which gives them a whole quota again:
// there are as many as there are proved identities. It is safe for concurrent use and never blocks.
type Calls struct {
	max int

	// mu guards: everything below.
	mu     sync.Mutex
	byKey  map[Key]*list.Element // of *party
	recent *list.List            // most recently used first
}

type party struct {
	key    Key
	bucket *rate.Limiter
	window time.Time // when it began
	used   int64     // in it
}

// NewCalls returns a count of at most that many parties.
func NewCalls(parties int) *Calls {
	return &Calls{max: parties, byKey: make(map[Key]*list.Element), recent: list.New()}
}

// Take asks for one call of a party under a quota, which may be another one than last time.
func (c *Calls) Take(k Key, q Quota, now time.Time) Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.party(k, q)
	v := Verdict{OK: true, Left: math.MaxInt64}
	if q.Calls > 0 {
		if start := now.Truncate(q.Per); start.After(p.window) {
			p.window, p.used = start, 0
		}
		v = Verdict{OK: p.used < q.Calls, Limit: q.Calls, Left: max(0, q.Calls-p.used-1), Reset: p.window.Add(q.Per).Sub(now), Window: q.Per}
	}
	if q.Rate > 0 && v.OK {
		left := p.bucket.TokensAt(now)
		if left < 1 || int64(left)-1 < v.Left {
			v = Verdict{OK: left >= 1, Limit: int64(q.Burst), Left: max(0, int64(left)-1), Window: time.Duration(float64(q.Burst) / q.Rate * float64(time.Second))}
			v.Reset = time.Duration((math.Floor(left) + 1 - left) / q.Rate * float64(time.Second))
		}
	}
	if v.OK {
		p.used++
		if q.Rate > 0 {
			p.bucket.AllowN(now, 1)
		}
	}
	return v
}

// party finds or makes a party, and brings it up to date with its quota. c.mu is held.
func (c *Calls) party(k Key, q Quota) *party {
	if e, ok := c.byKey[k]; ok {
		c.recent.MoveToFront(e)
		p := e.Value.(*party)
		if p.bucket.Limit() != rate.Limit(q.Rate) {
			p.bucket.SetLimit(rate.Limit(q.Rate))
		}
		if p.bucket.Burst() != q.Burst {
			p.bucket.SetBurst(q.Burst)
		}
		return p
	}
	if c.recent.Len() >= c.max {
		oldest := c.recent.Back()
		delete(c.byKey, oldest.Value.(*party).key)
		c.recent.Remove(oldest)
	}
	p := &party{key: k, bucket: rate.NewLimiter(rate.Limit(q.Rate), q.Burst)}
	c.byKey[k] = c.recent.PushFront(p)
	return p
}

// A Spike evens out the calls of a tunnel: beyond Rate they wait for their turn, in a queue of bounded length. The zero
// Spike does not.
type Spike struct {
	Rate  float64       // calls a second that pass
	Queue int           // calls that wait at one time
	Wait  time.Duration // and for how long, at most
}

// ErrSpike says that a call found no place in the queue, or would have had to wait for too long.
var ErrSpike = errors.New("too many calls at once")

// Queues are the queues of all tunnels, by name. They outlive reloads. The zero value is ready; it is safe for concurrent use.
type Queues struct{ byName sync.Map } // of string to *queue

type queue struct {
	// mu guards:
	mu      sync.Mutex
	turns   *rate.Limiter
	waiting int
}

// Wait blocks until it is the call's turn: for s.Wait at most, or until ctx ends. The error is ErrSpike or ctx's; retry is when
// there will be a place, with ErrSpike.
func (q *Queues) Wait(ctx context.Context, name string, s Spike) (retry time.Duration, err error) {
	if s.Rate == 0 {
		return 0, nil
	}
	v, ok := q.byName.Load(name)
	if !ok {
		v, _ = q.byName.LoadOrStore(name, &queue{turns: rate.NewLimiter(rate.Limit(s.Rate), 1)})
	}
	return v.(*queue).wait(ctx, s)
}

func (q *queue) wait(ctx context.Context, s Spike) (time.Duration, error) {
	q.mu.Lock()
	if q.turns.Limit() != rate.Limit(s.Rate) {
		q.turns.SetLimit(rate.Limit(s.Rate))
	}
	turn := q.turns.Reserve()
	delay := turn.Delay()
	if delay > 0 && (q.waiting >= s.Queue || delay > s.Wait) {
		turn.Cancel()
		q.mu.Unlock()
		return delay, ErrSpike
	}
	if delay == 0 {
		q.mu.Unlock()
		return 0, nil
	}
	q.waiting++
	q.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.waiting--
	}()
	select {
	case <-timer.C:
		return 0, nil
	case <-ctx.Done():
		turn.Cancel()
		return 0, context.Cause(ctx)
	}
}
