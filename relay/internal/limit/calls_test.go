package limit

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPartyHasItsRateAndItsBurst(t *testing.T) {
	c, now, q := NewCalls(100), time.Now(), Quota{Rate: 10, Burst: 5}
	ada, bob := Key{"orders", "user", "ada"}, Key{"orders", "user", "bob"}
	for i := range 5 {
		if v := c.Take(ada, q, now); !v.OK || v.Left != int64(4-i) || v.Limit != 5 {
			t.Errorf("call %d: %+v", i, v)
		}
	}
	v := c.Take(ada, q, now)
	if v.OK || v.Reset <= 0 || v.Reset > 100*time.Millisecond {
		t.Errorf("the sixth: %+v", v)
	}
	if l, p := v.Header(); l != `"default";r=0;t=1` || p != `"default";q=5;w=1` {
		t.Errorf("%s, %s", l, p)
	}
	if !c.Take(bob, q, now).OK || !c.Take(Key{"ledger", "user", "ada"}, q, now).OK {
		t.Error("another party pays for it")
	}
	if !c.Take(ada, q, now.Add(v.Reset)).OK || c.Take(ada, q, now.Add(v.Reset)).OK {
		t.Error("when a call is free again is not said rightly")
	}
	if v := c.Take(ada, Quota{Rate: 10, Burst: 50}, now.Add(time.Hour)); !v.OK || v.Limit != 50 {
		t.Errorf("with another quota: %+v", v)
	}
}

func TestAQuotaIsOfAWindow(t *testing.T) {
	c, q, ada := NewCalls(100), Quota{Rate: 1000, Burst: 1000, Calls: 3, Per: time.Hour}, Key{Kind: "app", Name: "shop"}
	now := time.Now().Truncate(time.Hour).Add(50 * time.Minute)
	for i := range 3 {
		if v := c.Take(ada, q, now); !v.OK || v.Left != int64(2-i) || v.Reset != 10*time.Minute {
			t.Errorf("call %d: %+v", i, v)
		}
	}
	if v := c.Take(ada, q, now); v.OK || v.Reset != 10*time.Minute || v.Window != time.Hour {
		t.Errorf("%+v", v)
	}
	if !c.Take(ada, q, now.Add(10*time.Minute)).OK {
		t.Error("the next window has no calls")
	}
}

func TestPartiesAreBounded(t *testing.T) {
	c, now, q := NewCalls(10), time.Now(), Quota{Rate: 0.001, Burst: 1}
	for i := range 100 {
		if v := c.Take(Key{Name: string(rune('a' + i))}, q, now); !v.OK {
			t.Errorf("party %d: %+v", i, v)
		}
	}
	if len(c.byKey) != 10 || c.recent.Len() != 10 {
		t.Errorf("%d parties", len(c.byKey))
	}
}

func TestASpikeWaitsInABoundedQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := new(Queues), Spike{Rate: 10, Queue: 3, Wait: time.Second}
		began := time.Now()
		var calls sync.WaitGroup
		var mu sync.Mutex
		passed, refused := 0, 0
		for range 10 {
			calls.Go(func() {
				retry, err := q.Wait(t.Context(), "orders", s)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					passed++
				case errors.Is(err, ErrSpike) && retry > 0:
					refused++
				}
			})
		}
		calls.Wait()
		if passed != 4 || refused != 6 || time.Since(began) != 300*time.Millisecond {
			t.Errorf("%d passed, %d were refused, in %v", passed, refused, time.Since(began))
		}
		if _, err := q.Wait(t.Context(), "ledger", s); err != nil {
			t.Error(err)
		}
		if _, err := q.Wait(t.Context(), "orders", Spike{}); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := q.Wait(ctx, "ledger", s); !errors.Is(err, nil) {
			t.Error(err)
		}
		cancel()
		if _, err := q.Wait(ctx, "ledger", s); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		slow := Spike{Rate: 0.1, Queue: 3, Wait: time.Second}
		_, _ = q.Wait(t.Context(), "slow", slow)
		if retry, err := q.Wait(t.Context(), "slow", slow); !errors.Is(err, ErrSpike) || retry < 9*time.Second {
			t.Errorf("a wait beyond the longest: %v, %v", retry, err)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	c, q, k := NewCalls(1000), Quota{Rate: 1e9, Burst: 1e9}, Key{"orders", "caller", "spiffe://cloud.example/api/shop"}
	b.ReportAllocs()
	for b.Loop() {
		c.Take(k, q, time.Now())
	}
}
