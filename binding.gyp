{
  "targets": [{
    "target_name": "cephkit",
    "sources": [
      "native/addon.cc",
      "native/cephfs/directory.cc",
      "native/cephfs/file.cc",
      "native/cephfs/library.cc",
      "native/cephfs/mount.cc",
      "native/cephfs/open_directory.cc",
      "native/cephfs/removal.cc",
      "native/cephfs/snapshot.cc",
      "native/cephfs/xattr.cc",
      "native/runtime/environment.cc",
      "native/runtime/handle.cc",
      "native/runtime/inbox.cc",
      "native/runtime/operation.cc",
      "native/runtime/value.cc",
      "native/runtime/workers.cc",
      "native/rados/cluster.cc",
      "native/rados/ioctx.cc",
      "native/rados/lock.cc",
      "native/rados/object.cc",
      "native/rados/watch.cc",
      "native/rbd/diff.cc",
      "native/rbd/encryption.cc",
      "native/rbd/image.cc",
      "native/rbd/image_watch.cc",
      "native/rbd/io.cc",
      "native/rbd/lock.cc",
      "native/rbd/pool.cc",
      "native/rbd/quiesce.cc",
      "native/rbd/snapshot.cc",
      "native/rbd/trash.cc"
    ],
    "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")", "native"],
    "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS", "NODE_ADDON_API_CPP_EXCEPTIONS_ALL", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "_FILE_OFFSET_BITS=64"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++17", "-fexceptions", "-frtti", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-cast-function-type"],
    # A worker thread that ends must not unmap code that librados or our own threads may still run.
    "ldflags": ["-Wl,-z,nodelete"],
    "libraries": ["-lrbd", "-lrados"]
  }]
}
