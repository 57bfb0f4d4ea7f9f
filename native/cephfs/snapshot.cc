#include "cephfs/snapshot.h"

#include <algorithm>

#include "cephfs/directory.h"
#include "cephfs/path.h"
#include "cephfs/xattr.h"
#include "runtime/list.h"

namespace cephkit {
namespace {

void Create(Mount& mount, const Path& path, const char* name, uint32_t mode, const StringMap& metadata) {
    std::vector<struct snap_metadata> items;
    for (const auto& [key, value] : metadata)
        items.push_back({key.c_str(), value.c_str()});
    CEPHFS(ceph_mksnap, mount, path, name, mode, items.data(), items.size());
}

std::string FolderName(ceph_mount_info* mount) {
    return String("ceph_conf_get", 64, [&](char* value, size_t size) {
        const int result = LIBCEPHFS(ceph_conf_get)(mount, "client_snapdir", value, size);
        return result == -ENAMETOOLONG ? -ERANGE : result;
    });
}

std::string SnapshotFolder(Mount& mount, const Path& path) {
    return path.bytes + "/" + FolderName(mount);
}

// CephFS shows a directory's snapshots beside those of the ones above it, which it calls _NAME_INODE.
bool IsOfAbove(const std::string& name) {
    return name[0] == '_';
}

InodeRef FolderOf(ceph_mount_info* mount, Inode* directory) {
    return LookUpDirectory(mount, directory, FolderName(mount));
}

// Where libcephfs 16.2.15 does not find one that it is told to remove, it keeps something that the unmount
// then waits for, for ever. So each has been looked for just before, and here it is about one that somebody
// else removes at the same moment, or an MDS that has evicted this client. It may as well have been the MDS
// that did not find it, and then nothing is kept.
void CheckRemoved(Mount& mount, const char* syscall, int result) {
    if (result < 0) mount.set_unmount_may_hang();
    Check(syscall, result);
}

void Remove(Mount& mount, const Path& path, const char* name) {
    struct ceph_statx stat;
    const std::string folder = SnapshotFolder(mount, path) + "/" + name;
    CEPHFS(ceph_statx, mount, folder.c_str(), &stat, CEPH_STATX_INO, AT_SYMLINK_NOFOLLOW);
    CheckRemoved(mount, "ceph_rmsnap", LIBCEPHFS(ceph_rmsnap)(mount, path, name));
}

Object Info(Mount& mount, const std::string& folder, const std::string& name) {
    const std::string path = folder + "/" + name;
    // Without metadata libcephfs sets no pointer to it, and frees it all the same.
    struct snap_info info = {};
    CEPHFS(ceph_get_snap_info, mount, path.c_str(), &info);
    const Cleanup free_info([&] { LIBCEPHFS(ceph_free_snap_info_buffer)(&info); });
    Array metadata;
    for (size_t i = 0; i < info.nr_snap_metadata; i++)
        metadata.push_back(Array{Text("ceph_get_snap_info", info.snap_metadata[i].key),
                                 Text("ceph_get_snap_info", info.snap_metadata[i].value)});
    auto created = FindXattr(mount, path.c_str(), "ceph.snap.btime", false);
    return {{"name", Text("ceph_readdir_r", name)},
            {"id", info.id},
            {"metadata", std::move(metadata)},
            {"createdAt", created ? Value(*std::move(created)) : Value()}};
}

// Those of the directory itself.
Array ListSnapshots(Mount& mount, const Path& path) {
    const std::string folder = SnapshotFolder(mount, path);
    Array snapshots;
    for (const auto& name : ReadNames(mount, folder.c_str())) {
        if (IsOfAbove(name)) continue;
        try {
            snapshots.push_back(Info(mount, folder, name));
        } catch (const Failure& failure) {
            // Removed since it was listed.
            if (failure.error != ENOENT) throw;
        }
    }
    return snapshots;
}

}  // namespace

std::vector<std::string> SnapshotNamesBelow(ceph_mount_info* mount, Inode* directory) {
    auto names = NamesIn(mount, FolderOf(mount, directory), SIZE_MAX);
    names.erase(std::remove_if(names.begin(), names.end(), IsOfAbove), names.end());
    return names;
}

void RemoveSnapshotsBelow(Mount& mount, Inode* directory, const std::vector<std::string>& names) {
    const InodeRef folder = FolderOf(mount, directory);
    for (const auto& name : names) {
        try {
            LookUp(mount, folder, name);
            const UserPerm* perms = LIBCEPHFS(ceph_mount_perms)(mount);
            CheckRemoved(mount, "ceph_ll_rmdir",
                         LIBCEPHFS(ceph_ll_rmdir)(mount, folder, name.c_str(), perms));
        } catch (const Failure& failure) {
            // Somebody else was faster.
            if (failure.error != ENOENT) throw;
        }
    }
}

void InitFileSystemSnapshot(Exports& exports) {
    exports.Blocking<Create>("fileSystemCreateSnapshot");
    exports.Blocking<Remove>("fileSystemRemoveSnapshot");
    exports.Blocking<ListSnapshots>("fileSystemListSnapshots");
}

}  // namespace cephkit
