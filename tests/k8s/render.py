"""As much of kustomize as the manifests use, so that they are checked as the cluster gets them."""

import copy
import json
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"

Manifest = dict[str, Any]

KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "labels",
    "resources",
    "components",
    "images",
    "patches",
    "configMapGenerator",
}


def documents(path: Path) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def render(folder: Path) -> list[Manifest]:
    """Return what `kubectl kustomize` would print of `folder`."""
    return _customized(folder, [])


def _customized(folder: Path, inherited: list[Manifest]) -> list[Manifest]:
    (said,) = documents(folder / "kustomization.yaml")
    assert said.keys() <= KNOWN, said.keys() - KNOWN
    found = inherited
    for name in said.get("resources", []):
        path = folder / name
        found += render(path) if path.is_dir() else documents(path)
    found += [_config_map(folder, one) for one in said.get("configMapGenerator", [])]
    for name in said.get("components", []):
        found = _customized(folder / name, found)
    for patch in said.get("patches", []):
        _patch(found, patch)
    for image in said.get("images", []):
        for container in containers(found):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    for one in found:
        if "namespace" in said and one["kind"] != "Namespace":
            one["metadata"]["namespace"] = said["namespace"]
        for pairs in said.get("labels", []):
            one["metadata"].setdefault("labels", {}).update(pairs["pairs"])
    return found


def _config_map(folder: Path, said: Manifest) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": said["name"], "labels": dict(said["options"]["labels"])},
        "data": {name: (folder / name).read_text(encoding="utf-8") for name in said["files"]},
    }


def _patch(found: list[Manifest], patch: Manifest) -> None:
    target = patch["target"]
    aims = [one for one in found if one["kind"] == target["kind"] and one["metadata"]["name"] == target["name"]]
    assert aims, f"a patch meets nothing: {target}"
    for one in aims:
        for step in yaml.safe_load(patch["patch"]):
            _step(one, copy.deepcopy(step))


def _step(node: Any, step: Manifest) -> None:
    """Apply one step of a JSON patch (RFC 6902)."""
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
    for part in way:
        node = node[int(part)] if isinstance(node, list) else node[part]
    key: Any = int(last) if isinstance(node, list) else last
    if step["op"] in {"replace", "remove"}:
        assert isinstance(node, list) or key in node, f"nothing to {step['op']}: {step['path']}"
    if step["op"] == "remove":
        del node[key]
    else:
        assert step["op"] in {"add", "replace"}, step["op"]
        node[key] = step["value"]


def containers(found: list[Manifest]) -> list[Manifest]:
    return [container for one in found for container in pod_of(one).get("containers", [])]


def pod_of(one: Manifest) -> Manifest:
    """Return the pod spec of a workload; empty for anything else."""
    template: Manifest = one.get("spec", {}).get("template", {}) if isinstance(one.get("spec"), dict) else {}
    spec: Manifest = template.get("spec", {})
    return spec


def named(found: list[Manifest], kind: str, name: str) -> Manifest:
    (one,) = [one for one in found if one["kind"] == kind and one["metadata"]["name"] == name]
    return json.loads(json.dumps(one))  # type: ignore[no-any-return]
