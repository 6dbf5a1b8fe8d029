"""The addresses of the cluster. They exist on this machine only and never reach a wire."""

NODE_NAME = "tapchanger"
NODE_IP = "10.89.0.1"
POD_CIDR = "10.90.0.0/16"
SERVICE_CIDR = "10.91.0.0/16"
API_SERVICE_IP = "10.91.0.1"
DNS_SERVICE_IP = "10.91.0.10"
DOMAIN = "cluster.local"

API_PORT = 6443
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380
KUBELET_PORT = 10250
REGISTRY_PORT = 5000
DNS_HEALTH_PORT = 10253

# What has to be free before the start: (address, port, the component that wants it).
LISTENERS = (
    ("127.0.0.1", ETCD_PORT, "etcd"),
    ("127.0.0.1", ETCD_PEER_PORT, "etcd"),
    ("0.0.0.0", API_PORT, "kube-apiserver"),
    ("127.0.0.1", 10257, "kube-controller-manager"),
    ("127.0.0.1", 10259, "kube-scheduler"),
    ("127.0.0.1", 10248, "kubelet"),
    ("127.0.0.1", 10249, "kube-proxy"),
    ("127.0.0.1", 10256, "kube-proxy"),
    ("127.0.0.1", REGISTRY_PORT, "registry"),
    ("127.0.0.1", DNS_HEALTH_PORT, "coredns"),
    (NODE_IP, KUBELET_PORT, "kubelet"),
    (NODE_IP, 53, "coredns"),
    (NODE_IP, REGISTRY_PORT, "registry-node"),
)
