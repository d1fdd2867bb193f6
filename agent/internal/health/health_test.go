package health

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

func TestABackendIsDownAfterThreeFailuresAndUpAfterTwoSuccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bad atomic.Bool
		var mu sync.Mutex
		var all []*protocol.TunnelStatus
		said := func() []*protocol.TunnelStatus { mu.Lock(); defer mu.Unlock(); return slices.Clone(all) }
		w := New([]Target{{Tunnel: "orders", Every: 10 * time.Second, Probe: func(context.Context) error {
			if bad.Load() {
				return protocol.Errorf(protocol.BackendUnreachable, "the backend does not answer").WithCause(errors.New("10.0.0.5"))
			}
			return nil
		}}}, func(s *protocol.TunnelStatus) { mu.Lock(); defer mu.Unlock(); all = append(all, s) }, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()

		time.Sleep(time.Minute)
		bad.Store(true)
		time.Sleep(19 * time.Second)
		synctest.Wait()
		if told := said(); len(told) > 0 {
			t.Fatalf("down after fewer than three failures: %+v", told[0])
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if told := said(); len(told) != 1 || told[0].Up || told[0].Sentence != "the backend does not answer" || len(w.Down()) != 1 {
			t.Fatalf("told %+v; expected one down with the safe sentence alone", told)
		}
		bad.Store(false)
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if told := said(); len(told) != 2 || !told[1].Up || len(w.Down()) != 0 {
			t.Fatalf("told %+v; expected up again", told)
		}
		cancel()
		<-done
	})
}

func TestAProbeThatHangsFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan *protocol.TunnelStatus, 1)
		w := New([]Target{{Tunnel: "orders", Every: time.Second, Probe: func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}}}, func(s *protocol.TunnelStatus) { told <- s }, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		if s := <-told; s.Up {
			t.Error("up although no probe ended")
		}
		cancel()
		<-done
	})
}
