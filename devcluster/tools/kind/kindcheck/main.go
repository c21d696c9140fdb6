// Command kindcheck says whether kind itself accepts a configuration file, on a machine without a container engine.
//
// kind's loader lives in internal packages, so this takes the public road, Provider.Create, which parses the file
// strictly, validates it and says "Creating cluster" before it asks the container engine for a first node. The engine
// here is this very program under the name docker: it claims to be there, to run no cluster, and refuses all else.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/log"
)

// acceptance is a logger that notes the line kind logs once a configuration is parsed and valid.
type acceptance struct {
	log.NoopLogger
	accepted bool
}

func (a *acceptance) V(log.Level) log.InfoLogger { return a }

func (a *acceptance) Enabled() bool { return true }

func (a *acceptance) Info(string) {}

func (a *acceptance) Infof(format string, _ ...interface{}) {
	a.accepted = a.accepted || strings.HasPrefix(format, "Creating cluster")
}

func main() {
	if filepath.Base(os.Args[0]) == "docker" {
		os.Exit(playEngine(os.Args[1:]))
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: kindcheck FILE")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("kind accepts %s\n", os.Args[1])
}

func playEngine(arguments []string) int {
	command := ""
	if len(arguments) > 0 {
		command = arguments[0]
	}
	switch command {
	case "info":
		fmt.Println(`{"CgroupDriver":"cgroupfs","CgroupVersion":"2","MemoryLimit":true,"PidsLimit":true,"CPUShares":true,"SecurityOptions":[]}`)
		return 0
	case "ps":
		return 0
	}
	fmt.Fprintln(os.Stderr, "kindcheck runs no containers")
	return 1
}

func check(file string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	engines, err := os.MkdirTemp("", "kindcheck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(engines)
	if err := os.Symlink(self, filepath.Join(engines, "docker")); err != nil {
		return err
	}
	if err := os.Setenv("PATH", engines); err != nil {
		return err
	}
	logger := &acceptance{}
	provider := cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(logger))
	err = provider.Create("", cluster.CreateWithConfigFile(file),
		cluster.CreateWithKubeconfigPath(filepath.Join(engines, "kubeconfig")))
	if logger.accepted {
		return nil
	}
	if err == nil {
		return fmt.Errorf("%s: kind neither refused nor accepted it", file)
	}
	return fmt.Errorf("%s: %w", file, err)
}
