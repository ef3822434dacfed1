// Garret backs files up into a deduplicating, encrypted repository, and brings them back.
package main

import (
	"os"

	"garret/internal/cli"
)

func main() { os.Exit(cli.Main()) }
