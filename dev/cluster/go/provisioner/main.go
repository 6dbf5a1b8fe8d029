// Command local-provisioner gives each PersistentVolumeClaim of its storage class a folder on this node.
//
// A volume is the folder NAMESPACE_CLAIM_VOLUME below -folder, open to every user id, because containers run as
// an arbitrary non-root user and the kubelet does not change the owner of hostPath volumes. Sizes are not enforced.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

type folders struct {
	root string
}

func (f folders) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	if options.PVC.Spec.VolumeMode != nil && *options.PVC.Spec.VolumeMode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, errors.New("volumeMode Block is not supported: use Filesystem")
	}
	if options.StorageClass.ReclaimPolicy == nil {
		return nil, controller.ProvisioningFinished, errors.New("the storage class has no reclaimPolicy")
	}
	name := strings.Join([]string{options.PVC.Namespace, options.PVC.Name, options.PVName}, "_")
	path := filepath.Join(f.root, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// MkdirAll applies the umask; Chmod does not.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	kind := v1.HostPathDirectory
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: options.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				HostPath: &v1.HostPathVolumeSource{Path: path, Type: &kind},
			},
		},
	}, controller.ProvisioningFinished, nil
}

func (f folders) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	source := volume.Spec.HostPath
	// The path comes from an API object: only a direct child of the root may be removed.
	if source == nil || filepath.Dir(filepath.Clean(source.Path)) != f.root {
		return fmt.Errorf("volume %s does not lie directly in %s", volume.Name, f.root)
	}
	return os.RemoveAll(source.Path)
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "file with the API server's address and this program's identity")
	folder := flag.String("folder", "", "absolute path of the folder that holds the volumes")
	name := flag.String("name", "tapchanger.dev/local", "the provisioner that storage classes name")
	flag.Parse()
	if !filepath.IsAbs(*folder) {
		return fmt.Errorf("-folder: %q is not an absolute path", *folder)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("-kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("-kubeconfig: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// One process a cluster, so there is no leader to elect.
	controller.NewProvisionController(
		ctx, client, *name, folders{root: filepath.Clean(*folder)}, controller.LeaderElection(false),
	).Run(ctx)
	return nil
}

func main() {
	defer klog.Flush()
	if err := run(); err != nil {
		klog.ErrorS(err, "local-provisioner cannot start")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}
