package rpc

import (
	"fmt"
	"math"
	"slices"
	"time"

	"garret/internal/rawpack"
	"garret/repository"
)

// maxFindings is how many findings a report has: those of more than that much damage are too many to read, and there must
// be a bound. The rest is counted.
const maxFindings = 100_000

// A check's options and report, as maps: what one side does not know, the other leaves out.

func appendCheckOptions(b []byte, o repository.CheckOptions) []byte {
	var until int64
	if !o.Until.IsZero() {
		until = max(1, time.Until(o.Until).Milliseconds()) // clocks differ
	}
	b = rawpack.AppendMapHeader(b, 3)
	b = appendBool(rawpack.AppendRaw(b, "repair"), o.Repair)
	b = rawpack.AppendUint(rawpack.AppendRaw(b, "from"), uint64(o.From))
	return rawpack.AppendInt(rawpack.AppendRaw(b, "milliseconds"), until)
}

func readCheckOptions(r *rawpack.Reader) (o repository.CheckOptions) {
	r.Map(func(key string) {
		switch key {
		case "repair":
			o.Repair = readBool(r)
		case "from":
			o.From = uint32(r.Uint(math.MaxUint32))
		case "milliseconds":
			if ms := r.Int(0, math.MaxInt32); ms > 0 {
				o.Until = time.Now().Add(time.Duration(ms) * time.Millisecond)
			}
		default:
			r.Value()
		}
	})
	return o
}

func appendReport(b []byte, p *repository.Report) []byte {
	b = rawpack.AppendMapHeader(b, 9)
	for _, n := range []struct {
		key string
		n   int64
	}{
		{"segments", int64(p.Segments)},
		{"entries", int64(p.Entries)},
		{"bytes", p.Bytes},
		{"objects", int64(p.Objects)},
		{"last", int64(p.Last)},
		{"next", int64(p.Next)},
	} {
		b = rawpack.AppendInt(rawpack.AppendRaw(b, n.key), n.n)
	}
	b = appendBool(rawpack.AppendRaw(b, "repaired"), p.Repaired)
	b = appendBool(rawpack.AppendRaw(b, "partial"), p.Partial)
	findings := p.Findings
	if more := len(findings) - maxFindings; more > 0 {
		findings = slices.Clone(findings[:maxFindings])
		findings[maxFindings-1].Detail += fmt.Sprintf(" (and %d findings more)", more)
	}
	b = rawpack.AppendArrayHeader(rawpack.AppendRaw(b, "findings"), len(findings))
	for _, f := range findings {
		b = rawpack.AppendArrayHeader(b, 6)
		b = rawpack.AppendRaw(b, string(f.Kind))
		b = rawpack.AppendUint(b, uint64(f.Segment))
		b = rawpack.AppendInt(b, f.Offset)
		b = rawpack.AppendInt(b, f.Length)
		if f.Object != nil {
			b = rawpack.AppendRaw(b, f.Object[:])
		} else {
			b = rawpack.AppendNil(b)
		}
		b = rawpack.AppendRaw(b, f.Detail[:min(len(f.Detail), 512)])
	}
	return b
}

func readReport(r *rawpack.Reader) *repository.Report {
	p := new(repository.Report)
	count := func() int { return int(r.Int(0, math.MaxInt64)) }
	r.Map(func(key string) {
		switch key {
		case "segments":
			p.Segments = count()
		case "entries":
			p.Entries = count()
		case "bytes":
			p.Bytes = int64(count())
		case "objects":
			p.Objects = count()
		case "last":
			p.Last = uint32(r.Uint(math.MaxUint32))
		case "next":
			p.Next = uint32(r.Uint(math.MaxUint32))
		case "repaired":
			p.Repaired = readBool(r)
		case "partial":
			p.Partial = readBool(r)
		case "findings":
			n := r.ArrayLen()
			if n > maxFindings {
				r.Failf("it has %d findings", n)
				return
			}
			for range n {
				if f := readFinding(r); r.Err() == nil {
					p.Findings = append(p.Findings, f)
				}
			}
		default:
			r.Value()
		}
	})
	return p
}

func readFinding(r *rawpack.Reader) (f repository.Finding) {
	n := r.ArrayLen()
	if n < 6 {
		r.Failf("a finding has %d parts", n)
		return f
	}
	f.Kind = repository.FindingKind(r.Text())
	f.Segment = uint32(r.Uint(math.MaxUint32))
	f.Offset, f.Length = r.Int(0, math.MaxInt64), r.Int(0, math.MaxInt64)
	if !r.Nil() {
		id := readID(r)
		f.Object = &id
	}
	f.Detail = r.Text()
	for range n - 6 {
		r.Value()
	}
	return f
}
