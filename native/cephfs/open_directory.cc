#include "cephfs/open_directory.h"

#include <map>

#include "cephfs/file.h"
#include "cephfs/path.h"

namespace cephkit {
namespace {

using Names = std::vector<std::string>;

Names NamesOf(const std::string& path) {
    Names names;
    for (size_t at = 0; at < path.size();) {
        const size_t end = std::min(path.find('/', at), path.size());
        if (end > at) names.push_back(path.substr(at, end - at));
        at = end + 1;
    }
    return names;
}

class Descriptor {
public:
    Descriptor(ceph_mount_info* mount, int fd) : mount_(mount), fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : mount_(other.mount_), fd_(other.Take()) {}
    ~Descriptor() {
        if (fd_ >= 0) LIBCEPHFS(ceph_close)(mount_, fd_);
    }
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }

    int fd() const { return fd_; }
    int Take() { return std::exchange(fd_, -1); }

private:
    ceph_mount_info* mount_;
    int fd_;
};

Descriptor OpenBelow(ceph_mount_info* mount, int parent, const std::string& name) {
    const int fd = LIBCEPHFS(ceph_openat)(mount, parent, name.c_str(), directory_flags, 0);
    return {mount, Check("ceph_openat", IfDirectory(mount, fd), name)};
}

std::shared_ptr<Handle> Open(Mount& mount, const Path& path) {
    Descriptor directory(mount, CEPHFS(ceph_open, mount, "/", directory_flags, 0));
    for (const auto& name : NamesOf(path.bytes))
        directory = OpenBelow(mount, directory.fd(), name);
    auto file =
        std::make_shared<File>(std::static_pointer_cast<Mount>(mount.shared_from_this()), directory.Take());
    file->is_directory = true;
    return file;
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

class Layout {
public:
    explicit Layout(File& base) : mount_(base.mount()), base_(base.fd()) {}

    Object Ensure(const Wanted& wanted) {
        if (wanted.names.empty()) return EnsureBase(wanted);
        const Names above(wanted.names.begin(), wanted.names.end() - 1);
        const std::string& name = wanted.names.back();
        const int parent = Open(above);
        bool made = false;
        struct ceph_statx stat;
        while (!Look(parent, name, stat)) {
            const int result = LIBCEPHFS(ceph_mkdirat)(mount_, parent, name.c_str(), wanted.mode);
            // Somebody else may have been faster.
            if (result != -EEXIST) made = Check("ceph_mkdirat", result, name) == 0;
        }
        if (!S_ISDIR(stat.stx_mode)) throw Failure{"ceph_mkdirat", ENOTDIR, name};
        const auto was = Mend(
            stat, wanted,
            [&] {
                CEPHFS(ceph_chownat, mount_, parent, name.c_str(), wanted.uid, wanted.gid,
                       AT_SYMLINK_NOFOLLOW);
            },
            [&] { CEPHFS(ceph_chmodat, mount_, parent, name.c_str(), wanted.mode, AT_SYMLINK_NOFOLLOW); });
        return {{"made", made}, {"was", made ? Value() : was}};
    }

private:
    Object EnsureBase(const Wanted& wanted) {
        struct ceph_statx stat;
        CEPHFS(ceph_fstatx, mount_, base_, &stat, wanted_stat, 0);
        const auto was = Mend(
            stat, wanted, [&] { CEPHFS(ceph_fchown, mount_, base_, wanted.uid, wanted.gid); },
            [&] { CEPHFS(ceph_fchmod, mount_, base_, wanted.mode); });
        return {{"made", false}, {"was", was}};
    }

    // False when there is nothing of that name.
    bool Look(int parent, const std::string& name, struct ceph_statx& stat) {
        const int result =
            LIBCEPHFS(ceph_statxat)(mount_, parent, name.c_str(), &stat, wanted_stat, AT_SYMLINK_NOFOLLOW);
        if (result == -ENOENT) return false;
        Check("ceph_statxat", result, name);
        return true;
    }

    // What it was, if it was not as wanted. The mode comes last: a change of the owner takes some of it away.
    template <typename Chown, typename Chmod>
    static Value Mend(const struct ceph_statx& stat, const Wanted& wanted, Chown chown, Chmod chmod) {
        const bool owned = stat.stx_uid == wanted.uid && stat.stx_gid == wanted.gid;
        const bool permitted = (stat.stx_mode & permissions) == wanted.mode;
        if (!owned) chown();
        if (!permitted || (!owned && (wanted.mode & (S_ISUID | S_ISGID)) != 0)) chmod();
        return owned && permitted ? Value() : Value(Was(stat));
    }

    int Open(const Names& names) {
        if (names.empty()) return base_;
        const auto known = opened_.find(names);
        if (known != opened_.end()) return known->second.fd();
        const int parent = Open(Names(names.begin(), names.end() - 1));
        return opened_.emplace(names, OpenBelow(mount_, parent, names.back())).first->second.fd();
    }

    ceph_mount_info* mount_;
    int base_;
    std::map<Names, Descriptor> opened_;
};

Array Ensure(File& base, const WantedList& list) {
    Layout layout(base);
    Array results;
    for (const auto& wanted : list)
        results.push_back(layout.Ensure(wanted));
    return results;
}

}  // namespace

int IfDirectory(ceph_mount_info* mount, int fd) {
    if (fd < 0) return fd;
    // Of what is known without asking.
    struct ceph_statx stat;
    const int result = LIBCEPHFS(ceph_fstatx)(mount, fd, &stat, CEPH_STATX_MODE, AT_NO_ATTR_SYNC);
    if (result == 0 && S_ISDIR(stat.stx_mode)) return fd;
    LIBCEPHFS(ceph_close)(mount, fd);
    return result < 0 ? result : -ENOTDIR;
}

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
    exports.Blocking<Ensure>("fileEnsureDirectories");
}

}  // namespace cephkit
