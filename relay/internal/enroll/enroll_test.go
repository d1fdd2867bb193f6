package enroll_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/control"
	"github.com/fairlead/fairlead/relay/internal/enroll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve has a carrier answer one connection, whose other end it returns.
func serve(t *testing.T, ask func(context.Context, []byte) ([]byte, error)) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		enroll.New(ask, slog.New(slog.DiscardHandler)).Serve(t.Context(), far)
		far.Close()
	}()
	t.Cleanup(func() {
		near.Close()
		<-ended
	})
	if err := near.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return near
}

func echo(_ context.Context, request []byte) ([]byte, error) { return request, nil }

func wantCode(t *testing.T, err error, want protocol.Code) {
	t.Helper()
	if e, ok := errors.AsType[*protocol.Error](err); !ok || e.Code != want {
		t.Errorf("got %v, expected %v", err, want)
	}
}

func TestRequestsAreCarriedOneAfterTheOther(t *testing.T) {
	conn := serve(t, echo)
	for _, text := range []string{"a", "b", strings.Repeat("c", protocol.MaxRequest)} {
		if answer, err := control.AskOn(conn, []byte(text)); err != nil || string(answer) != text {
			t.Errorf("got %d bytes, %v", len(answer), err)
		}
	}
}

func TestWhatTheAuthorityDoesNotAnswerIsSaidWithoutItsReason(t *testing.T) {
	for name, ask := range map[string]func(context.Context, []byte) ([]byte, error){
		"none":      func(context.Context, []byte) ([]byte, error) { return nil, enroll.ErrNoAuthority },
		"away":      func(context.Context, []byte) ([]byte, error) { return nil, errors.New("dial /run/secret.sock") },
		"too large": func(context.Context, []byte) ([]byte, error) { return make([]byte, protocol.MaxAnswer+1), nil },
	} {
		_, err := control.AskOn(serve(t, ask), []byte("{}"))
		wantCode(t, err, protocol.IdentityUnavailable)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStrangersAreLimitedTogether(t *testing.T) {
	conn := serve(t, echo)
	for range 1000 {
		if _, err := control.AskOn(conn, []byte("{}")); err != nil {
			wantCode(t, err, protocol.RateLimited)
			return
		}
	}
	t.Error("a thousand requests at once were carried")
}

func TestARequestBeyondItsLimitIsRefusedUnread(t *testing.T) { // H20
	conn := serve(t, func(context.Context, []byte) ([]byte, error) {
		t.Error("it was carried")
		return nil, nil
	})
	if _, err := conn.Write([]byte{byte(protocol.TypeAsk), 0x40, 0, 0}); err != nil { // 4 MiB are announced
		t.Fatal(err)
	}
	m, err := protocol.ReadAnswer(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = control.Answered(m)
	wantCode(t, err, protocol.BodyTooLarge)
}
