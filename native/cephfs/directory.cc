#include "cephfs/directory.h"

#include <dirent.h>

#include <mutex>

#include "cephfs/path.h"
#include "runtime/list.h"

namespace cephkit {
namespace {

const char* TypeOf(const struct dirent& entry) {
    switch (entry.d_type) {
        case DT_REG:
            return "file";
        case DT_DIR:
            return "directory";
        case DT_LNK:
            return "symbolicLink";
        case DT_FIFO:
            return "fifo";
        case DT_SOCK:
            return "socket";
        case DT_CHR:
            return "characterDevice";
        case DT_BLK:
            return "blockDevice";
        default:
            return "unknown";
    }
}

bool IsDots(const char* name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

// False at the end.
bool Next(ceph_mount_info* mount, ceph_dir_result* directory, struct dirent& entry) {
    do {
        if (CEPHFS(ceph_readdir_r, mount, directory, &entry) == 0) return false;
    } while (IsDots(entry.d_name));
    return true;
}

// The first names in the cursor, which is closed.
std::vector<std::string> TakeNames(ceph_mount_info* mount, ceph_dir_result* directory, size_t limit) {
    const Cleanup close([&] { LIBCEPHFS(ceph_closedir)(mount, directory); });
    std::vector<std::string> names;
    struct dirent entry;
    while (names.size() < limit && Next(mount, directory, entry))
        names.emplace_back(entry.d_name);
    return names;
}

// A cursor over the entries of a directory, read in batches.
class Directory : public Handle {
public:
    static constexpr const char* kKind = "a directory";

    Directory(std::shared_ptr<Mount> mount, ceph_dir_result* directory)
        : Handle(mount), mount_(*mount), directory_(directory) {}

    Array Read(uint32_t limit, bool as_buffers) {
        // The cursor is for one thread at a time.
        std::lock_guard<std::mutex> lock(mutex_);
        Array entries;
        struct dirent entry;
        while (entries.size() < limit && Next(mount_, directory_, entry))
            entries.push_back(Object{{"name", ToName("ceph_readdir_r", entry.d_name, as_buffers)},
                                     {"type", TypeOf(entry)}});
        return entries;
    }

private:
    void Destroy() override { CEPHFS(ceph_closedir, mount_, directory_); }

    ceph_mount_info* mount_;
    ceph_dir_result* directory_;
    std::mutex mutex_;
};

std::shared_ptr<Handle> OpenDirectory(Mount& mount, const Path& path) {
    ceph_dir_result* directory = nullptr;
    CEPHFS(ceph_opendir, mount, path, &directory);
    return std::make_shared<Directory>(std::static_pointer_cast<Mount>(mount.shared_from_this()), directory);
}

// Fewer than the limit at the end only.
Array ReadDirectory(Directory& directory, uint32_t limit, bool as_buffers) {
    return directory.Read(limit, as_buffers);
}

// A directory on the way down, and what was in it that is still to be removed: no more than may be removed at
// once.
struct Level {
    int fd;
    std::vector<std::string> names;
};

class TreeRemover {
public:
    TreeRemover(ceph_mount_info* mount, uint32_t limit) : mount_(mount), limit_(limit) {}
    ~TreeRemover() {
        while (!levels_.empty())
            Leave();
    }

    // True when the directory is gone, false when there is more to do.
    bool Remove(const EntryPath& path) {
        const int result = LIBCEPHFS(ceph_open)(mount_, path, directory_flags, 0);
        if (result == -ENOTDIR || result == -ELOOP) {
            CEPHFS(ceph_unlink, mount_, path);
            removed_++;
            return true;
        }
        Enter(Check("ceph_open", result));
        for (;;) {
            if (removed_ >= limit_) return false;
            Level& level = levels_.back();
            if (!level.names.empty()) {
                RemoveEntry(level);
            } else if (levels_.size() > 1) {
                // It is the last name of the level above, and empty now.
                Leave();
            } else {
                Leave();
                return RemoveEmptied(path);
            }
        }
    }
    uint32_t removed() const { return removed_; }

private:
    // No path leads down, only one name after the other, and no symbolic link is followed: whoever puts a
    // link where a directory was does not lead out of the tree.
    static constexpr int directory_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

    bool RemoveEmptied(const EntryPath& path) {
        const int result = LIBCEPHFS(ceph_rmdir)(mount_, path);
        // There was more than the limit, or somebody makes more; or it has snapshots, and nothing in it.
        if (result == -ENOTEMPTY && removed_ > 0) return false;
        Check("ceph_rmdir", result);
        removed_++;
        return true;
    }

    void RemoveEntry(Level& level) {
        const std::string name = level.names.back();
        int result = UnlinkAt(level, name, 0);
        if (result == -EISDIR) result = UnlinkAt(level, name, AT_REMOVEDIR);
        if (result == -ENOTEMPTY) {
            const int fd = LIBCEPHFS(ceph_openat)(mount_, level.fd, name.c_str(), directory_flags, 0);
            Enter(Check("ceph_openat", fd, name));
            if (!levels_.back().names.empty()) return;
            // Emptied by somebody else, or it has snapshots.
            Leave();
            result = UnlinkAt(levels_.back(), name, AT_REMOVEDIR);
        }
        // Somebody else may have been faster.
        if (result != -ENOENT) {
            Check("ceph_unlinkat", result, name);
            removed_++;
        }
        levels_.back().names.pop_back();
    }

    int UnlinkAt(const Level& level, const std::string& name, int flags) {
        return LIBCEPHFS(ceph_unlinkat)(mount_, level.fd, name.c_str(), flags);
    }

    void Enter(int fd) {
        levels_.push_back({fd, {}});
        ceph_dir_result* directory = nullptr;
        CEPHFS(ceph_fdopendir, mount_, fd, &directory);
        levels_.back().names = TakeNames(mount_, directory, limit_);
    }

    void Leave() {
        LIBCEPHFS(ceph_close)(mount_, levels_.back().fd);
        levels_.pop_back();
    }

    ceph_mount_info* mount_;
    uint32_t limit_;
    uint32_t removed_ = 0;
    std::vector<Level> levels_;
};

Object RemoveTree(Mount& mount, const EntryPath& path, uint32_t limit) {
    TreeRemover remover(mount, limit);
    const bool done = remover.Remove(path);
    return {{"done", done}, {"removed", remover.removed()}};
}

}  // namespace

std::vector<std::string> ReadNames(Mount& mount, const char* path) {
    ceph_dir_result* directory = nullptr;
    CEPHFS(ceph_opendir, mount, path, &directory);
    return TakeNames(mount, directory, SIZE_MAX);
}

void InitDirectory(Exports& exports) {
    exports.Blocking<OpenDirectory>("directoryOpen");
    exports.Blocking<ReadDirectory>("directoryRead");
    exports.Blocking<RemoveTree>("fileSystemRemoveTree");
}

}  // namespace cephkit
