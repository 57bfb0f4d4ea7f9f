#include "cephfs/mount.h"

#include <unistd.h>

#include <chrono>
#include <future>
#include <thread>

#include "runtime/environment.h"

namespace cephkit {
namespace {

// CEPH_NOSNAP, which the header does not tell C++: in the place of a device, what is in no snapshot, nor in
// the folder of some.
constexpr dev_t no_snapshot = -2;

// How long an unmount is waited for that may never end. Others take a second.
constexpr std::chrono::seconds unmount_limit(3);

// In place of a user or group that is the process's own.
constexpr int64_t own_id = -1;

void ReleaseMount(ceph_mount_info* mount) {
    LIBCEPHFS(ceph_release)(mount);
}

void SetUser(ceph_mount_info* mount, int64_t uid, int64_t gid) {
    if (uid == own_id && gid == own_id) return;
    UserPerm* perms = LIBCEPHFS(ceph_userperm_new)(uid, gid, 0, nullptr);
    const int result = LIBCEPHFS(ceph_mount_perms_set)(mount, perms);
    LIBCEPHFS(ceph_userperm_destroy)(perms);
    Check("ceph_mount_perms_set", result);
}

// Without a name, the file system that the cluster has for the default.
std::shared_ptr<Handle> MountFileSystem(Cluster& cluster, const NullableString& name, const Path& root,
                                        int64_t uid, int64_t gid) {
    ceph_mount_info* mount = nullptr;
    CEPHFS(ceph_create_from_rados, &mount, cluster);
    std::unique_ptr<ceph_mount_info, decltype(&ReleaseMount)> owned(mount, ReleaseMount);
    CEPHFS(ceph_init, mount);
    if (name.text) CEPHFS(ceph_select_filesystem, mount, name);
    SetUser(mount, uid, gid);
    CEPHFS(ceph_mount, mount, root);
    const bool is_root = uid == 0 || (uid == own_id && geteuid() == 0);
    return std::make_shared<Mount>(cluster.shared_from_this(), owned.release(), is_root);
}

int NoFollow(bool follow) {
    return follow ? 0 : AT_SYMLINK_NOFOLLOW;
}

Object Stat(Mount& mount, const Path& path, bool follow) {
    struct ceph_statx stat;
    CEPHFS(ceph_statx, mount, path, &stat, stat_wanted, NoFollow(follow));
    return ToObject(stat);
}

Object Statfs(Mount& mount, const Path& path) {
    struct statvfs stat;
    CEPHFS(ceph_statfs, mount, path, &stat);
    return {{"bsize", static_cast<uint64_t>(stat.f_frsize)},  // what the counts of blocks are in
            {"blocks", static_cast<uint64_t>(stat.f_blocks)},
            {"bfree", static_cast<uint64_t>(stat.f_bfree)},
            {"bavail", static_cast<uint64_t>(stat.f_bavail)},
            {"files", static_cast<uint64_t>(stat.f_files)},  // CephFS has no limit of them
            {"namelen", static_cast<uint64_t>(stat.f_namemax)}};
}

void MakeDirectory(Mount& mount, const EntryPath& path, uint32_t mode) {
    CheckParent("ceph_mkdir", mount, path);
    CEPHFS(ceph_mkdir, mount, path, mode);
}

// With those above it. All may be there already.
void MakeDirectories(Mount& mount, const EntryPath& path, uint32_t mode) {
    CEPHFS(ceph_mkdirs, mount, path, mode);
}

void RemoveDirectory(Mount& mount, const EntryPath& path) {
    CheckParent("ceph_rmdir", mount, path);
    CEPHFS(ceph_rmdir, mount, path);
}

void Unlink(Mount& mount, const EntryPath& path) {
    CheckParent("ceph_unlink", mount, path);
    CEPHFS(ceph_unlink, mount, path);
}

void Rename(Mount& mount, const EntryPath& from, const EntryPath& to) {
    CheckParent("ceph_rename", mount, from);
    CheckParent("ceph_rename", mount, to);
    CEPHFS(ceph_rename, mount, from, to);
}

void Link(Mount& mount, const EntryPath& existing, const EntryPath& path) {
    CheckParent("ceph_link", mount, path);
    CEPHFS(ceph_link, mount, existing, path);
}

void MakeSymbolicLink(Mount& mount, const Path& target, const EntryPath& path) {
    CheckParent("ceph_symlink", mount, path);
    CEPHFS(ceph_symlink, mount, target, path);
}

// libcephfs cuts off what has no room, and says how long it is.
Value ReadLink(Mount& mount, const Path& path, bool as_buffer) {
    std::string target(PATH_MAX, '\0');
    for (;;) {
        const int size = CEPHFS(ceph_readlink, mount, path, target.data(), target.size());
        if (static_cast<size_t>(size) < target.size()) {
            target.resize(size);
            return ToName("ceph_readlink", std::move(target), as_buffer);
        }
        target.resize(target.size() * 2);
    }
}

void ChangeMode(Mount& mount, const Path& path, uint32_t mode) {
    CEPHFS(ceph_chmod, mount, path, mode);
}

void ChangeOwner(Mount& mount, const Path& path, uint32_t uid, uint32_t gid, bool follow) {
    if (follow) {
        CEPHFS(ceph_chown, mount, path, uid, gid);
    } else {
        CEPHFS(ceph_lchown, mount, path, uid, gid);
    }
}

timeval ToTime(int64_t microseconds) {
    constexpr int64_t second = 1000000;
    return {microseconds / second, microseconds % second};
}

void ChangeTimes(Mount& mount, const Path& path, int64_t atime, int64_t mtime, bool follow) {
    struct timeval times[2] = {ToTime(atime), ToTime(mtime)};
    if (follow) {
        CEPHFS(ceph_utimes, mount, path, times);
    } else {
        CEPHFS(ceph_lutimes, mount, path, times);
    }
}

// By an open file: ceph_truncate says yes to a directory, and to a mode that does not allow it.
void Truncate(Mount& mount, const Path& path, int64_t size) {
    const int fd = CEPHFS(ceph_open, mount, path, O_WRONLY, 0);
    const int result = LIBCEPHFS(ceph_ftruncate)(mount, fd, size);
    CEPHFS(ceph_close, mount, fd);
    Check("ceph_ftruncate", result);
}

void Sync(Mount& mount) {
    CEPHFS(ceph_sync_fs, mount);
}

}  // namespace

void Mount::Destroy() {
    if (unmount_may_hang_) return UnmountInTime();
    CEPHFS(ceph_unmount, mount_);
    ReleaseMount(mount_);
}

// What has been written is made safe before. An unmount that does not end goes on in a thread of its own: it
// has given back what it can, and answers the MDSs for the rest as long as the process lives. It is begun
// also where nothing can be written any more, as after an eviction.
void Mount::UnmountInTime() {
    Environment::LeaveRunning();
    const int synced = LIBCEPHFS(ceph_sync_fs)(mount_);
    std::packaged_task<int()> unmount([mount = mount_] {
        const int result = LIBCEPHFS(ceph_unmount)(mount);
        if (result == 0) ReleaseMount(mount);
        return result;
    });
    auto unmounted = unmount.get_future();
    std::thread(std::move(unmount)).detach();
    const bool ended = unmounted.wait_for(unmount_limit) == std::future_status::ready;
    Check("ceph_sync_fs", synced);
    if (ended) Check("ceph_unmount", unmounted.get());
}

void CheckParent(const char* syscall, ceph_mount_info* mount, const EntryPath& path) {
    struct ceph_statx stat;
    // The type is told though nothing is wanted, and mostly without asking the MDS.
    const int result = LIBCEPHFS(ceph_statx)(mount, path.Parent().c_str(), &stat, 0, AT_NO_ATTR_SYNC);
    Check(syscall, result);
    if (!S_ISDIR(stat.stx_mode)) throw Failure{syscall, ENOTDIR, ""};
    if (stat.stx_dev != no_snapshot) throw Failure{syscall, EROFS, ""};
}

Object ToObject(const struct ceph_statx& stat) {
    return {{"ino", Opaque{stat.stx_ino}},
            {"mode", stat.stx_mode},
            {"nlink", stat.stx_nlink},
            {"uid", stat.stx_uid},
            {"gid", stat.stx_gid},
            {"size", stat.stx_size},
            {"blksize", stat.stx_blksize},
            {"blocks", stat.stx_blocks},
            {"atime", Time::Of(stat.stx_atime)},
            {"mtime", Time::Of(stat.stx_mtime)},
            {"ctime", Time::Of(stat.stx_ctime)},
            {"birthtime", Time::Of(stat.stx_btime)}};
}

void InitMount(Exports& exports) {
    exports.Blocking<MountFileSystem>("fileSystemMount");
    exports.Blocking<Stat>("fileSystemStat");
    exports.Blocking<Statfs>("fileSystemStatfs");
    exports.Blocking<MakeDirectory>("fileSystemMkdir");
    exports.Blocking<MakeDirectories>("fileSystemMkdirs");
    exports.Blocking<RemoveDirectory>("fileSystemRmdir");
    exports.Blocking<Unlink>("fileSystemUnlink");
    exports.Blocking<Rename>("fileSystemRename");
    exports.Blocking<Link>("fileSystemLink");
    exports.Blocking<MakeSymbolicLink>("fileSystemSymlink");
    exports.Blocking<ReadLink>("fileSystemReadlink");
    exports.Blocking<ChangeMode>("fileSystemChmod");
    exports.Blocking<ChangeOwner>("fileSystemChown");
    exports.Blocking<ChangeTimes>("fileSystemUtimes");
    exports.Blocking<Truncate>("fileSystemTruncate");
    exports.Blocking<Sync>("fileSystemSync");
}

}  // namespace cephkit
