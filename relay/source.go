package relay

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/pemsource"
)

// source is the certs.Source of the process, whose files a reload may change. The generation goes on growing over the
// change, so that nothing judged before it is taken for judged.
type source struct{ current atomic.Pointer[rebased] }

type rebased struct {
	*pemsource.Source
	base uint64
}

var _ certs.Source = (*source)(nil)

func newSource(first *pemsource.Source) *source {
	s := new(source)
	s.current.Store(&rebased{first, 0})
	return s
}

// swap takes next from here on. It is not called concurrently with itself.
func (s *source) swap(next *pemsource.Source) {
	s.current.Store(&rebased{next, s.Generation() + 1})
}

func (s *source) Certificate() (*tls.Certificate, error) { return s.current.Load().Certificate() }
func (s *source) ID() certs.ID                           { return s.current.Load().ID() }
func (s *source) Generation() uint64 {
	c := s.current.Load()
	return c.base + c.Generation()
}
func (s *source) Roots(td certs.TrustDomain) (*x509.CertPool, error) {
	return s.current.Load().Roots(td)
}
