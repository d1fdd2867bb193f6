package main

import (
	"fmt"
	"io"
	"net/http"
	"sync"
)

// printed writes one line to out for each call that next has answered: method, path, status and, where the relay said
// so, the caller. Of the other headers it prints none, since one of them may be a secret.
func printed(out io.Writer, next http.Handler) http.Handler {
	var mu sync.Mutex // keeps lines whole
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, "%s %q %d caller=%q\n", r.Method, r.URL.Path, seen.status, r.Header.Get("Fairlead-Caller"))
	})
}

// statusWriter remembers the status for the line.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
