// Files and directories as what they are, wherever their names may lead by now.
//
// A directory that is open as a file costs the MDS an entry in its journal for every change in it; one that
// is known costs it nothing.
#pragma once
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cephfs/library.h"

namespace cephkit {

// Keeps it known to libcephfs.
class InodeRef {
public:
    InodeRef(ceph_mount_info* mount, Inode* inode) : mount_(mount), inode_(inode) {}
    InodeRef(InodeRef&& other) noexcept
        : mount_(other.mount_), inode_(std::exchange(other.inode_, nullptr)) {}
    InodeRef& operator=(InodeRef&& other) noexcept;
    ~InodeRef();
    operator Inode*() const { return inode_; }

private:
    ceph_mount_info* mount_;
    Inode* inode_;
};

// [worker] These throw Failure.

InodeRef RootOf(ceph_mount_info* mount);

// Of one name in a directory: no symbolic link is followed. What is wanted of the stat is up to date; the
// type always is.
InodeRef LookUp(ceph_mount_info* mount, Inode* directory, const std::string& name,
                struct ceph_statx* stat = nullptr, unsigned wanted = 0);

// The same, of a directory: ELOOP or ENOTDIR where it is something else.
InodeRef LookUpDirectory(ceph_mount_info* mount, Inode* directory, const std::string& name);

// All that is in a directory, beside `.` and `..`: at most so many, and without some.
std::vector<std::string> NamesIn(ceph_mount_info* mount, Inode* directory, size_t limit,
                                 const std::set<std::string>& except = {});

}  // namespace cephkit
