package certs

import "strconv"

// maxQuoted is how many bytes of a stranger's text go into an error or a log line.
const maxQuoted = 200

// quote makes text from outside safe for logs: escaped to printable ASCII and cut.
func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.QuoteToASCII(s[:maxQuoted]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
