# SPDX-License-Identifier: Apache-2.0
"""A client of the registry: what the specification's calls are, and small images to push."""
import gzip
import hashlib
import io
import json
import tarfile

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"


def digest_of(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data, media_type, **more):
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def layer_of(name, content):
    """A layer with one file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return gzip.compress(file.getvalue(), mtime=0), digest_of(file.getvalue())


def image_of(content=b"hello\n", **more):
    """(manifest, blobs) of an image with one layer."""
    layer, diff = layer_of("hello.txt", content)
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": [diff]}}).encode()
    manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(config, CONFIG),
                "layers": [descriptor(layer, LAYER)], **more}
    return json.dumps(manifest).encode(), [config, layer]


def artifact_of(*files, **more):
    """(manifest, blobs) of what `oras push NAME...` makes of files: (name, content)."""
    layers = [descriptor(content, "application/octet-stream",
                         annotations={"org.opencontainers.image.title": name})
              for name, content in files]
    manifest = {"schemaVersion": 2, "mediaType": IMAGE,
                "artifactType": "application/vnd.unknown.artifact.v1",
                "config": descriptor(b"{}", EMPTY), "layers": layers, **more}
    return json.dumps(manifest).encode(), [b"{}", *(content for _, content in files)]


class Registry:
    """Calls below /v2/ of one repository."""

    def __init__(self, perigee, repository):
        self.perigee = perigee
        self.repository = repository

    def call(self, method, path, body=None, headers=None):
        """(status, headers, body); `path` below the repository, or whole as a Location is."""
        whole = path if path.startswith("/") else f"/v2/{self.repository}/{path}"
        return self.perigee.request(method, whole, body, headers, listener="control")

    def error(self, *call, status):
        """The code of a refusal."""
        got, _, body = self.call(*call)
        assert got == status, (got, body)
        errors = json.loads(body)["errors"]
        assert len(errors) == 1 and errors[0]["message"], body
        return errors[0]["code"]

    def begin(self):
        status, headers, body = self.call("POST", "blobs/uploads/")
        assert status == 202, body
        return headers["Location"]

    def push_blob(self, data, digest=None):
        digest = digest or digest_of(data)
        location = self.begin()
        status, headers, body = self.call("PUT", f"{location}?digest={digest}", data)
        assert status == 201, body
        return digest

    def push(self, reference, manifest, blobs=(), media_type=IMAGE):
        """Blobs first, then the manifest; its digest."""
        for blob in blobs:
            self.push_blob(blob)
        status, headers, body = self.call("PUT", f"manifests/{reference}", manifest,
                                          {"Content-Type": media_type})
        assert status == 201, body
        return headers["Docker-Content-Digest"]
