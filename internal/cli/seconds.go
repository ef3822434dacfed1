package cli

import (
	"fmt"
	"strconv"
	"time"
)

// seconds is an option that is a time: a number of seconds, as Attic has it, or a number with a unit, as in 2m30s.
type seconds struct{ d *time.Duration }

func newSeconds(d *time.Duration, byDefault time.Duration) seconds {
	*d = byDefault
	return seconds{d}
}

// Set implements pflag.Value.
func (s seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, numErr := strconv.ParseFloat(text, 64); numErr == nil {
		d, err = time.Duration(n*float64(time.Second)), nil
		if max := float64(1 << 62); n*float64(time.Second) > max || n*float64(time.Second) < -max || n != n {
			err = strconv.ErrRange
		}
	}
	if err != nil {
		return fmt.Errorf("%q is no time; it should be a number of seconds, or as in 2m30s", text)
	}
	*s.d = d
	return nil
}

func (s seconds) String() string {
	if s.d == nil {
		return "0"
	}
	return strconv.FormatFloat(s.d.Seconds(), 'g', -1, 64)
}

// Type implements pflag.Value: it is how the help names the argument.
func (s seconds) Type() string { return "SECONDS" }
