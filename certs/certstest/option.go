package certstest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"time"
)

// An Option makes an SVID differ from the ordinary one.
type Option func(*leafOptions)

type leafOptions struct {
	template   *x509.Certificate
	uris       []string // byte for byte
	key        crypto.Signer
	public     crypto.PublicKey // nil: key's own
	bits       int              // of an RSA key to make; 0: none
	issuer     *x509.Certificate
	issuerKey  crypto.Signer
	selfSigned bool
	extra      []*x509.Certificate
}

// DNS adds DNS names.
func DNS(names ...string) Option {
	return func(o *leafOptions) { o.template.DNSNames = append(o.template.DNSNames, names...) }
}

// IP adds IP addresses; what does not parse panics.
func IP(addresses ...string) Option {
	return func(o *leafOptions) {
		for _, a := range addresses {
			ip := net.ParseIP(a)
			if ip == nil {
				panic("certstest.IP: " + a)
			}
			o.template.IPAddresses = append(o.template.IPAddresses, ip)
		}
	}
}

// NotBefore sets the start.
func NotBefore(t time.Time) Option { return func(o *leafOptions) { o.template.NotBefore = t } }

// NotAfter sets the end.
func NotAfter(t time.Time) Option { return func(o *leafOptions) { o.template.NotAfter = t } }

// URIs replaces the URI SANs, byte for byte: none, two, or spellings that net/url would mend.
func URIs(raw ...string) Option { return func(o *leafOptions) { o.uris = raw } }

// Usage replaces the extended key usages; none leaves the extension out.
func Usage(usages ...x509.ExtKeyUsage) Option {
	return func(o *leafOptions) { o.template.ExtKeyUsage = usages }
}

// AsCA makes the leaf a CA certificate.
func AsCA() Option {
	return func(o *leafOptions) {
		o.template.IsCA = true
		o.template.KeyUsage |= x509.KeyUsageCertSign
	}
}

// Key uses this key.
func Key(key crypto.Signer) Option { return func(o *leafOptions) { o.key = key } }

// RSA makes an RSA key of that many bits.
func RSA(bits int) Option { return func(o *leafOptions) { o.bits = bits } }

// PublicKey certifies a public key without having the private one: good for Verify, not for a handshake.
func PublicKey(pub crypto.PublicKey) Option { return func(o *leafOptions) { o.public = pub } }

// SelfSigned signs the leaf with its own key instead of the CA's.
func SelfSigned() Option { return func(o *leafOptions) { o.selfSigned = true } }

// Template changes the certificate in any other way, before it is signed.
func Template(change func(*x509.Certificate)) Option {
	return func(o *leafOptions) { change(o.template) }
}

// Append puts more certificates behind the chain.
func Append(extra ...*x509.Certificate) Option {
	return func(o *leafOptions) { o.extra = append(o.extra, extra...) }
}

func (o *leafOptions) issue(up []*x509.Certificate) (tls.Certificate, error) {
	err := o.makeKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := o.addSANs(); err != nil {
		return tls.Certificate{}, err
	}
	issuer, issuerKey := o.issuer, o.issuerKey
	if o.selfSigned {
		issuer, issuerKey = o.template, o.key
	}
	leaf, err := sign(o.template, issuer, o.public, issuerKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: o.key, Leaf: leaf}
	for _, c := range up {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	for _, c := range o.extra {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

func (o *leafOptions) makeKey() (err error) {
	switch {
	case o.key != nil:
	case o.bits != 0:
		o.key, err = rsa.GenerateKey(rand.Reader, o.bits)
	default:
		o.key, err = newKey()
	}
	if err != nil {
		return fmt.Errorf("making a test key: %w", err)
	}
	if o.public == nil {
		o.public = o.key.Public()
	}
	return nil
}

// addSANs writes the extension by hand, because x509 takes only URIs that net/url has read.
func (o *leafOptions) addSANs() error {
	var names []asn1.RawValue
	add := func(tag int, b []byte) {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: b})
	}
	for _, name := range o.template.DNSNames {
		add(2, []byte(name))
	}
	for _, ip := range o.template.IPAddresses {
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		add(7, ip)
	}
	for _, uri := range o.uris {
		add(6, []byte(uri))
	}
	if len(names) == 0 {
		return nil
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		return fmt.Errorf("encoding test SANs: %w", err)
	}
	o.template.ExtraExtensions = append(o.template.ExtraExtensions,
		pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der})
	return nil
}
