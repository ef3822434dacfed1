//go:build !linux

package cli

import (
	"errors"
	"testing"
)

func setxattr(string, string, string) error { return errors.ErrUnsupported }

func makeAttrTree(*testing.T, string) {}
func unlockTree(*testing.T, string)   {}
func flag(*testing.T, string, int)    {}
