// Directories that are held, and what is made below them. No symbolic link is followed: each name is looked
// up in the directory that is held, so whoever puts a link where a directory was leads nowhere.
//
// Owns:    a reference to an inode.
// Closes:  as every handle.
#pragma once
#include "cephfs/inode.h"
#include "cephfs/mount.h"

namespace cephkit {

class OpenDirectory : public Handle {
public:
    static constexpr const char* kKind = "an open directory";

    OpenDirectory(std::shared_ptr<Mount> mount, InodeRef inode)
        : Handle(mount), mount_(std::move(mount)), inode_(std::move(inode)) {}
    Mount& mount() const { return *mount_; }
    Inode* inode() const { return *inode_; }

private:
    void Destroy() override { inode_.reset(); }

    std::shared_ptr<Mount> mount_;
    std::optional<InodeRef> inode_;
};

void InitOpenDirectory(Exports& exports);

}  // namespace cephkit
