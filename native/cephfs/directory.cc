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

}  // namespace

std::vector<std::string> TakeNames(ceph_mount_info* mount, ceph_dir_result* directory, size_t limit,
                                   const std::set<std::string>& except) {
    std::vector<std::string> names;
    struct dirent entry;
    while (names.size() < limit && Next(mount, directory, entry)) {
        if (except.count(entry.d_name) == 0) names.emplace_back(entry.d_name);
    }
    return names;
}

std::vector<std::string> ReadNames(Mount& mount, const char* path) {
    ceph_dir_result* directory = nullptr;
    CEPHFS(ceph_opendir, mount, path, &directory);
    const Cleanup close([&] { LIBCEPHFS(ceph_closedir)(mount, directory); });
    return TakeNames(mount, directory, SIZE_MAX);
}

void InitDirectory(Exports& exports) {
    exports.Blocking<OpenDirectory>("directoryOpen");
    exports.Blocking<ReadDirectory>("directoryRead");
}

}  // namespace cephkit
