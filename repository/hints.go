package repository

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tinylib/msgp/msgp"

	"garret/repository/hashindex"
)

// hints is the content of hints.N: msgpack {version: 1, segments: {N: live PUTs}, compact: [N, ...]}.
type hints struct {
	live    map[uint32]int
	compact []uint32
}

func (h *hints) encode() []byte {
	b := msgp.AppendMapHeader(nil, 3)
	b = msgp.AppendInt(msgp.AppendString(b, "version"), 1)
	b = msgp.AppendMapHeader(msgp.AppendString(b, "segments"), uint32(len(h.live)))
	for _, n := range slices.Sorted(maps.Keys(h.live)) {
		b = msgp.AppendInt(msgp.AppendUint32(b, n), h.live[n])
	}
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "compact"), uint32(len(h.compact)))
	for _, n := range h.compact {
		b = msgp.AppendUint32(b, n)
	}
	return b
}

func parseHints(b []byte) (h *hints, err error) {
	defer func() {
		if err != nil && !errors.Is(err, ErrNewer) {
			err = fmt.Errorf("%w: hints: %w", ErrIntegrity, err)
		}
	}()
	h = &hints{live: map[uint32]int{}}
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for range n {
		var key []byte
		if key, b, err = readRaw(b); err != nil {
			return nil, err
		}
		seen[string(key)] = true
		switch string(key) {
		case "version":
			var v int64
			if v, b, err = msgp.ReadInt64Bytes(b); err == nil && v > 1 {
				err = fmt.Errorf("%w: the hints have version %d", ErrNewer, v)
			} else if err == nil && v != 1 {
				err = fmt.Errorf("version %d", v)
			}
		case "segments":
			var m uint32
			m, b, err = msgp.ReadMapHeaderBytes(b)
			for ; m > 0 && err == nil; m-- {
				var n uint32
				var live int64
				if n, b, err = msgp.ReadUint32Bytes(b); err == nil {
					live, b, err = msgp.ReadInt64Bytes(b)
				}
				if err == nil && (live < 0 || live > 1<<31) {
					err = fmt.Errorf("segment %d has %d objects", n, live)
				}
				h.live[n] = int(live)
			}
		case "compact":
			var m uint32
			m, b, err = msgp.ReadArrayHeaderBytes(b)
			for ; m > 0 && err == nil; m-- {
				var n uint32
				n, b, err = msgp.ReadUint32Bytes(b)
				h.compact = append(h.compact, n)
			}
		default:
			b, err = msgp.Skip(b)
		}
		if err != nil {
			return nil, err
		}
	}
	if !seen["version"] || !seen["segments"] || !seen["compact"] || len(b) > 0 {
		return nil, fmt.Errorf("they are incomplete")
	}
	return h, nil
}

// readRaw reads a string of either specification.
func readRaw(b []byte) (v, rest []byte, err error) {
	if msgp.NextType(b) == msgp.BinType {
		return msgp.ReadBytesZC(b)
	}
	return msgp.ReadStringZC(b)
}

// fits reports whether the header of an index is what the hints say, and no larger than the reference would make it.
func (h *hints) fits(f *hashindex.File) error {
	sum := 0
	for _, live := range h.live {
		sum += live
	}
	if sum != f.Len() {
		return fmt.Errorf("%w: index has %d objects, the hints say %d", ErrIntegrity, f.Len(), sum)
	}
	if f.Buckets() > 8*int64(sum)+8192 {
		return fmt.Errorf("%w: index has %d objects in %d buckets", ErrIntegrity, sum, f.Buckets())
	}
	return nil
}
