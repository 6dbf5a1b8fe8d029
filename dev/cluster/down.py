"""`down`: ends the cluster and leaves nothing of it on the machine."""

import shutil

from dev.cluster import host, recover
from dev.cluster.paths import Paths
from dev.cluster.report import Report


def down(paths: Paths, report: Report, *, purge: bool, models: bool) -> None:
    """Programs, models and the registry's data stay; `purge` removes programs and registry data, `models` models.

    Raises:
        ClusterError: a process or a mount cannot be removed.
    """
    host.require_root()
    ended = recover.end_everything(paths)
    mounts = recover.unmount_everything(paths)
    report.say(f"ended {ended} processes, unmounted {mounts} mounts")
    recover.clear_state(paths, keep_images=False)
    recover.wait_for_links()
    host.tear_down_network()
    kept = set() if purge else {paths.registry}
    for entry in paths.cluster.iterdir() if paths.cluster.exists() else ():
        if entry in kept:
            continue
        if entry.is_dir():
            recover.remove_tree(entry)
        else:
            entry.unlink()
    paths.kubeconfig.unlink(missing_ok=True)
    if purge:
        for folder in (paths.bin, paths.home / "go", paths.cluster):
            recover.remove_tree(folder)
    if models and paths.models.exists():
        shutil.rmtree(paths.models)
    report.say("the cluster is gone" + ("" if purge else f"; kept: {paths.bin}, {paths.models}, {paths.registry}"))
