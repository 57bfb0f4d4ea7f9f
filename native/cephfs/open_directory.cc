#include "cephfs/open_directory.h"

#include <map>

#include "cephfs/path.h"

namespace cephkit {
namespace {

using Names = std::vector<std::string>;

// None, of `/` and `.`.
Names NamesOf(const std::string& path) {
    Names names;
    for (size_t at = 0; at < path.size();) {
        const size_t end = std::min(path.find('/', at), path.size());
        std::string name = path.substr(at, end - at);
        if (!name.empty() && name != ".") names.push_back(std::move(name));
        at = end + 1;
    }
    return names;
}

std::shared_ptr<Handle> Open(Mount& mount, const Path& path) {
    InodeRef directory = RootOf(mount);
    for (const auto& name : NamesOf(path.bytes))
        directory = LookUpDirectory(mount, directory, name);
    return std::make_shared<OpenDirectory>(std::static_pointer_cast<Mount>(mount.shared_from_this()),
                                           std::move(directory));
}

Object Stat(OpenDirectory& directory) {
    struct ceph_statx stat;
    CEPHFS(ceph_ll_getattr, directory.mount(), directory.inode(), &stat, stat_wanted, 0,
           LIBCEPHFS(ceph_mount_perms)(directory.mount()));
    return ToObject(stat);
}

// A directory that is to be there, below the one that is open; without a name it is that one.
struct Wanted {
    Names names;
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
};
using WantedList = std::vector<Wanted>;

constexpr unsigned wanted_stat = CEPH_STATX_MODE | CEPH_STATX_UID | CEPH_STATX_GID;
constexpr uint32_t permissions = 07777;

Object Was(const struct ceph_statx& stat) {
    return {{"uid", stat.stx_uid}, {"gid", stat.stx_gid}, {"mode", uint32_t{stat.stx_mode} & permissions}};
}

// For good: libcephfs keeps the address with a request that an MDS has not made safe, and reads it when it
// sends that again.
gid_t root_group = 0;

// On whose behalf something is made: in root's own directories, too, where its group may write.
class Maker {
public:
    Maker(uint32_t uid, uint32_t gid) : perms_(LIBCEPHFS(ceph_userperm_new)(uid, gid, 1, &root_group)) {}
    Maker(const Maker&) = delete;
    ~Maker() { LIBCEPHFS(ceph_userperm_destroy)(perms_); }
    operator const UserPerm*() const { return perms_; }

private:
    UserPerm* perms_;
};

class Layout {
public:
    explicit Layout(OpenDirectory& base) : mount_(base.mount()), base_(base.inode()) {}

    Object Ensure(const Wanted& wanted) {
        struct ceph_statx stat;
        const auto [inode, made] = FindOrMake(wanted, stat);
        const auto was = Mend(inode, stat, wanted);
        return {{"made", made}, {"was", made ? Value() : was}};
    }

private:
    std::pair<Inode*, bool> FindOrMake(const Wanted& wanted, struct ceph_statx& stat) {
        if (wanted.names.empty()) {
            CEPHFS(ceph_ll_getattr, mount_, base_, &stat, wanted_stat, 0, perms());
            return {base_, false};
        }
        const Names above(wanted.names.begin(), wanted.names.end() - 1);
        Inode* parent = Open(above);
        for (;;) {
            if (Inode* found = Find(parent, wanted.names, stat)) return {found, false};
            // Somebody else may be faster, and then it is found.
            if (Inode* made = Make(parent, wanted, stat)) return {made, true};
        }
    }

    // NULL when there is nothing of that name.
    Inode* Find(Inode* parent, const Names& names, struct ceph_statx& stat) {
        try {
            auto found = LookUp(mount_, parent, names.back(), &stat, wanted_stat);
            if (!S_ISDIR(stat.stx_mode)) throw Failure{"ceph_ll_mkdir", ENOTDIR, names.back()};
            return Known(names, std::move(found));
        } catch (const Failure& failure) {
            if (failure.error == ENOENT) return nullptr;
            throw;
        }
    }

    // NULL when there is something of that name.
    Inode* Make(Inode* parent, const Wanted& wanted, struct ceph_statx& stat) {
        const std::string& name = wanted.names.back();
        Inode* made = nullptr;
        const auto make = [&](const UserPerm* maker) {
            return LIBCEPHFS(ceph_ll_mkdir)(mount_, parent, name.c_str(), wanted.mode, &made, &stat,
                                            wanted_stat, AT_SYMLINK_NOFOLLOW, maker);
        };
        // By its owner-to-be, where root may say so: it takes a request less than to give it away.
        int result = mount_.is_root() ? make(Maker(wanted.uid, wanted.gid)) : -EACCES;
        if (result == -EACCES) result = make(perms());
        if (result == -EEXIST) return nullptr;
        Check("ceph_ll_mkdir", result, result < 0 ? name : "");
        return Known(wanted.names, {mount_, made});
    }

    // What it was, if it was not as wanted.
    Value Mend(Inode* inode, const struct ceph_statx& stat, const Wanted& wanted) {
        const bool owned = stat.stx_uid == wanted.uid && stat.stx_gid == wanted.gid;
        const bool permitted = (stat.stx_mode & permissions) == wanted.mode;
        if (owned && permitted) return {};
        struct ceph_statx change = {};
        change.stx_uid = wanted.uid;
        change.stx_gid = wanted.gid;
        change.stx_mode = wanted.mode;
        // The mode, too: a change of the owner alone takes some of it away.
        const int mask = (owned ? 0 : CEPH_SETATTR_UID | CEPH_SETATTR_GID) | CEPH_SETATTR_MODE;
        CEPHFS(ceph_ll_setattr, mount_, inode, &change, mask, perms());
        return Was(stat);
    }

    Inode* Open(const Names& names) {
        if (names.empty()) return base_;
        const auto known = known_.find(names);
        if (known != known_.end()) return known->second;
        Inode* parent = Open(Names(names.begin(), names.end() - 1));
        return Known(names, LookUpDirectory(mount_, parent, names.back()));
    }

    Inode* Known(const Names& names, InodeRef inode) {
        return known_.emplace(names, std::move(inode)).first->second;
    }

    const UserPerm* perms() const { return LIBCEPHFS(ceph_mount_perms)(mount_); }

    Mount& mount_;
    Inode* base_;
    std::map<Names, InodeRef> known_;
};

Array Ensure(OpenDirectory& base, const WantedList& list) {
    Layout layout(base);
    Array results;
    for (const auto& wanted : list)
        results.push_back(layout.Ensure(wanted));
    return results;
}

}  // namespace

template <>
struct Parameter<const WantedList&> : PlainParameter<WantedList> {
    static WantedList Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsArray()) throw arguments.Expected("an array");
        const auto array = value.As<Napi::Array>();
        WantedList list;
        for (uint32_t i = 0; i < array.Length(); i++) {
            const Napi::Value each = array.Get(i);
            if (!each.IsObject()) throw arguments.Expected("an array of objects");
            const auto object = each.As<Napi::Object>();
            list.push_back({NamesOf(ToCString(arguments, object.Get("path"))),
                            Number(arguments, object, "uid"), Number(arguments, object, "gid"),
                            Number(arguments, object, "mode")});
        }
        return list;
    }

private:
    static uint32_t Number(const Arguments& arguments, const Napi::Object& object, const char* key) {
        const Napi::Value value = object.Get(key);
        if (!value.IsNumber()) throw arguments.Expected("an array of objects with uid, gid and mode");
        return value.As<Napi::Number>().Uint32Value();
    }
};

void InitOpenDirectory(Exports& exports) {
    exports.Blocking<Open>("directoryHold");
    exports.Blocking<Stat>("directoryStat");
    exports.Blocking<Ensure>("directoryEnsure");
}

}  // namespace cephkit
