#include "cephfs/removal.h"

#include <chrono>
#include <mutex>
#include <set>

#include "cephfs/inode.h"
#include "cephfs/path.h"
#include "cephfs/snapshot.h"

namespace cephkit {
namespace {

// How many names of a directory are known at once. Each directory on the way down has as many.
constexpr size_t names_at_once = 100;

// How often a directory is read anew that had nothing in it, and is not empty: somebody else is at work
// there.
constexpr int most_rounds = 10;

// How often in a row its snapshots cannot be listed because one has gone: each time somebody else has removed
// one.
constexpr int most_vanished = 1000;

// What is wrong with one file, and not with the mount.
bool IsOfTheEntry(int error) {
    return error == EACCES || error == EPERM || error == ENOTEMPTY || error == EBUSY || error == EIO ||
           error == EINVAL;
}

// A directory on the way down. The last of its names is what is being removed: the next level, if there is
// one.
struct Level {
    InodeRef directory;
    std::vector<std::string> names = {};
    std::set<std::string> kept = {};
    bool read_to_end = false;
    int rounds = 0;
    int vanished = 0;
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
    void Destroy() override { levels_.clear(); }

    void Begin() {
        Inode* found = nullptr;
        struct ceph_statx stat;
        CEPHFS(ceph_ll_walk, mount_, path_, &found, &stat, 0, AT_SYMLINK_NOFOLLOW | AT_NO_ATTR_SYNC, perms());
        InodeRef inode(mount_, found);
        if (S_ISDIR(stat.stx_mode)) {
            levels_.push_back({std::move(inode)});
        } else {
            CheckParent("ceph_unlink", mount_, path_);
            CEPHFS(ceph_unlink, mount_, path_);
            removed_++;
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
        int result = LIBCEPHFS(ceph_ll_unlink)(mount_, level.directory, name.c_str(), perms());
        if (result != -EISDIR) return Ended(level, "ceph_ll_unlink", result);
        result = RemoveDirectory(level, name);
        if (result == -ENOTEMPTY) return Enter(level, name);
        Ended(level, "ceph_ll_rmdir", result);
    }

    void Enter(Level& level, const std::string& name) {
        try {
            levels_.push_back({LookUpDirectory(mount_, level.directory, name)});
        } catch (const Failure& failure) {
            // Something else by now, for the next step.
            if (failure.error == ENOTDIR || failure.error == ELOOP) return;
            Ended(level, "ceph_ll_lookup", -failure.error);
        }
    }

    void Read(Level& level) {
        try {
            level.names = NamesIn(mount_, level.directory, names_at_once, level.kept);
        } catch (const Failure& failure) {
            return KeepFor(failure);
        }
        level.read_to_end = level.names.size() < names_at_once;
    }

    // Before it is left, for it may have to be looked at again.
    void RemoveEmptied(Level& level) {
        const int result = levels_.size() == 1 ? RemoveTop()
                                               : RemoveDirectory(levels_[levels_.size() - 2],
                                                                 levels_[levels_.size() - 2].names.back());
        if (result == -ENOTEMPTY) return LookAgain(level);
        if (result == 0 || result == -ENOENT) {
            removed_ += result == 0;
            return Leave(Outcome::kGone);
        }
        if (!IsOfTheEntry(-result)) Check("ceph_rmdir", result);
        Keep("", "ceph_rmdir", -result);
        Leave(Outcome::kKept);
    }

    // What is there that was not read: snapshots, or what somebody has made since.
    void LookAgain(Level& level) {
        try {
            const auto snapshots = SnapshotNamesBelow(mount_, level.directory);
            level.vanished = 0;
            if (level.rounds++ == most_rounds || (!snapshots.empty() && !snapshots_)) {
                Keep("", "ceph_rmdir", ENOTEMPTY, snapshots);
                return Leave(Outcome::kKept);
            }
            level.read_to_end = false;
            const int error = RemoveSnapshots(level, snapshots);
            if (error == 0) return;
            Keep("", "ceph_rmsnap", error, snapshots);
            Leave(Outcome::kKept);
        } catch (const Failure& failure) {
            // The directory has gone, or a snapshot did while they were listed: the next look tells.
            if (failure.error != ENOENT) return KeepFor(failure);
            if (level.vanished++ < most_vanished) {
                level.read_to_end = false;
                return;
            }
            Keep("", failure.syscall.c_str(), ENOENT);
            Leave(Outcome::kKept);
        }
    }

    // The directory that is being removed. Somebody else may have done so.
    void KeepFor(const Failure& failure) {
        if (failure.error == ENOENT) return Leave(Outcome::kGone);
        if (!IsOfTheEntry(failure.error)) throw failure;
        Keep("", failure.syscall.c_str(), failure.error);
        Leave(Outcome::kKept);
    }

    // 0, or what is wrong with those.
    int RemoveSnapshots(const Level& level, const std::vector<std::string>& snapshots) {
        try {
            if (!snapshots.empty()) RemoveSnapshotsBelow(mount_, level.directory, snapshots);
            return 0;
        } catch (const Failure& failure) {
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
        levels_.pop_back();
        if (levels_.empty()) return;
        Level& above = levels_.back();
        if (outcome == Outcome::kKept) above.kept.insert(above.names.back());
        above.names.pop_back();
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

    int RemoveTop() {
        try {
            CheckParent("ceph_rmdir", mount_, path_);
        } catch (const Failure& failure) {
            return -failure.error;
        }
        return LIBCEPHFS(ceph_rmdir)(mount_, path_);
    }

    int RemoveDirectory(const Level& level, const std::string& name) {
        return LIBCEPHFS(ceph_ll_rmdir)(mount_, level.directory, name.c_str(), perms());
    }

    const UserPerm* perms() const { return LIBCEPHFS(ceph_mount_perms)(mount_); }

    Mount& mount_;
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
