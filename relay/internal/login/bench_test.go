package login

import (
	"testing"
	"time"
)

// BenchmarkLoginRemembered is a password that the directory has found good within Cache.
func BenchmarkLoginRemembered(b *testing.B) {
	d, err := NewDirectory(DirectoryConfig{Name: "corp", Cache: time.Hour}, nil)
	if err != nil {
		b.Fatal(err)
	}
	d.remember(d.sum("ada", "correct horse battery staple"), &User{Name: "ada"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Login(b.Context(), "ada", "correct horse battery staple"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTOTP is a code that is good, the making of it included.
func BenchmarkTOTP(b *testing.B) {
	line, uri, err := NewSecret("Fairlead", "ada")
	if err != nil {
		b.Fatal(err)
	}
	codes, _ := newTOTP(b, line)
	secret, now := secretOf(b, uri), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Minute)
		if err := codes.Check(b.Context(), "ada", codeAt(b, secret, now), "", now); err != nil {
			b.Fatal(err)
		}
	}
}
