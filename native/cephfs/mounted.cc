#include "cephfs/mounted.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "cephfs/path.h"
#include "runtime/own_process.h"

namespace cephkit {
namespace {

// The kernel's own CephFS says so; of FUSE, the table of mounts says whose it is.
constexpr auto ceph_super_magic = 0x00c36400;
constexpr const char* fuse_type = "fuse.ceph-fuse";

// Longer than any of CephFS's own attributes.
constexpr size_t longest_value = 1024;

// How a step of the process went wrong, if it did. `syscall` is NULL where it did not.
struct Trouble {
    const char* syscall = nullptr;
    int error = 0;
    const char* detail = "";

    explicit operator bool() const { return syscall != nullptr; }
};

Trouble Errno(const char* syscall) {
    return {syscall, errno};
}

// By their ids.
std::vector<uint64_t> FuseMounts() {
    std::vector<uint64_t> ids;
    std::ifstream table("/proc/self/mountinfo");
    for (std::string line; std::getline(table, line);) {
        if (line.find(std::string(" - ") + fuse_type + " ") == std::string::npos) continue;
        uint64_t id = 0;
        if (std::istringstream(line) >> id) ids.push_back(id);
    }
    return ids;
}

// [own process] The root of a mount, which is what it is while it is open, whatever becomes of the path.
class Root {
public:
    Root(const char* path, const std::vector<uint64_t>& fuse_mounts)
        : path_(path), fuse_mounts_(fuse_mounts) {}

    // Level by level: is it there, is it a mount, is that a CephFS, and does it answer.
    Trouble Open() {
        fd_ = open(path_, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd_ < 0) return Errno("statfs");
        struct statx mount;
        if (statx(fd_, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &mount) != 0)
            return Errno("statfs");
        if ((mount.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0)
            return {"statfs", ENODEV, "a directory where nothing is mounted"};
        struct statfs type;
        if (fstatfs(fd_, &type) != 0) return Errno("statfs");
        is_fuse_ = type.f_type == FUSE_SUPER_MAGIC && Contains(mount.stx_mnt_id);
        if (!is_fuse_ && type.f_type != ceph_super_magic)
            return {"statfs", ENODEV, "another file system is mounted"};
        return {};
    }

    bool is_fuse() const { return is_fuse_; }
    operator int() const { return fd_; }

private:
    bool Contains(uint64_t id) const {
        return std::find(fuse_mounts_.begin(), fuse_mounts_.end(), id) != fuse_mounts_.end();
    }

    const char* path_;
    const std::vector<uint64_t>& fuse_mounts_;
    int fd_ = -1;
    bool is_fuse_ = false;
};

// Runs the steps in a process of their own, at the root of the mount. Throws Failure.
template <typename Steps>
void AtRoot(const Path& mount, Steps&& steps) {
    const auto fuse_mounts = FuseMounts();
    Trouble trouble;
    InOwnProcess([&]() noexcept {
        Root root(mount, fuse_mounts);
        trouble = root.Open();
        if (!trouble) trouble = steps(root);
    });
    if (trouble) throw Failure{trouble.syscall, trouble.error, trouble.detail};
}

// [own process] Of an open file, for calls that take a name.
class DescriptorName {
public:
    explicit DescriptorName(int fd) { snprintf(text_, sizeof(text_), "/proc/self/fd/%d", fd); }
    operator const char*() const { return text_; }

private:
    char text_[32];
};

// [own process] A file or directory in a mount.
class Found {
public:
    Trouble Open(const Root& root, const char* path, int flags) {
        struct open_how how = {};
        how.flags = O_PATH | O_CLOEXEC | flags;
        how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
        fd_ = static_cast<int>(syscall(SYS_openat2, static_cast<int>(root), path, &how, sizeof(how)));
        return fd_ < 0 ? Errno("openat2") : Trouble{};
    }
    // It is open as a path only, and calls such as fgetxattr(2) do not take that.
    DescriptorName name() const { return DescriptorName(fd_); }

private:
    int fd_ = -1;
};

// From the root of the mount, which the path in it begins at.
const char* Relative(const Path& path) {
    const char* relative = path;
    while (*relative == '/')
        relative++;
    return *relative == '\0' ? "." : relative;
}

int NoFollow(bool follow) {
    return follow ? 0 : O_NOFOLLOW;
}

const char* CheckMount(const Path& mount) {
    bool is_fuse = false;
    AtRoot(mount, [&](const Root& root) noexcept {
        is_fuse = root.is_fuse();
        return Trouble{};
    });
    return is_fuse ? "ceph-fuse" : "kernel";
}

struct XattrValue {
    char data[longest_value];
    ssize_t size;
};

// Null for those that are not there.
Array GetXattrs(const Path& mount, const Path& path, const StringList& names, bool follow) {
    std::vector<XattrValue> values(names.size());
    AtRoot(mount, [&](const Root& root) noexcept -> Trouble {
        Found found;
        if (auto trouble = found.Open(root, Relative(path), NoFollow(follow))) return trouble;
        for (size_t i = 0; i < names.size(); i++) {
            auto& value = values[i];
            value.size = getxattr(found.name(), names[i].c_str(), value.data, sizeof(value.data));
            if (value.size < 0 && errno != ENODATA) return Errno("getxattr");
        }
        return {};
    });
    Array found;
    for (const auto& value : values)
        found.push_back(value.size < 0 ? Value(nullptr) : Value(Bytes{std::string(value.data, value.size)}));
    return found;
}

// Of a directory.
void SetXattr(const Path& mount, const Path& path, const char* name, const Bytes& value) {
    AtRoot(mount, [&](const Root& root) noexcept -> Trouble {
        Found found;
        if (auto trouble = found.Open(root, Relative(path), O_DIRECTORY | O_NOFOLLOW)) return trouble;
        if (setxattr(found.name(), name, value.data.data(), value.data.size(), 0) != 0)
            return Errno("setxattr");
        return {};
    });
}

// [own process] Writes a file to the mount, reads it back, and removes it.
class MountProbe {
public:
    // There is as much room to read as there is to write.
    MountProbe(const Root& root, const char* name, const std::string& written, char* read)
        : root_(root), name_(name), written_(written), read_(read) {}

    Trouble Run() {
        Trouble trouble = Create();
        if (trouble) return trouble;
        trouble = WriteAndRead();
        if (close(fd_) != 0 && !trouble) trouble = Errno("close");
        // Another one of this node's may have removed it.
        if (unlinkat(root_, name_, 0) != 0 && errno != ENOENT && !trouble) trouble = Errno("unlink");
        return trouble;
    }

private:
    // Whatever has been left there goes: it may be somebody else's, who may write it and we may not.
    Trouble Create() {
        constexpr int tries = 10;
        for (int i = 0; i < tries; i++) {
            if (unlinkat(root_, name_, 0) != 0 && errno != ENOENT) return Errno("unlink");
            fd_ = openat(root_, name_, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
            if (fd_ >= 0) return {};
            if (errno != EEXIST) break;
        }
        return Errno("open");
    }

    Trouble WriteAndRead() {
        for (size_t done = 0; done < written_.size();) {
            const ssize_t count = pwrite(fd_, written_.data() + done, written_.size() - done, done);
            if (count < 0) return Errno("write");
            done += count;
        }
        // Now it is in the OSDs, or this fails.
        if (fsync(fd_) != 0) return Errno("fsync");
        return Read();
    }

    Trouble Read() {
        const int fd = OpenUncached();
        if (fd < 0) return Errno("open");
        const Trouble trouble = ReadAndCompare(fd);
        close(fd);
        return trouble;
    }

    // What was written is in the page cache, too. Not everything that can be mounted lets that be passed by.
    int OpenUncached() {
        const DescriptorName name(fd_);
        const int direct = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (direct >= 0 || errno != EINVAL) return direct;
        posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
        return open(name, O_RDONLY | O_CLOEXEC);
    }

    Trouble ReadAndCompare(int fd) {
        size_t done = 0;
        while (done < written_.size()) {
            const ssize_t count = pread(fd, read_ + done, written_.size() - done, done);
            if (count < 0) return Errno("read");
            if (count == 0) break;
            done += count;
        }
        if (done == written_.size() && memcmp(read_, written_.data(), done) == 0) return {};
        return {"read", EIO, "what was written reads back as something else"};
    }

    const Root& root_;
    const char* name_;
    const std::string& written_;
    char* read_;
    int fd_ = -1;
};

int64_t Microseconds() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * int64_t{1000000} + now.tv_nsec / 1000;
}

// What O_DIRECT reads into.
struct alignas(4096) Block {
    char bytes[4096];
};

// How many microseconds it took.
int64_t Probe(const Path& mount, const char* name, const Bytes& content) {
    std::vector<Block> read(content.data.size() / sizeof(Block) + 1);
    int64_t took = 0;
    AtRoot(mount, [&](const Root& root) noexcept {
        const int64_t begun = Microseconds();
        const Trouble trouble = MountProbe(root, name, content.data, read.front().bytes).Run();
        took = Microseconds() - begun;
        return trouble;
    });
    return took;
}

}  // namespace

void InitMounted(Exports& exports) {
    exports.Unawaited<CheckMount>("mountedCheck");
    exports.Unawaited<GetXattrs>("mountedGetXattrs");
    exports.Unawaited<SetXattr>("mountedSetXattr");
    exports.Unawaited<Probe>("mountedProbe");
}

}  // namespace cephkit
