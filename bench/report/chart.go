package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// The measures of a chart, in pixels.
const (
	chartWidth = 900
	labelWidth = 230
	plotWidth  = 480
	barHeight  = 14
	groupGap   = 14
	headHeight = 64
)

// colors of the programs, in order. They can be told apart by those who see no red, too.
var colors = []string{"#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31", "#999999", "#f0e442"}

// Chart writes a chart in SVG: for each work a bar for each program, as long as the ratio of its median to that of the
// first program, on a logarithmic scale. A work that the first program does not do is left out.
func (r *Results) Chart(w io.Writer, title string, m Metric) error {
	c := chart{metric: m, low: 1, high: 1}
	for _, work := range r.works() {
		first, ok := m.median(r.find(work, r.Programs[0]))
		if !ok || first == 0 {
			continue
		}
		g := group{work: work}
		for i, program := range r.Programs {
			if v, ok := m.median(r.find(work, program)); ok && v > 0 {
				g.bars = append(g.bars, bar{program: i, value: v, ratio: v / first})
				c.low, c.high = min(c.low, v/first), max(c.high, v/first)
			}
		}
		c.groups = append(c.groups, g)
	}
	c.low, c.high = math.Log10(c.low)-0.1, math.Log10(c.high)+0.05
	c.draw(title, r.Programs)
	_, err := io.WriteString(w, c.out.String())
	return err
}

type chart struct {
	metric    Metric
	groups    []group
	low, high float64 // the decimal logarithms of the ratios at the ends of the scale
	out       strings.Builder
}

type group struct {
	work string
	bars []bar
}

type bar struct {
	program      int
	value, ratio float64
}

func (c *chart) draw(title string, programs []string) {
	height := headHeight + 30
	for _, g := range c.groups {
		height += len(g.bars)*barHeight + groupGap
	}
	fmt.Fprintf(&c.out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" `+
		`font-family="sans-serif" font-size="11">`+"\n", chartWidth, height)
	fmt.Fprintf(&c.out, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", chartWidth, height)
	c.text(12, 22, `font-size="15" font-weight="bold"`, title)
	x := 12
	for i, p := range programs {
		fmt.Fprintf(&c.out, `<rect x="%d" y="36" width="11" height="11" fill="%s"/>`+"\n", x, color(i))
		c.text(x+15, 46, "", p)
		x += 34 + 7*len(p)
	}
	c.scale(height)
	y := headHeight + groupGap/2
	for _, g := range c.groups {
		c.text(labelWidth-8, y+len(g.bars)*barHeight/2+4, `text-anchor="end"`, g.work)
		for _, b := range g.bars {
			from, to := c.x(0), c.x(math.Log10(b.ratio))
			fmt.Fprintf(&c.out, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n",
				min(from, to), y+1, max(1.5, math.Abs(to-from)), barHeight-2, color(b.program))
			c.text(int(max(from, to))+5, y+barHeight-3, "", fmt.Sprintf("%s  (%s)", c.metric.Format(b.value), ratio(b.ratio)))
			y += barHeight
		}
		y += groupGap
	}
	c.out.WriteString("</svg>\n")
}

// scale draws lines at ratios, and what they are.
func (c *chart) scale(height int) {
	for _, tick := range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000} {
		if l := math.Log10(tick); l >= c.low && l <= c.high {
			stroke := "#ddd"
			if tick == 1 {
				stroke = "#555"
			}
			fmt.Fprintf(&c.out, `<path d="M%.1f %dV%d" stroke="%s"/>`+"\n", c.x(l), headHeight, height-24, stroke)
			c.text(int(c.x(l)), height-10, `text-anchor="middle"`, fmt.Sprintf("%g×", tick))
		}
	}
}

func (c *chart) x(log float64) float64 { return labelWidth + plotWidth*(log-c.low)/(c.high-c.low) }

func (c *chart) text(x, y int, attributes, text string) {
	fmt.Fprintf(&c.out, `<text x="%d" y="%d" %s>`, x, y, attributes)
	_ = xml.EscapeText(&c.out, []byte(text)) // a Builder takes all
	c.out.WriteString("</text>\n")
}

func color(i int) string { return colors[i%len(colors)] }
