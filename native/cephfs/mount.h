// A file system that is mounted: its tree, by paths.
//
// Owns:    one ceph_mount_info, which has sessions with the MDSs and a connection of its own; of the
//          cluster's it has the configuration.
// Closes:  as every handle; the unmount gives back what the MDSs have granted, and waits for them. One that
//          would wait for ever is left undone: see CannotBeUnmounted().
// Threads: libcephfs takes calls from any; all of them block, and run on workers.
#pragma once
#include <atomic>

#include "cephfs/library.h"
#include "cephfs/path.h"
#include "rados/cluster.h"

namespace cephkit {

class Mount : public Handle {
public:
    static constexpr const char* kKind = "a file system";

    Mount(std::shared_ptr<Handle> cluster, ceph_mount_info* mount, bool is_root)
        : Handle(std::move(cluster)), mount_(mount), is_root_(is_root) {}
    operator ceph_mount_info*() const { return mount_; }
    // Whether calls are made on behalf of root.
    bool is_root() const { return is_root_; }

    // [worker] libcephfs has kept something that an unmount would wait for, for ever. So the end of this
    // handle writes back what is not safe yet, and leaves the mount to the process: its sessions go on
    // answering the MDSs that want back what they have granted.
    void CannotBeUnmounted() { can_be_unmounted_ = false; }

private:
    void Destroy() override;

    ceph_mount_info* mount_;
    const bool is_root_;
    std::atomic<bool> can_be_unmounted_ = true;
};

// [worker] Throws Failure if what the path is in is no directory: told to make or remove something in a file
// that has two names, libcephfs 16.2.15 aborts the process, or does so when the file gets a second one.
void CheckParent(const char* syscall, ceph_mount_info* mount, const EntryPath& path);

// What CephFS knows of a file, for JavaScript.
Object ToObject(const struct ceph_statx& stat);
constexpr unsigned stat_wanted = CEPH_STATX_BASIC_STATS | CEPH_STATX_BTIME;

void InitMount(Exports& exports);

}  // namespace cephkit
