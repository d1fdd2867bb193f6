package main

import (
	"fmt"
	"io"
	"log/slog"
)

// maxLogValue keeps a line under 4 KiB whatever a stranger sent.
const maxLogValue = 1024

// newLogger writes to w as JSON or text; both escape control characters, and long strings are cut.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level: expected debug, info, warn or error, got %q", level)
	}
	opts := &slog.HandlerOptions{Level: l, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Value.Kind() {
		case slog.KindString:
			a.Value = slog.StringValue(cut(a.Value.String()))
		case slog.KindDuration:
			a.Value = slog.StringValue(a.Value.Duration().String())
		case slog.KindAny:
			switch v := a.Value.Any().(type) {
			case error:
				a.Value = slog.StringValue(cut(v.Error()))
			case fmt.Stringer:
				a.Value = slog.StringValue(cut(v.String()))
			}
		}
		return a
	}}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return slog.New(slog.NewJSONHandler(w, opts)), nil
}

func cut(s string) string {
	if len(s) <= maxLogValue {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:maxLogValue], len(s))
}
