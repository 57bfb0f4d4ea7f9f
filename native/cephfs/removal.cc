#include "cephfs/removal.h"

#include <chrono>
#include <mutex>
#include <set>

#include "cephfs/directory.h"
#include "cephfs/open_directory.h"
#include "cephfs/path.h"
#include "cephfs/snapshot.h"

namespace cephkit {
namespace {

// How many names of a directory are known at once. Each directory on the way down has as many.
constexpr size_t names_at_once = 100;

// How often a directory is read anew that had nothing in it, and is not empty: somebody else is at work
// there.
constexpr int most_rounds = 3;

// What is wrong with one file, and not with the mount.
bool IsOfTheEntry(int error) {
    return error == EACCES || error == EPERM || error == ENOTEMPTY || error == EBUSY || error == EIO ||
           error == EINVAL;
}

// A directory on the way down. The last of its names is what is being removed: the next level, if there is
// one.
struct Level {
    int fd;
    std::vector<std::string> names = {};
    std::set<std::string> kept = {};
    bool read_to_end = false;
    int rounds = 0;
};

class TreeRemoval : public Handle {
public:
    static constexpr const char* kKind = "a removal";

    TreeRemoval(std::shared_ptr<Mount> mount, EntryPath path, bool snapshots)
        : Handle(mount), mount_(*mount), path_(std::move(path)), snapshots_(snapshots) {}

    Object Go(std::chrono::milliseconds limit) {
        // A call that nobody waits for any more may still be at it.
        std::lock_guard<std::mutex> lock(mutex_);
        const auto end = std::chrono::steady_clock::now() + limit;
        removed_ = 0;
        kept_.clear();
        if (!begun_) Begin();
        while (!levels_.empty() && std::chrono::steady_clock::now() < end)
            Step();
        return {{"done", levels_.empty()}, {"removed", removed_}, {"kept", std::move(kept_)}};
    }

private:
    void Destroy() override {
        while (!levels_.empty())
            Leave();
    }

    void Begin() {
        const int fd = IfDirectory(mount_, LIBCEPHFS(ceph_open)(mount_, path_, directory_flags, 0));
        if (fd == -ENOTDIR || fd == -ELOOP) {
            CEPHFS(ceph_unlink, mount_, path_);
            removed_++;
        } else {
            levels_.push_back({Check("ceph_open", fd)});
        }
        begun_ = true;
    }

    void Step() {
        Level& level = levels_.back();
        if (!level.names.empty()) return RemoveEntry(level);
        if (!level.read_to_end) return Read(level);
        if (!level.kept.empty()) return Leave(Outcome::kKept);
        RemoveEmptied(level);
    }

    void RemoveEntry(Level& level) {
        const std::string& name = level.names.back();
        int result = UnlinkAt(level, name, 0);
        if (result == -EISDIR) result = UnlinkAt(level, name, AT_REMOVEDIR);
        if (result == -ENOTEMPTY) return Enter(level, name);
        Ended(level, "ceph_unlinkat", result);
    }

    void Enter(Level& level, const std::string& name) {
        const int fd =
            IfDirectory(mount_, LIBCEPHFS(ceph_openat)(mount_, level.fd, name.c_str(), directory_flags, 0));
        if (fd >= 0) {
            levels_.push_back({fd});
        } else if (fd != -ENOTDIR && fd != -ELOOP) {  // something else by now, for the next step
            Ended(level, "ceph_openat", fd);
        }
    }

    void Read(Level& level) {
        ceph_dir_result* directory = nullptr;
        const int result = LIBCEPHFS(ceph_fdopendir)(mount_, level.fd, &directory);
        if (result < 0 && IsOfTheEntry(-result)) {
            Keep("", "ceph_fdopendir", -result);
            return Leave(Outcome::kKept);
        }
        Check("ceph_fdopendir", result);
        level.names = TakeNames(mount_, directory, names_at_once, level.kept);
        level.read_to_end = level.names.size() < names_at_once;
    }

    // Before it is left, for it may have to be looked at again.
    void RemoveEmptied(Level& level) {
        const bool is_top = levels_.size() == 1;
        const int result = is_top ? LIBCEPHFS(ceph_rmdir)(mount_, path_)
                                  : UnlinkAt(levels_[levels_.size() - 2],
                                             levels_[levels_.size() - 2].names.back(), AT_REMOVEDIR);
        if (result == -ENOTEMPTY) return LookAgain(level);
        if (result == 0 || result == -ENOENT) {
            removed_ += result == 0;
            return Leave(Outcome::kGone);
        }
        if (!IsOfTheEntry(-result)) Check("ceph_rmdir", result);
        Keep("", "ceph_rmdir", -result);
        Leave(Outcome::kKept);
    }

    void LookAgain(Level& level) {
        const auto snapshots = SnapshotNamesBelow(mount_, level.fd);
        const char* syscall = "ceph_rmdir";
        int error = ENOTEMPTY;
        if (level.rounds++ < most_rounds && (snapshots.empty() || snapshots_)) {
            level.read_to_end = false;
            error = RemoveSnapshots(level, snapshots);
            if (error == 0) return;
            syscall = "ceph_rmsnap";
        }
        Keep("", syscall, error, snapshots);
        Leave(Outcome::kKept);
    }

    // 0, or what is wrong with those.
    int RemoveSnapshots(const Level& level, const std::vector<std::string>& snapshots) {
        try {
            if (!snapshots.empty()) RemoveSnapshotsBelow(mount_, level.fd, snapshots);
            return 0;
        } catch (const Failure& failure) {
            // Somebody else was faster.
            if (failure.error == ENOENT) return 0;
            if (!IsOfTheEntry(failure.error)) throw;
            return failure.error;
        }
    }

    // What became of the last name of the level. Nobody has to be told of what is gone already.
    void Ended(Level& level, const char* syscall, int result) {
        if (result < 0 && result != -ENOENT) {
            if (!IsOfTheEntry(-result)) Check(syscall, result, level.names.back());
            Keep("/" + level.names.back(), syscall, -result);
            level.kept.insert(level.names.back());
        }
        removed_ += result == 0;
        level.names.pop_back();
    }

    enum class Outcome { kGone, kKept };

    void Leave(Outcome outcome) {
        Leave();
        if (levels_.empty()) return;
        Level& above = levels_.back();
        if (outcome == Outcome::kKept) above.kept.insert(above.names.back());
        above.names.pop_back();
    }

    void Leave() {
        LIBCEPHFS(ceph_close)(mount_, levels_.back().fd);
        levels_.pop_back();
    }

    // Below the directory that is open, or that itself.
    void Keep(const std::string& name, const char* syscall, int error,
              const std::vector<std::string>& snapshots = {}) {
        std::string path = path_.bytes;
        for (size_t i = 0; i + 1 < levels_.size(); i++)
            path += "/" + levels_[i].names.back();
        Array names;
        for (const auto& snapshot : snapshots)
            names.push_back(Bytes{snapshot});
        kept_.push_back(Object{{"path", Bytes{path + name}},
                               {"errno", -error},
                               {"syscall", syscall},
                               {"snapshots", std::move(names)}});
    }

    int UnlinkAt(const Level& level, const std::string& name, int flags) {
        return LIBCEPHFS(ceph_unlinkat)(mount_, level.fd, name.c_str(), flags);
    }

    ceph_mount_info* mount_;
    const EntryPath path_;
    const bool snapshots_;
    std::mutex mutex_;
    bool begun_ = false;
    std::vector<Level> levels_;
    uint32_t removed_ = 0;
    Array kept_;
};

std::shared_ptr<Handle> Begin(Mount& mount, const EntryPath& path, bool snapshots) {
    return std::make_shared<TreeRemoval>(std::static_pointer_cast<Mount>(mount.shared_from_this()), path,
                                         snapshots);
}

// Until it is done, or for so long.
Object Go(TreeRemoval& removal, uint32_t milliseconds) {
    return removal.Go(std::chrono::milliseconds(milliseconds));
}

}  // namespace

void InitRemoval(Exports& exports) {
    exports.Blocking<Begin>("removalBegin");
    exports.Blocking<Go>("removalGo");
}

}  // namespace cephkit
