package backend

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"syscall"

	"github.com/fairlead/fairlead/protocol"
)

// classify turns what net and net/http say into a code with a sentence that shows nothing of the inside; the detail
// is the cause. backend_refused is kept for an address that the agent itself refuses: a server that refuses the
// connection is down, hence backend_unreachable like every other failure to get one.
func classify(ctx context.Context, err error, sent bool) error {
	if e, ok := errors.AsType[*protocol.Error](context.Cause(ctx)); ok {
		e = e.WithCause(err)
		e.Sent = sent
		return e
	}
	code, sentence := judge(err)
	switch code {
	case protocol.BackendRefused, protocol.BackendUnreachable, protocol.BackendTLS:
		sent = false
	case protocol.BackendTimeout, protocol.BackendProtocol:
		if !sent {
			// Nothing was sent: a pooled connection that died, and every repetition met another.
			code, sentence = protocol.BackendUnreachable, "the connection to the backend is lost"
		}
	}
	return &protocol.Error{Code: code, Sentence: sentence, Sent: sent, Cause: err}
}

func judge(err error) (protocol.Code, string) {
	if _, ok := errors.AsType[*addrError](err); ok {
		return protocol.BackendRefused, "the backend's name leads to an address that is refused"
	}
	if _, ok := errors.AsType[*tlsError](err); ok {
		return protocol.BackendTLS, tlsSentence(err)
	}
	if _, ok := errors.AsType[*dialError](err); ok {
		return protocol.BackendUnreachable, dialSentence(err)
	}
	if errors.Is(err, context.Canceled) {
		return protocol.Canceled, "the call was canceled"
	}
	if isTimeout(err) {
		return protocol.BackendTimeout, "the backend did not answer in time"
	}
	return protocol.BackendProtocol, "the backend gave no valid response"
}

func dialSentence(err error) string {
	switch dns, isDNS := errors.AsType[*net.DNSError](err); {
	case isDNS && dns.IsNotFound:
		return "the backend's name does not resolve"
	case isDNS:
		return "the backend's name cannot be resolved now"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing accepts connections at the backend"
	case isTimeout(err):
		return "connecting to the backend took too long"
	}
	return "the backend cannot be reached"
}

func tlsSentence(err error) string {
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return "the backend's certificate is outside its validity"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the backend's certificate is for another name"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the backend's certificate is from an unknown authority"
	}
	return "there is no TLS connection to the backend"
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// bodyError is a request body that did not come whole.
func bodyError(err error, sent bool) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	code, sentence := protocol.BadRequest, "the request body broke off"
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok && tooLarge != nil {
		code, sentence = protocol.BodyTooLarge, "the request body is too large"
	}
	return &protocol.Error{Code: code, Sentence: sentence, Sent: sent, Cause: err}
}
