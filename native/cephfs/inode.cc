#include "cephfs/inode.h"

#include "cephfs/directory.h"
#include "runtime/list.h"

namespace cephkit {

InodeRef& InodeRef::operator=(InodeRef&& other) noexcept {
    std::swap(mount_, other.mount_);
    std::swap(inode_, other.inode_);
    return *this;
}

InodeRef::~InodeRef() {
    if (inode_ != nullptr) LIBCEPHFS(ceph_ll_put)(mount_, inode_);
}

InodeRef RootOf(ceph_mount_info* mount) {
    Inode* root = nullptr;
    CEPHFS(ceph_ll_lookup_root, mount, &root);
    return {mount, root};
}

InodeRef LookUp(ceph_mount_info* mount, Inode* directory, const std::string& name, struct ceph_statx* stat,
                unsigned wanted) {
    Inode* found = nullptr;
    struct ceph_statx ignored;
    const unsigned flags = AT_SYMLINK_NOFOLLOW | (wanted == 0 ? AT_NO_ATTR_SYNC : 0);
    const int result =
        LIBCEPHFS(ceph_ll_lookup)(mount, directory, name.c_str(), &found, stat != nullptr ? stat : &ignored,
                                  wanted, flags, LIBCEPHFS(ceph_mount_perms)(mount));
    Check("ceph_ll_lookup", result, result < 0 ? name : "");
    return {mount, found};
}

InodeRef LookUpDirectory(ceph_mount_info* mount, Inode* directory, const std::string& name) {
    struct ceph_statx stat;
    auto found = LookUp(mount, directory, name, &stat);
    if (!S_ISDIR(stat.stx_mode))
        throw Failure{"ceph_ll_lookup", S_ISLNK(stat.stx_mode) ? ELOOP : ENOTDIR, name};
    return found;
}

std::vector<std::string> NamesIn(ceph_mount_info* mount, Inode* directory, size_t limit,
                                 const std::set<std::string>& except) {
    ceph_dir_result* cursor = nullptr;
    CEPHFS(ceph_ll_opendir, mount, directory, &cursor, LIBCEPHFS(ceph_mount_perms)(mount));
    const Cleanup close([&] { LIBCEPHFS(ceph_ll_releasedir)(mount, cursor); });
    return TakeNames(mount, cursor, limit, except);
}

}  // namespace cephkit
