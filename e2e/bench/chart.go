//go:build linux

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// The chart's measures, in pixels.
const (
	chartColumns = 3
	panelWidth   = 380
	labelWidth   = 130
	barWidth     = 180
	barHeight    = 14
	barPitch     = 18
	panelHead    = 44
	panelFoot    = 14
	chartHead    = 60
)

// colors of the variants; what is not there is grey.
var colors = map[string]string{
	overLanes: "#0b6e4f", overYamux: "#3a9d78", overQUIC: "#8fcfb0", "direct": "#9aa0a6", "pair": "#5f6b7a",
}

// chart draws every case as a panel of bars, of its first metric.
func (r *results) chart() []byte {
	var body bytes.Buffer
	x, y, rowHeight := 0, chartHead, 0
	for i, p := range r.places() {
		if i > 0 && i%chartColumns == 0 {
			x, y, rowHeight = 0, y+rowHeight, 0
		}
		rowHeight = max(rowHeight, r.panel(&body, p, x, y))
		x += panelWidth
	}
	var out bytes.Buffer
	width, height := chartColumns*panelWidth, y+rowHeight
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="11">`+"\n", width, height)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	text(&out, 12, 24, "font-size=\"16\" font-weight=\"bold\"", "Fairlead, medians")
	text(&out, 12, 42, `fill="#555555"`, r.Machine)
	_, _ = body.WriteTo(&out) // a buffer takes everything
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// panel draws one case and returns its height.
func (r *results) panel(out *bytes.Buffer, p place, x, y int) int {
	cells, variants, metrics := r.at(p)
	m := metrics[0]
	variants = slices.DeleteFunc(variants, func(v string) bool { return cells[v][m] == nil })
	most := 0.0
	for _, v := range variants {
		most = max(most, cells[v][m].Median)
	}
	text(out, x+12, y+16, `font-weight="bold"`, p.section+": "+p.name)
	text(out, x+12, y+32, `fill="#555555"`, string(m))
	for i, v := range variants {
		top := y + panelHead + i*barPitch
		text(out, x+12, top+11, "", v)
		value := cells[v][m].Median
		length := 0.0
		if most > 0 {
			length = max(0, value/most*barWidth)
		}
		fmt.Fprintf(out, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x+labelWidth, top, length, barHeight, color(v))
		text(out, x+labelWidth+int(length)+4, top+11, "", number(value))
	}
	return panelHead + len(variants)*barPitch + panelFoot
}

func color(variant string) string {
	for name, c := range colors {
		if strings.HasPrefix(variant, name) {
			return c
		}
	}
	return "#c7b299"
}

func text(out *bytes.Buffer, x, y int, attributes, s string) {
	fmt.Fprintf(out, `<text x="%d" y="%d" %s>`, x, y, attributes)
	_ = xml.EscapeText(out, []byte(s)) // a buffer takes everything
	out.WriteString("</text>\n")
}
