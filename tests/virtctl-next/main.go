// Command virtctl is KubeVirt's own client, built from its Go module for the tests: what people type at a Sheaf cluster.
//
// It holds no logic of its own. Route in: a test's command line. Route out: KubeVirt's code. go.mod names its release, and
// repeats the replaces of its go.mod, which do not apply outside it.
package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"kubevirt.io/kubevirt/pkg/virtctl"
)

func main() {
	os.Exit(virtctl.Execute())
}
