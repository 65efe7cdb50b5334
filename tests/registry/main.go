// Command registry is the reference registry of the OCI distribution specification, built from its Go module for the tests:
// what nodes pull container disks from.
//
// It holds no logic of its own. Route in: a configuration file. Route out: distribution's code, and a folder of blobs.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}
