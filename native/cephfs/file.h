// An open file of a file system.
//
// Owns:    a file descriptor of libcephfs, which is none of the kernel's.
// Closes:  as every handle. What was written may still be in libcephfs's cache then; unmounting writes it.
#pragma once
#include "cephfs/mount.h"

namespace cephkit {

class File : public Handle {
public:
    static constexpr const char* kKind = "a file";

    File(std::shared_ptr<Mount> mount, int fd) : Handle(mount), mount_(*mount), fd_(fd) {}
    ceph_mount_info* mount() const { return mount_; }
    int fd() const { return fd_; }
    bool is_directory = false;

private:
    void Destroy() override;

    ceph_mount_info* mount_;
    int fd_;
};

void InitFile(Exports& exports);

}  // namespace cephkit
