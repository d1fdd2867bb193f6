package yamuxlink_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

// tlsPair returns both ends of a TLS 1.3 connection over loopback, and through via where that is given.
func tlsPair(t testing.TB, via func(t testing.TB, target string) string) (client, server *tls.Conn) {
	t.Helper()
	serverConf, clientConf := tlsConfigs(t)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	target := ln.Addr().String()
	if via != nil {
		target = via(t, target)
	}
	accepted := make(chan error, 1)
	go func() {
		raw, err := ln.Accept()
		if err == nil {
			server = tls.Server(raw, serverConf)
			err = server.HandshakeContext(t.Context())
		}
		accepted <- err
	}()
	raw, err := new(net.Dialer).DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	client = tls.Client(raw, clientConf)
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	return client, server
}

func tlsConfigs(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"relay.test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	server = &tls.Config{
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, NextProtos: []string{"fairlead/1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}},
	}
	client = &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "relay.test", NextProtos: []string{"fairlead/1"},
	}
	return server, client
}
