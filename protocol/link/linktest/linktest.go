// Package linktest holds the promises that every link keeps, as a suite that each transport's tests run.
//
// It does not test what only one transport can do, or what takes a peer that breaks the protocol: those tests are in
// the transport's own package.
package linktest

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

// patience bounds every wait, so that a broken promise is a failure and not a hang. Nothing is measured by it.
const patience = time.Minute

// Pair is the two ends of one link.
type Pair struct {
	Client, Server link.Session
	// Vanish makes the network between them swallow everything, both ways, without an end or an error. When it
	// has returned nothing arrives any more.
	Vanish func()
}

// Harness makes links. The suite closes both ends; what else New starts it must end with t.Cleanup.
type Harness struct {
	New func(t *testing.T, client, server link.Config) Pair
	// Streams is how many streams the links carry at once each way; zero: as many as their Config admits.
	Streams int
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, test := range []struct {
		promise string
		run     func(*testing.T, Harness)
	}{
		{"BothEndsOpenAndAccept", bothEndsOpenAndAccept},
		{"FirstBytesMayFollowOpenAtOnce", earlyData},
		{"HalfCloseEachWay", halfCloseEachWay},
		{"CloseWriteEndsAPendingWrite", closeWriteEndsAPendingWrite},
		{"ResetIsSeenAtOnceWhateverIsUnread", resetIsSeenAtOnce},
		{"BreakIsToldThoughNobodyReads", breakIsTold},
		{"LocalResetEndsPendingCalls", localResetEndsPendingCalls},
		{"ResetAfterBothEndsDoesNothing", resetAfterBothEnds},
		{"CloseAfterThePeersEndIsQuiet", closeAfterPeersEnd},
		{"CloseBeforeThePeersEndIsAReset", closeBeforePeersEnd},
		{"ReadDeadlineExpiresAndRevives", readDeadline},
		{"WriteDeadlineExpiresAndRevives", writeDeadline},
		{"ThousandParallelStreams", thousandStreams},
		{"StalledStreamStallsNoOther", stalledStreamStallsNoOther},
		{"StreamsBeyondTheLimitAreRefused", streamLimit},
		{"StreamsThatEndAnyWayAreForgotten", churn},
		{"AcceptEndsWithItsContext", acceptEndsWithItsContext},
		{"VanishedPeerNeverBlocksClose", vanishedPeer},
		{"CutLinkIsNeverAnEnd", cutLink},
		{"CloseEndsEveryCall", closeEndsEveryCall},
	} {
		t.Run(test.promise, func(t *testing.T) { test.run(t, h) })
	}
}

func (h Harness) pair(t *testing.T, client, server link.Config) Pair {
	t.Helper()
	p := h.New(t, client, server)
	t.Cleanup(func() {
		p.Client.Close(nil)
		p.Server.Close(nil)
	})
	return p
}

// joined returns both ends of a new stream that from opened; one byte has crossed it, since a QUIC stream shows only
// then.
func joined(t *testing.T, from, to link.Session) (near, far link.Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	near, err := open(ctx, from)
	if err != nil {
		t.Fatalf("opening a stream: %v", err)
	}
	write(t, near, []byte{1})
	far, err = to.Accept(ctx)
	if err != nil {
		t.Fatalf("accepting a stream: %v", err)
	}
	read(t, far, 1)
	return near, far
}

// open tries again while the link has no room, as it may just after other streams have ended.
func open(ctx context.Context, s link.Session) (link.Stream, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		st, err := s.Open(ctx)
		if !errors.Is(err, link.ErrStreamLimit) || time.Now().After(deadline) {
			return st, err
		}
	}
}

func write(t *testing.T, st link.Stream, p []byte) {
	t.Helper()
	if n, err := st.Write(p); n != len(p) || err != nil {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(p), err)
	}
}

func read(t *testing.T, st link.Stream, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if k, err := io.ReadFull(st, b); err != nil {
		t.Fatalf("read %d of %d bytes: %v", k, n, err)
	}
	return b
}

// within waits for what a goroutine reports.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: still waiting after %v", what, patience)
		panic("unreachable")
	}
}

// eventually asks again until ok says yes: for what the peer does in its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after %v", what, patience)
		}
	}
}

func inBackground(call func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- call() }()
	return c
}

func wantReset(t *testing.T, what string, err error, code uint16, local bool) {
	t.Helper()
	reset, ok := errors.AsType[*link.ResetError](err)
	if !ok || reset.Code != code || reset.Local != local {
		t.Errorf("%s: got %v, expected a reset with code %d, local %t", what, err, code, local)
	}
}

func wantLost(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, link.ErrLost) {
		t.Errorf("%s: got %v, expected one that wraps ErrLost", what, err)
	}
	if errors.Is(err, io.EOF) {
		t.Errorf("%s: got %v, which can be mistaken for an end", what, err)
	}
}
