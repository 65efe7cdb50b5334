// Command kube is a Kubernetes control plane in one static file: etcd with
// etcdctl and etcdutl, the API server, controller manager, scheduler, kubeadm and
// kubectl, chosen by the name it is called by (a symlink), or by its first argument.
//
// It holds no logic of its own: each name runs upstream's own command in its own
// process, because upstream's feature gates, metrics and flags are global.
// Route in: exec by a systemd unit or by an operator. Route out: upstream.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubeadmerrors "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
)

var programs = map[string]func() int{
	"etcd":    func() int { etcdmain.Main(os.Args); return 0 },
	"etcdctl": func() int { ctlv3.MustStart(); return 0 },
	"etcdutl": func() int {
		if newEtcdutlCommand().Execute() != nil {
			return 1
		}
		return 0
	},
	"kube-apiserver": func() int {
		return cli.Run(apiserver.NewAPIServerCommand())
	},
	"kube-controller-manager": func() int {
		return cli.Run(controllers.NewControllerManagerCommand())
	},
	"kube-scheduler": func() int {
		return cli.Run(scheduler.NewSchedulerCommand())
	},
	"kubeadm": func() int { kubeadmerrors.HandleError(kubeadm.Run()); return 0 },
	"kubectl": func() int {
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
		return 0
	},
}

// newEtcdutlCommand puts etcdutl's commands together as its package main does, which
// cannot be imported (etcd v3.7.0, etcdutl/ctl.go).
func newEtcdutlCommand() *cobra.Command {
	root := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3."}
	flags := root.PersistentFlags()
	flags.DurationVar(&etcdutl.FlockTimeout, "timeout", 10*time.Second, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
	flags.StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	root.AddCommand(etcdutl.NewDefragCommand(), etcdutl.NewSnapshotCommand(), etcdutl.NewHashKVCommand(), etcdutl.NewVersionCommand(), etcdutl.NewMigrateCommand())
	return root
}

func main() {
	run, known := programs[filepath.Base(os.Args[0])]
	if !known && len(os.Args) > 1 {
		if run, known = programs[os.Args[1]]; known {
			os.Args = os.Args[1:]
		}
	}
	if !known {
		fmt.Fprintln(os.Stderr, "kube: call me as, or with the first argument,",
			"etcd, etcdctl, etcdutl, kube-apiserver, kube-controller-manager, kube-scheduler, kubeadm or kubectl")
		os.Exit(64)
	}
	// etcdctl's package sets it for the whole process when it is linked: kubectl and kubeadm take no abbreviated commands.
	cobra.EnablePrefixMatching = false
	os.Exit(run())
}
