// A file system that is mounted: its tree, by paths.
//
// Owns:    one ceph_mount_info, which has sessions with the MDSs and a connection of its own; of the
//          cluster's it has the configuration.
// Closes:  as every handle; the unmount gives back what the MDSs have granted, and waits for them. One that
//          may never end is waited for a while only.
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

    // [worker] libcephfs may have kept something that the unmount will wait for, for ever.
    void set_unmount_may_hang() { unmount_may_hang_ = true; }

private:
    void Destroy() override;
    void UnmountInTime();

    ceph_mount_info* mount_;
    const bool is_root_;
    std::atomic<bool> unmount_may_hang_ = false;
};

// [worker] Throws Failure unless what the path is in is a directory, and can be changed. Told to make or
// remove something in a file that has two names, libcephfs 16.2.15 aborts the process, or does so when the
// file gets a second one. And by a symbolic link a path can come to where snapshots are, which are not made
// and removed as directories.
void CheckParent(const char* syscall, ceph_mount_info* mount, const EntryPath& path);

// What CephFS knows of a file, for JavaScript.
Object ToObject(const struct ceph_statx& stat);
constexpr unsigned stat_wanted = CEPH_STATX_BASIC_STATS | CEPH_STATX_BTIME;

void InitMount(Exports& exports);

}  // namespace cephkit
