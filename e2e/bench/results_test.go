//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func found() *results {
	r := newResults()
	for _, x := range []float64{900, 100, 800} {
		r.add("bulk", "down, <8> streams", "direct", values{throughput: x})
	}
	for _, x := range []float64{400, 200} {
		r.add("bulk", "down, <8> streams", "pair", values{throughput: x, cpuPerGiB: 2})
		r.add("bulk", "down, <8> streams", overLanes, values{throughput: 2 * x, cpuPerGiB: 1})
	}
	return r
}

func TestMedianIsTheMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{9, 1, 5, 7}, 6}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v: %v", c.values, got)
		}
	}
}

func TestTableHoldsMediansAndRatios(t *testing.T) {
	var out bytes.Buffer
	found().print(&out)
	for _, want := range [][]string{
		{"direct", "800", "2.67", "–"},
		{overLanes, "600", "0.75", "2.00", "1.00", "0.50"},
	} {
		if !slices.ContainsFunc(strings.Split(out.String(), "\n"), func(line string) bool {
			return strings.Join(strings.Fields(line), " ") == strings.Join(want, " ")
		}) {
			t.Errorf("no line %v in\n%s", want, out.String())
		}
	}
}

func TestFiguresAndChartAreWellFormed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	if err := found().write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back results
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if c := back.find("bulk", "down, <8> streams", overLanes, throughput); c == nil || c.Median != 600 || c.Ratio["pair"] != 2 || len(c.Values) != 2 {
		t.Errorf("%+v", c)
	}
	chart, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	bars := 0
	for d := xml.NewDecoder(bytes.NewReader(chart)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, chart)
		}
		switch v := token.(type) {
		case xml.CharData:
			words = append(words, string(v))
		case xml.StartElement:
			if v.Name.Local == "rect" {
				bars++
			}
		}
	}
	for _, want := range []string{"bulk: down, <8> streams", overLanes, "800", "600"} {
		if !slices.Contains(words, want) {
			t.Errorf("the chart does not say %q", want)
		}
	}
	if bars != 1+3 { // the ground, and a bar for each variant
		t.Errorf("%d rectangles", bars)
	}
}

func TestAChartOfNothingIsWellFormed(t *testing.T) {
	if err := xml.Unmarshal(newResults().chart(), new(struct{})); err != nil {
		t.Error(err)
	}
}

func TestAStageEndsWhatItStarted(t *testing.T) {
	var order []string
	err := act(t.Context(), func(s *stage) {
		s.Cleanup(func() { order = append(order, "first") })
		s.Cleanup(func() {
			order = append(order, "second")
			if s.Context().Err() == nil {
				t.Error("the context lives on")
			}
			s.Cleanup(func() { order = append(order, "late") })
		})
		s.Fatalf("broken: %w", context.DeadlineExceeded)
		order = append(order, "never")
	})
	if !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(order, []string{"second", "late", "first"}) {
		t.Errorf("%v, %v", err, order)
	}
}

func TestWrkIsRead(t *testing.T) {
	const said = `Running 1s test @ http://127.0.0.1:1/1k
  Latency Distribution
     50%  650.00us
     75%    1.20ms
     99%    2.31ms
  46900 requests in 1.00s, 57.70MB read
Requests/sec:  46851.37
Transfer/sec:     57.64MB
`
	if got := percentile("50%", said); got != 650 {
		t.Errorf("p50 %v", got)
	}
	if got := percentile("99%", said); got != 2310 {
		t.Errorf("p99 %v", got)
	}
	if wrkTotal.FindStringSubmatch(said)[1] != "46900" || wrkRate.FindStringSubmatch(said)[1] != "46851.37" || wrkFailed.MatchString(said) {
		t.Error("totals are not read")
	}
	if !wrkFailed.MatchString(said + "  Non-2xx or 3xx responses: 3\n") {
		t.Error("failed requests are not seen")
	}
}
